"""Safety checks of a folder that TFDS prepared, made before TFDS reads it.

Its features.json names classes, and TFDS imports their modules (`FeatureConnector.cls_from_name` of
`tensorflow_datasets/core/features/feature.py`). It and dataset_info.json contain file names, which may lead anywhere.
The header of a record contains its length; TensorFlow allocates that much memory, or ends the process if it cannot
(https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details).
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wing_jax.errors import InputError
from wing_jax.runtime.files import find_files, open_bytes, read_text, reject_outside_links
from wing_jax.text import quoted, reason

LARGEST = 1 << 24  # bytes of a JSON file
CLASSES = "tensorflow_datasets.core.features."
CLASS_KEYS = ("pythonClassName", "python_class_name", "type")  # in protobuf's JSON, and in TFDS before 4.5
FILE_KEYS = ("name", "filepathTemplate", "filepath_template", "configName", "config_name")


def reject_hostile_folder(folder: Path) -> None:
    """Check the JSON files and links at or below `folder`, which TFDS prepared. A missing folder is not an error.

    Raises:
      InputError: a link leads out of the folder, or a JSON file names code or files outside of it.
    """
    reject_outside_links(folder)
    for path in find_files(folder, "**/features.json"):
        for key, value in _read(path):
            if key in CLASS_KEYS and not value.startswith(CLASSES):
                raise InputError(
                    f"{path}: {quoted(value)} is not a class of TFDS, so it is not imported: prepare the data set again"
                )
            if key == "" and _contains_separator(value):
                raise InputError(
                    f"{path}: the name {quoted(value)} points outside the folder: prepare the data set again"
                )
    for path in find_files(folder, "**/dataset_info.json"):
        for key, value in _read(path):
            if key in FILE_KEYS and _contains_separator(value):
                raise InputError(f"{path}: {key} {quoted(value)} points outside the folder: prepare the data set again")


def reject_false_lengths(path: Path) -> None:
    """Check the lengths in the headers of the records in the TFRecord file `path`.

    Raises:
      InputError: a record is longer than the file, or the file cannot be read.
    """
    try:
        with open_bytes(path) as file:
            size, offset = os.fstat(file.fileno()).st_size, 0
            while offset < size:
                file.seek(offset)
                offset += (
                    8 + 4 + int.from_bytes(file.read(8), "little") + 4
                )  # length, its checksum, data, their checksum
    except OSError as error:
        raise InputError(f"{path}: cannot read this file ({error.strerror}): prepare the data set again") from error
    if offset > size:
        raise InputError(
            f"{path}: a record is longer than the file: it is truncated or altered: prepare the data set again"
        )


def _read(path: Path) -> list[tuple[str, str]]:
    try:
        return list(_iterate_strings(json.loads(read_text(path, largest=LARGEST))))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot read this JSON file ({reason(error)}): prepare the data set again") from error


def _iterate_strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield each string with its key, and each key with "". JSON within JSON (`JsonFeature`) is parsed too."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield "", name
            yield from _iterate_strings(json.loads(inner) if name == "json" and isinstance(inner, str) else inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _iterate_strings(inner, key)
    elif isinstance(value, str):
        yield key, value


def _contains_separator(name: str) -> bool:
    return "/" in name or "\\" in name

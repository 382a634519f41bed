"""What a folder that TFDS prepared may say, looked at before TFDS believes it.

Its features.json names classes, and TFDS imports the modules that they would be in (`FeatureConnector.cls_from_name` of
`tensorflow_datasets/core/features/feature.py`); it and dataset_info.json give names of files, which may lead anywhere;
the head of a record says how long it is, and TensorFlow takes that much memory, or ends the process where there is less
(https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details).
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wing_jax.errors import InputError
from wing_jax.runtime.files import find_files, open_bytes, read_text, refuse_ways_out
from wing_jax.text import quoted, reason

LARGEST = 1 << 24  # bytes of a description
CLASSES = "tensorflow_datasets.core.features."
CLASS_KEYS = ("pythonClassName", "python_class_name", "type")  # of protobuf's JSON, and of TFDS before 4.5
FILE_KEYS = ("name", "filepathTemplate", "filepath_template", "configName", "config_name")


def refuse_hostile_folder(folder: Path) -> None:
    """Look through what TFDS prepared at or below `folder`; where there is no such folder, nothing is done.

    Raises:
      InputError: a link leads out of it, or a description names code or files that are elsewhere.
    """
    refuse_ways_out(folder)
    for path in find_files(folder, "**/features.json"):
        for key, said in _read(path):
            if key in CLASS_KEYS and not said.startswith(CLASSES):
                raise InputError(
                    f"{path}: {quoted(said)} is code from elsewhere, and is not imported: prepare it again"
                )
            if key == "" and _leads_away(said):
                raise InputError(f"{path}: the name {quoted(said)} leads out of the folder: prepare it again")
    for path in find_files(folder, "**/dataset_info.json"):
        for key, said in _read(path):
            if key in FILE_KEYS and _leads_away(said):
                raise InputError(f"{path}: {key} {quoted(said)} leads out of the folder: prepare it again")


def refuse_false_lengths(path: Path) -> None:
    """Go along the heads of the records in the TFRecord file `path`.

    Raises:
      InputError: one tells of more than the file holds, or the file cannot be read.
    """
    try:
        with open_bytes(path) as file:
            size, at = os.fstat(file.fileno()).st_size, 0
            while at < size:
                file.seek(at)
                at += 8 + 4 + int.from_bytes(file.read(8), "little") + 4  # length, its digest, data, their digest
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): prepare it again") from error
    if at > size:
        raise InputError(f"{path}: a record is longer than the file: it is cut short or altered: prepare it again")


def _read(path: Path) -> list[tuple[str, str]]:
    try:
        return list(_strings(json.loads(read_text(path, largest=LARGEST))))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no JSON that can be read ({reason(error)}): prepare it again") from error


def _strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Each string by its key, and the keys themselves by "". What is JSON within JSON (`JsonFeature`) is opened."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield "", name
            yield from _strings(json.loads(inner) if name == "json" and isinstance(inner, str) else inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner, key)
    elif isinstance(value, str):
        yield key, value


def _leads_away(name: str) -> bool:
    return "/" in name or "\\" in name

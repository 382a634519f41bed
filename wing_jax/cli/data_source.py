"""The data set that an action of `wing-jax data` is about."""

import dataclasses
import sys
from collections.abc import Iterator
from typing import Annotated, Literal

import tyro

from wing_jax.config import DataName
from wing_jax.data import formats
from wing_jax.data.load import load_faces, splits_of
from wing_jax.data.records import FaceSet
from wing_jax.errors import InputError
from wing_jax.text import quoted


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """The data set in DIR, and how to read it."""

    root: Annotated[str, tyro.conf.Positional]  # folder, or an .xml, .json or .csv file
    format: Literal["auto"] | DataName = "auto"  # auto: told by the files
    scheme: str = ""  # of your own data: a TOML file, or a published scheme's name
    boxes: str = "given"  # or by another rule of `wing_jax.data.boxes`


def splits_in(options: Source) -> Iterator[tuple[str, FaceSet, list[str]]]:
    """(name, faces, faults) of the splits that are there."""
    name = formats.detect(options.root) if options.format == "auto" else options.format
    complaints: list[str] = []
    found = False
    for split in splits_of(name, options.root):
        faults: list[str] = []
        try:
            faces = load_faces(
                name, split, root=options.root, scheme=options.scheme, boxes=options.boxes, faults=faults
            )
        except InputError as error:
            complaints.append(f"split {quoted(split)}: {error}")
            continue
        found = True
        yield split, faces, faults
    if not found:
        raise InputError(complaints[0])
    for complaint in complaints:
        print(f"not there, or not readable: {complaint}", file=sys.stderr)

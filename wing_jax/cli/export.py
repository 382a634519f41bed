"""`wing-jax export MODEL --to FORMAT`"""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from wing_jax.cli.data_source import faces_to_draw
from wing_jax.cli.model import find_model, refuse_hiding
from wing_jax.cli.options import parse
from wing_jax.data.load import load_faces
from wing_jax.errors import InputError
from wing_jax.export import EXPORTS, crops_of, export, halve
from wing_jax.inference.localizer import Localizer
from wing_jax.schemes import get_conversion
from wing_jax.text import printable, quoted


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Write each stage's network of MODEL for another runtime, with a model.json that says what lies between the
    stages; or MODEL itself in float16 (half). What was written is read again and compared with JAX on faces."""

    model: Annotated[str, tyro.conf.Positional]
    to: str  # half, or a registered format: onnx, saved-model, tflite, tflite-half, stablehlo, or one of your own
    output: str = ""  # folder; empty: TO in MODEL's own (in runs/packaged/NAME for a model of the package)
    data: str = "synthetic"  # the faces to compare on: drawn ones need no data
    root: str = ""  # of the data, where they are not built in
    images: str = ""  # folder of the pictures that a list (COCO, imglab, CSV) names; empty: where the list tells
    scheme: str = ""  # of your own data: a TOML file, or a published scheme's name
    split: str = "test"


def run(arguments: list[str]) -> None:
    """Export, and say how close the runtimes are."""
    options = parse(ExportOptions, arguments, command="export")
    place = find_model(options.model)
    if options.to == "half":
        refuse_hiding(options.output)
    elif options.to not in EXPORTS:
        raise InputError(f"--to {quoted(options.to)}: use half or one of {', '.join(EXPORTS)}")
    localizer = Localizer.load(place.folder)
    faces = load_faces(
        options.data,
        options.split,
        root=options.root,
        images=options.images,
        scheme=options.scheme,
        count=faces_to_draw(options.data, 0, usual=32),
    )
    if len(localizer.stages) > 1 and faces.scheme.name != localizer.scheme.name:
        try:
            conversion = get_conversion(faces.scheme, localizer.scheme)
        except ValueError as error:
            raise InputError(
                f"{options.model} marks {localizer.scheme.name}, {faces.name} does not: give --data that does"
            ) from error
        points, visible = conversion.points(faces.points), conversion.visible(faces.visible)
        faces = dataclasses.replace(faces, scheme=localizer.scheme, points=points, visible=visible)
    folder, crops = Path(options.output or place.outputs / options.to), crops_of(localizer, faces)
    if options.to == "half":
        for number, done in enumerate(halve(localizer, folder, crops), 1):
            where = printable(str(done.path))
            print(f"{where}: float16; stage {number} is within {done.difference:.2g} px of float32")
        return
    form = EXPORTS[options.to]
    for done in export(localizer, options.to, folder, crops):
        where = printable(str(done.path))
        print(f"{where}: {form.title}, {form.batch}; {form.runtime} is within {done.difference:.2g} px of JAX")
    where = printable(str(folder / "model.json"))
    print(f"{where}: the crops, the boxes and the mean shape that lie between the stages")

"""The command `wing-jax export MODEL --to FORMAT`."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from wing_jax.cli.data_source import faces_to_draw
from wing_jax.cli.model import find_model, reject_hiding
from wing_jax.cli.options import parse
from wing_jax.data.load import convert_points, load_faces
from wing_jax.errors import InputError
from wing_jax.export import EXPORTS, export, halve, make_crops
from wing_jax.inference.localizer import Localizer
from wing_jax.text import printable, quoted


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Write the network of each stage of MODEL for another runtime, or MODEL itself in float16 (half).

    A model.json describes the computation between the stages. The files are read back and compared with JAX.
    """

    # a pretrained model (mtfl, w300) or the folder of a trained model
    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    to: str  # onnx, saved-model, tflite, tflite-half, stablehlo, another registered format, or half (float16)
    output: str = ""  # folder; empty: the folder TO in MODEL (in runs/packaged/NAME for a pretrained model)
    data: str = "synthetic"  # the data set whose faces the exported files are checked on; synthetic needs no files
    root: str = ""  # the folder or file of the data set
    # folder of the pictures that an annotation file (COCO, imglab, CSV) names; empty: the paths in that file
    images: str = ""
    scheme: str = ""  # landmark scheme of your own data: a TOML file, or the name of a published scheme
    split: str = "test"  # the split of the data set
    covariance: bool = False  # also export how sure the last network is of each landmark


def run(arguments: list[str]) -> None:
    """Export the model, and print how far the other runtime's points are from JAX's."""
    options = parse(ExportOptions, arguments, command="export")
    place = find_model(options.model)
    if options.to == "half":
        reject_hiding(options.output)
        if options.covariance:
            raise InputError("--covariance: --to half writes the complete model, which has it: leave out --covariance")
    elif options.to not in EXPORTS:
        raise InputError(f"--to {quoted(options.to)}: use half or one of {', '.join(EXPORTS)}")
    localizer = Localizer.load(place.folder)
    faces = load_faces(
        options.data,
        options.split,
        root=options.root,
        images=options.images,
        scheme=options.scheme,
        count=faces_to_draw(options.data, 0, default=32),
    )
    if len(localizer.stages) > 1 and faces.scheme.name != localizer.scheme.name:
        try:
            faces = convert_points(faces, localizer.scheme)
        except InputError as error:
            raise InputError(
                f"{faces.name}: its points cannot be converted to {localizer.scheme.name} of {options.model}: "
                f"pass another --data"
            ) from error
    folder, crops = Path(options.output or place.outputs / options.to), make_crops(localizer, faces)
    if options.to == "half":
        for number, exported in enumerate(halve(localizer, folder, crops), 1):
            path = printable(str(exported.path))
            print(f"{path}: float16; stage {number} is within {exported.difference:.2g} px of float32")
        return
    format_ = EXPORTS[options.to]
    for exported in export(localizer, options.to, folder, crops, covariance=options.covariance):
        path = printable(str(exported.path))
        print(
            f"{path}: {format_.title}, {format_.batch}; {format_.runtime} is within {exported.difference:.2g} px of JAX"
        )
    path = printable(str(folder / "model.json"))
    print(f"{path}: the crops, boxes and mean shape between the stages")

"""The command `wing-jax calibrate MODEL --data NAME`."""

import dataclasses
from typing import Annotated

import tyro

from wing_jax.cli.data_source import DataOptions
from wing_jax.cli.evaluate import HELD_OUT, EvaluateOptions, faces_of
from wing_jax.cli.model import find_model, folder_of_copy
from wing_jax.cli.options import parse
from wing_jax.config import LARGEST_SEED
from wing_jax.evaluation import calibrate
from wing_jax.inference.localizer import Localizer
from wing_jax.runtime.parameters import check_range
from wing_jax.text import counted, printable


@dataclasses.dataclass(frozen=True, kw_only=True)
class CalibrateOptions(DataOptions):
    """Fit how sure MODEL's landmarks are, and save this in the model.

    The faces must not be those that MODEL was trained on: by default they are those that its training held out.
    Predictions then have a spread and a confidence for each landmark, and say which faces are valid.
    """

    # a pretrained model (w300) or the folder of a trained model, whose last network is a voting network
    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    split: str = HELD_OUT  # the split of the data set, or held_out: the faces that the training held out
    faces: int = 0  # number of faces (only --data synthetic); 0: 500, or as many as the training held out
    output: str = ""  # folder of the calibrated model; empty: MODEL
    seed: int = 0  # random seed of the changes


def run(arguments: list[str]) -> None:
    """Calibrate, save, and print the folder of the model."""
    options = parse(CalibrateOptions, arguments, command="calibrate")
    check_range(options, seed=(0, LARGEST_SEED))
    place = find_model(options.model)
    folder, localizer = folder_of_copy(place, options.output), Localizer.load(place.folder)
    shared = {field.name: getattr(options, field.name) for field in dataclasses.fields(DataOptions)}
    faces, remarks = faces_of(EvaluateOptions(model=options.model, faces=options.faces, **shared), localizer, place)
    for remark in remarks:
        print(printable(remark))
    calibrated = calibrate(localizer, faces, seed=options.seed)
    print(printable(f"calibrated on {counted(len(faces), 'face')} of {faces.name}: {calibrated.save(folder)}"))

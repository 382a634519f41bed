"""The command `wing-jax predict MODEL IMAGE|FOLDER|VIDEO...`, or `--camera 0`."""

import dataclasses
import sys
from pathlib import Path

from wing_jax.cli.model import find_model
from wing_jax.cli.options import parse
from wing_jax.cli.predict_inputs import gather_inputs
from wing_jax.cli.predict_names import plan_photos, plan_videos
from wing_jax.cli.predict_options import PredictOptions, check_boxes
from wing_jax.cli.predict_photos import predict_photos
from wing_jax.cli.predict_tally import Tally
from wing_jax.cli.predict_video import check_options, follow
from wing_jax.errors import InputError
from wing_jax.inference.face_files import check_output_folder
from wing_jax.inference.localizer import Localizer
from wing_jax.runtime.console import make_console, say


def run(arguments: list[str]) -> None:
    """Predict, write the files and print their paths.

    An input that fails is reported on standard error, and the others are processed. The exit status is 1 if some inputs
    failed, and 2 if all did.
    """
    options = parse(PredictOptions, arguments, command="predict")
    if not options.images and options.camera < 0:
        raise InputError("no input: use wing-jax predict MODEL IMAGE|FOLDER|VIDEO..., or --camera 0")
    inputs, folder, tally = gather_inputs(options.images), Path(options.output), Tally()
    sources = (*inputs.videos, *([options.camera] if options.camera >= 0 else []))
    check_boxes(options)
    if sources:
        check_options(options)
    check_output_folder((*inputs.photos, *inputs.videos), folder, name=f"--output {folder}")
    for fault in inputs.faults:
        tally.fail(fault)
    if inputs.photos or sources:
        localizer = dataclasses.replace(
            Localizer.load(find_model(options.model).folder),
            flip_average=options.flip_average,
            retry_invalid=options.retry_invalid,
        )
        console = make_console()
        for line in (localizer.describe(), *inputs.notes):
            say(console, line)
        if inputs.photos:
            predict_photos(plan_photos(inputs.photos, folder), localizer, options, console, tally)
        for source, stem in zip(sources, plan_videos(sources, folder, photos=bool(inputs.photos)), strict=True):
            try:
                follow(source, localizer, options, console, stem=stem)
                tally.done += 1
            except InputError as error:
                tally.fail(error)
        if sources and tally.failed and tally.inputs > 1:
            say(console, f"{tally.failed} of {tally.inputs} inputs failed")
    if tally.status:
        sys.exit(tally.status)

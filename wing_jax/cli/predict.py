"""`wing-jax predict MODEL IMAGE|FOLDER|VIDEO...`, or `--camera 0`"""

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
from wing_jax.inference.face_files import refuse_place
from wing_jax.inference.localizer import Localizer
from wing_jax.runtime.console import make_console, say


def run(arguments: list[str]) -> None:
    """Predict, write the files and say where they are. Each input that cannot be done is named on standard error, the
    others are done, and the status is 1; it is 2 where none can be done."""
    options = parse(PredictOptions, arguments, command="predict")
    if not options.images and options.camera < 0:
        raise InputError("no image given: wing-jax predict MODEL IMAGE|FOLDER|VIDEO..., or --camera 0")
    given, folder, tally = gather_inputs(options.images), Path(options.output), Tally()
    sources = (*given.videos, *([options.camera] if options.camera >= 0 else []))
    check_boxes(options)
    if sources:
        check_options(options)
    refuse_place((*given.photos, *given.videos), folder, name=f"--output {folder}")
    for fault in given.faults:
        tally.fail(fault)
    if given.photos or sources:
        localizer = dataclasses.replace(Localizer.load(find_model(options.model).folder), flip_average=options.flip)
        console = make_console()
        for line in (localizer.describe(), *given.notes):
            say(console, line)
        if given.photos:
            predict_photos(plan_photos(given.photos, folder), localizer, options, console, tally)
        for source, stem in zip(sources, plan_videos(sources, folder, photos=bool(given.photos)), strict=True):
            try:
                follow(source, localizer, options, console, stem=stem)
                tally.done += 1
            except InputError as error:
                tally.fail(error)
        if sources and tally.failed and tally.inputs > 1:
            say(console, f"{tally.failed} of {tally.inputs} inputs could not be done")
    if tally.status:
        sys.exit(tally.status)

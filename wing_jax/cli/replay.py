"""The command `wing-jax replay RECORD`."""

import dataclasses
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.table import Table
from rich.text import Text

from wing_jax.cli.options import parse
from wing_jax.geometry import rescale_points
from wing_jax.runtime.console import make_console, say
from wing_jax.text import printable


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Repeat a training step that diverged, and show its faces, their losses and its gradient."""

    # the file diverged-STEP.json in the folder of a training run
    record: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RECORD")]
    rows: int = 12  # how many faces to print and draw, the worst first


def run(arguments: list[str]) -> None:
    """Print two tables, and draw the worst faces beside the record."""
    options = parse(Options, arguments, command="replay")
    from wing_jax.from_config.replay import replay
    from wing_jax.report.draw import contact_sheet, draw_pair, write_png

    replayed = replay(options.record)
    console = make_console()
    say(console, f"{replayed.title}: {replayed.message}; repeated from the checkpoint of step {replayed.checkpoint}")
    worst = replayed.worst[: options.rows]
    faces = Table("loss", "largest error, pixels of the crop", "picture")
    for index in worst:
        errors = np.linalg.norm(replayed.predicted[index] - replayed.points[index], axis=-1)
        error = errors[replayed.visible[index]].max(initial=0)
        faces.add_row(f"{replayed.losses[index]:.4g}", f"{error:.4g}", Text(printable(replayed.pictures[index])))
    console.print(faces)
    gradients = Table("gradient's norm", "parameter")
    for name, norm in sorted(replayed.gradients.items(), key=lambda pair: -np.nan_to_num(pair[1], nan=np.inf)):
        gradients.add_row(f"{norm:.4g}", Text(name))
    console.print(gradients)
    zoom = max(1, 256 // replayed.images.shape[1])
    tiles = [
        draw_pair(
            replayed.images[index].repeat(zoom, 0).repeat(zoom, 1),
            rescale_points(replayed.points[index], float(zoom)),
            rescale_points(replayed.predicted[index], float(zoom)),
            visible=replayed.visible[index],
        )
        for index in worst
    ]
    captions = [f"{replayed.losses[index]:.4g}  {Path(replayed.pictures[index]).name}" for index in worst]
    say(console, f"figure: {write_png(Path(options.record).with_suffix('.png'), contact_sheet(tiles, captions))}")

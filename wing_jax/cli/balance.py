"""`wing-jax balance NAME`"""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from jaxtyping import Bool, Float
from rich.console import Console

from wing_jax import balance
from wing_jax.cli.options import parse
from wing_jax.data.aflw_shapes import read_aflw_shapes
from wing_jax.data.load import find_data, load_faces
from wing_jax.report.plots import save_figure
from wing_jax.report.pose import pose_figure
from wing_jax.schemes import Scheme


@dataclasses.dataclass(frozen=True, kw_only=True)
class BalanceOptions:
    """Find the pose axis of a data set; print and plot its histogram before and after HSM."""

    data: Annotated[Literal["builtin", "w300", "mtfl", "aflw", "aflw-shapes"], tyro.conf.Positional]
    root: str = ""  # the data set's folder; empty: below WING_JAX_DATA or ../shared/data
    faces: int = 2000  # built-in faces to draw (builtin alone)
    bins: int = 9  # of |coefficient|
    cap: int = 20  # at most so many copies of a face
    output: str = "runs/balance"  # folder of the figure


def run(arguments: list[str]) -> None:
    """Print the axis, its correlation with annotated yaw and the histogram; write the figure."""
    options = parse(BalanceOptions, arguments, command="balance")
    points, visible, scheme, yaw = _shapes(options)
    model = balance.pose_axis(points, visible, flip_permutation=scheme.flip)
    counts = balance.duplication_counts(np.abs(model.coefficients), bins=options.bins, cap=options.cap)
    histogram = balance.pose_histogram(np.abs(model.coefficients), counts, bins=options.bins)
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"{len(points)} faces; pose is axis {model.index + 1}, {model.shares[model.index]:.0%} of the variance"
    )
    for number, correlation in enumerate(model.correlations, 1):
        console.print(f"  axis {number}: correlation with the left-right asymmetry {correlation:.3f}")
    if yaw is not None:
        correlation = balance.correlation_with_yaw(model.coefficients, yaw)
        console.print(
            f"correlation of the coefficient with the annotated yaw: {correlation.pearson:.3f} "
            f"(of ranks {correlation.spearman:.3f})"
        )
    console.print(histogram.table())
    path = save_figure(pose_figure(model, counts, lines=scheme.lines), Path(options.output) / f"{options.data}.png")
    console.print(f"figure: {path}")


def _shapes(
    options: BalanceOptions,
) -> tuple[
    Float[np.ndarray, "n points 2"],
    Bool[np.ndarray, "n points"],
    Scheme,
    Float[np.ndarray, "n"] | None,
]:
    """(points, visible, scheme, annotated yaw or the number of the pose class)."""
    if options.data == "aflw-shapes":
        return read_aflw_shapes(Path(options.root) if options.root else find_data("aflw_shapes"))
    faces = load_faces(options.data, "train", root=options.root, count=options.faces)
    yaw = None if faces.poses is None else np.array([float(pose.split()[0]) for pose in faces.poses])
    return faces.points, faces.visible, faces.scheme, yaw

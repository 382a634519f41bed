"""The command `wing-jax data stats PATH`: count attributes, and poses before and after HSM."""

import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from wing_jax import balance
from wing_jax.cli.data_source import PathOptions, faces_to_draw
from wing_jax.cli.options import parse
from wing_jax.config import LARGEST_BINS
from wing_jax.data.face_set import FaceSet
from wing_jax.data.load import find_data
from wing_jax.data.readers.aflw_shapes import read_aflw_shapes
from wing_jax.errors import InputError
from wing_jax.report.plots import save_figure
from wing_jax.report.pose import pose_figure
from wing_jax.runtime.console import make_console, say
from wing_jax.runtime.parameters import check_range
from wing_jax.schemes import Scheme


@dataclasses.dataclass(frozen=True, kw_only=True)
class StatsOptions(PathOptions):
    """Count the attributes of the faces in PATH, and compute their pose axis.

    The poses before and after HSM are printed and plotted. `--data aflw-shapes` reads the landmarks of 3DDFA's AFLW
    lists, which have no pictures.
    """

    split: str = ""  # empty: the first split of the data set
    faces: int = 0  # number of faces (only --data synthetic); 0: 2,000
    bins: int = 9  # number of bins of the absolute pose coefficient
    cap: int = 20  # balancing (HSM) makes at most this many copies of a face
    output: str = "runs/poses.png"  # file of the plot


def stats(arguments: list[str]) -> None:
    """Print the attributes, the pose axis, its correlation with the annotated yaw and the histogram; save the plot."""
    options = parse(StatsOptions, arguments, command="data stats")
    check_range(options, bins=(1, LARGEST_BINS), cap=(1, 1_000_000))
    settings = {"bins": options.bins, "cap": options.cap, "figure": Path(options.output)}
    if options.data == "aflw-shapes":
        root = options.path or options.root
        report_poses(*read_aflw_shapes(Path(root) if root else find_data("aflw_shapes")), **settings)
        return
    count = faces_to_draw(options.resolve().data, options.faces, default=2000)
    faces = options.one_split(count=count)
    console = make_console()
    for name, values in faces.attributes.items():
        say(console, f"{name}: {int(values.sum())} of {len(faces)} faces")
    report_poses(faces.points, faces.visible, faces.scheme, yaw_of(faces), **settings)


def yaw_of(faces: FaceSet) -> Float[np.ndarray, "n"] | None:
    """Return the annotated yaw in degrees, or else the number of the pose class, or None."""
    if faces.angles is not None and np.isfinite(faces.angles[:, 0]).all():
        return faces.angles[:, 0].astype(np.float64)
    return None if faces.poses is None else np.array([float(pose.split()[0]) for pose in faces.poses])


def report_poses(
    points: Float[np.ndarray, "n points 2"],
    visible: Bool[np.ndarray, "n points"],
    scheme: Scheme,
    yaw: Float[np.ndarray, "n"] | None,
    *,
    bins: int,
    cap: int,
    figure: Path,
) -> None:
    """Print the poses before and after HSM, and plot them to the file `figure`.

    Raises:
      InputError: the faces are too few or too similar to compute a pose axis.
    """
    try:
        model = balance.pose_axis(points, visible, flip_permutation=scheme.flip)
    except ValueError as error:
        raise InputError(f"cannot compute a pose axis: {error}") from error
    counts = balance.duplication_counts(np.abs(model.coefficients), bins=bins, cap=cap)
    histogram = balance.pose_histogram(np.abs(model.coefficients), counts, bins=bins)
    console = make_console()
    console.print(
        f"{len(points)} faces; the pose axis is principal axis {model.index + 1}, with "
        f"{model.shares[model.index]:.0%} of the variance"
    )
    for number, correlation in enumerate(model.correlations, 1):
        console.print(f"  axis {number}: correlation with the left-right asymmetry {correlation:.3f}")
    if yaw is not None:
        correlation = balance.correlation_with_yaw(model.coefficients, yaw)
        console.print(
            f"correlation of the coefficient with the annotated yaw: {correlation.pearson:.3f} "
            f"(ranks: {correlation.spearman:.3f})"
        )
    console.print(histogram.table())
    say(console, f"figure: {save_figure(pose_figure(model, counts, lines=scheme.lines), figure)}")

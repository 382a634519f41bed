"""`wing-jax balance NAME`"""

import dataclasses
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from jaxtyping import Bool, Float

from wing_jax import balance
from wing_jax.cli.data_source import faces_to_draw
from wing_jax.cli.options import parse
from wing_jax.config import LARGEST_BINS, check_range
from wing_jax.data.face_set import FaceSet
from wing_jax.data.load import find_data, load_faces
from wing_jax.data.readers.aflw_shapes import read_aflw_shapes
from wing_jax.errors import InputError
from wing_jax.report.plots import save_figure
from wing_jax.report.pose import pose_figure
from wing_jax.runtime.console import make_console, say
from wing_jax.schemes import Scheme


@dataclasses.dataclass(frozen=True, kw_only=True)
class BalanceOptions:
    """Find the pose axis of a data set; print and plot its histogram before and after HSM."""

    data: Annotated[str, tyro.conf.Positional]  # a name: see wing-jax data formats; or aflw-shapes
    root: str = ""  # the data set's folder or file; empty: below WING_JAX_DATA or ../shared/data
    images: str = ""  # folder of the pictures that a list (COCO, imglab, CSV) names; empty: where the list tells
    scheme: str = ""  # of your own data: a TOML file, or a published scheme's name
    faces: int = 0  # synthetic faces to draw (synthetic alone); 0: 2,000
    bins: int = 9  # of |coefficient|
    cap: int = 20  # at most so many copies of a face
    output: str = "runs/balance"  # folder of the figure


def run(arguments: list[str]) -> None:
    """Print the axis, its correlation with annotated yaw and the histogram; write the figure."""
    options = parse(BalanceOptions, arguments, command="balance")
    check_range(options, bins=(1, LARGEST_BINS), cap=(1, 1_000_000))
    figure = Path(options.output) / f"{options.data}.png"
    if options.data == "aflw-shapes":
        shapes = read_aflw_shapes(Path(options.root) if options.root else find_data("aflw_shapes"))
        report_poses(*shapes, bins=options.bins, cap=options.cap, figure=figure)
    else:
        count = faces_to_draw(options.data, options.faces, usual=2000)
        faces = load_faces(
            options.data, "train", root=options.root, images=options.images, scheme=options.scheme, count=count
        )
        report_poses(
            faces.points, faces.visible, faces.scheme, yaw_of(faces), bins=options.bins, cap=options.cap, figure=figure
        )


def yaw_of(faces: FaceSet) -> Float[np.ndarray, "n"] | None:
    """The annotated yaw in degrees, or else the number of the pose class, or None."""
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
    """Print what HSM makes of the faces and draw it to the file `figure`.

    Raises:
      InputError: the faces are too few, or too alike, to find a pose axis.
    """
    try:
        model = balance.pose_axis(points, visible, flip_permutation=scheme.flip)
    except ValueError as error:
        raise InputError(f"no pose axis can be found: {error}") from error
    counts = balance.duplication_counts(np.abs(model.coefficients), bins=bins, cap=cap)
    histogram = balance.pose_histogram(np.abs(model.coefficients), counts, bins=bins)
    console = make_console()
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
    say(console, f"figure: {save_figure(pose_figure(model, counts, lines=scheme.lines), figure)}")

"""Plot pose-based data balancing: the histogram before and after, and the faces along the pose axis."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from wing_jax.balance import PoseModel, pose_histogram
from wing_jax.report.canvas import Axes, Figure, make_figure
from wing_jax.report.plots import FAINT, INK, PALETTE

_BAR = "#b4bbc6"


def pose_figure(
    model: PoseModel, counts: Int[np.ndarray, "faces"], *, bins: int = 41, lines: Sequence[Sequence[int]] = ()
) -> Figure:
    """Plot the histogram of the pose coefficients before and after each face is repeated `counts` times.

    Above it is the mean shape deformed along the pose axis by -2, 0 and +2 standard deviations, each above its
    coefficient.

    Args:
      model: the result of `wing_jax.balance.pose_axis`.
      counts: the number of copies of each face, from `wing_jax.balance.duplication_counts`.
      bins: the number of bins of the histogram.
      lines: chains of points to draw in the shapes: `Scheme.lines`.

    Returns:
      A Matplotlib figure.

    >>> from wing_jax import balance
    >>> from wing_jax.schemes import MTFL_5
    >>> mean = np.array([[0, 0], [4, 0], [2, 2], [1, 4], [3, 4]])
    >>> shapes = mean + np.random.default_rng(0).normal(0, 0.2, (50, 5, 2))
    >>> model = balance.pose_axis(shapes, flip_permutation=MTFL_5.flip)
    >>> len(pose_figure(model, balance.duplication_counts(model.coefficients, bins=5)).axes) > 0
    True
    """
    figure = make_figure(7.2, 4.6)
    axes = figure.add_axes((0.1, 0.12, 0.87, 0.52))
    histogram = pose_histogram(model.coefficients, counts, bins=bins)
    left, widths = histogram.edges[:-1], np.diff(histogram.edges)
    axes.bar(left, histogram.after, widths, align="edge", color=PALETTE[0], alpha=0.18)
    before = axes.bar(left + 0.07 * widths, histogram.before, 0.86 * widths, align="edge", color=_BAR)
    after = axes.stairs(histogram.after, histogram.edges, color=PALETTE[0], linewidth=2)
    axes.legend(
        handles=[before, after],
        labels=[f"before: {histogram.before.sum():,} faces", f"after HSM: {histogram.after.sum():,} faces"],
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        loc="upper center",
        ncols=2,
    )
    reach = max(2.6 * model.deviation, float(np.abs(histogram.edges[[0, -1]]).max()))
    axes.set(xlim=(-reach, reach), ylim=(0, 1.18 * histogram.after.max()))
    axes.set_xlabel("pose coefficient: nose to the left  \N{LEFTWARDS ARROW}   \N{RIGHTWARDS ARROW}  nose to the right")
    axes.set_ylabel("faces in a bin")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=INK, color=FAINT, labelsize=9)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(INK)
    for steps in (-2, 0, 2):
        _draw_shape(axes, model, steps * model.deviation, f"{steps:+d} sd" if steps else "mean", lines)
    return figure


def _draw_shape(axes: Axes, model: PoseModel, coefficient: float, title: str, lines: Sequence[Sequence[int]]) -> None:
    left, right = axes.get_xlim()
    x = (coefficient - left) / (right - left)
    axes.axvline(coefficient, 0, 0.87, color=PALETTE[1], linewidth=1, linestyle=(0, (2, 3)))
    inset = axes.inset_axes((x - 0.12, 1.03, 0.24, 0.52))
    shape = model.shape_at(coefficient)
    for chain in lines:
        inset.plot(*shape[list(chain)].T, color=INK, linewidth=1.3, solid_capstyle="round")
    inset.plot(*shape.T, ".", color=PALETTE[1], markersize=3 if lines and len(shape) > 30 else 6)
    inset.set_title(title, fontsize=9, color=INK, pad=3)
    low, high = shape.min(0), shape.max(0)
    turned = model.shape_at(2 * model.deviation)
    middle, half = (low + high) / 2, 0.56 * max(np.ptp(model.mean, axis=0).max(), np.ptp(turned, axis=0).max())
    inset.set(xlim=middle[0] + half * np.array([-1, 1]), ylim=middle[1] + half * np.array([1, -1]), aspect="equal")
    inset.axis("off")

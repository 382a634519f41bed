"""Draw curves over a common axis, in one panel for each quantity."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from wing_jax.report.canvas import Figure, make_figure, matplotlib
from wing_jax.report.plots import DASHES, FAINT, INK, PALETTE, plain, style_axes


class Curve(NamedTuple):
    """A curve through points."""

    x: Float[np.ndarray, "n"]
    y: Float[np.ndarray, "n"]


def lines_figure(
    panels: Mapping[str, Mapping[str, Curve]], *, label: str, log_x: bool = False, log_y: Collection[str] = ()
) -> Figure:
    """Draw the curves of each panel by name; panels are side by side, with one legend.

    Args:
      panels: curves by name, for each label of a vertical axis.
      label: the label of the horizontal axes.
      log_x: whether the horizontal axes are logarithmic.
      log_y: the panels whose vertical axis is logarithmic.
    """
    figure = make_figure(1.0 + 4.4 * len(panels), 4.0, layout="constrained")
    for axes, (quantity, curves) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        style_axes(axes)
        for number, (name, curve) in enumerate(curves.items()):
            color, dashes = PALETTE[number % len(PALETTE)], DASHES[number % len(DASHES)]
            axes.plot(curve.x, curve.y, linestyle=dashes, color=color, linewidth=2, label=plain(name))
        if log_x:
            axes.set_xscale("log")
        if quantity in log_y:
            ticker = matplotlib("ticker")
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 6, 8)))
            axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_formatter(ticker.NullFormatter())
        axes.set_xlabel(plain(label))
        axes.set_ylabel(plain(quantity))
        axes.grid(color=FAINT, linewidth=0.8)
    axes.legend(fontsize=9, labelcolor=INK, loc="best", framealpha=0.85, edgecolor="none")
    return figure

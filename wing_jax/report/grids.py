"""Draw figures of the paper's tables: heat maps over two parameters, and a dot for each seed of a model."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from wing_jax.report.canvas import Figure, make_figure, matplotlib
from wing_jax.report.plots import FAINT, INK, PALETTE, new_figure, plain

LEGEND_COLUMNS = 3  # more would be wider than the axes


def heat_figure(
    maps: Mapping[str, Float[np.ndarray, "rows columns"]],
    *,
    rows: Sequence[float],
    columns: Sequence[float],
    row_label: str,
    column_label: str,
) -> Figure:
    """Draw heat maps over one grid side by side, each with its own color scale; dark is low, the lowest is framed."""
    figure = make_figure(1.2 + 4.6 * len(maps), 3.4, layout="constrained")
    rectangle = matplotlib("patches").Rectangle
    for axes, (title, values) in zip(figure.subplots(1, len(maps), squeeze=False)[0], maps.items(), strict=True):
        axes.imshow(values, cmap="cividis", aspect="auto")
        middle = (np.nanmin(values) + np.nanmax(values)) / 2
        for (row, column), value in np.ndenumerate(values):
            color = "white" if value < middle else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=9, color=color)
        row, column = np.unravel_index(np.nanargmin(values), values.shape)
        frame = {"fill": False, "edgecolor": PALETTE[1], "linewidth": 2.5}
        axes.add_patch(rectangle((float(column) - 0.5, float(row) - 0.5), 1, 1, **frame))
        axes.set_xticks(range(len(columns)), [f"{value:g}" for value in columns])
        axes.set_yticks(range(len(rows)), [f"{value:g}" for value in rows])
        axes.set_title(plain(title), fontsize=10, color=INK)
        axes.set_xlabel(column_label, color=INK)
        axes.set_ylabel(row_label, color=INK)
        axes.tick_params(length=0, labelsize=9, colors=INK)
        axes.spines[:].set_visible(False)
    return figure


def seeds_figure(results: Mapping[str, Mapping[str, Sequence[float]]], *, label: str) -> Figure:
    """Draw a dot for each seed and a bar at their mean, for each group (a method) and series (a loss)."""
    series = list(dict.fromkeys(name for group in results.values() for name in group))
    figure, axes = new_figure(2.2 + 0.45 * len(results) * (len(series) + 1), 3.8)
    for number, name in enumerate(series):
        color, shift = PALETTE[number % len(PALETTE)], (number - (len(series) - 1) / 2) * 0.2
        for index, group in enumerate(results.values()):
            values = list(group.get(name, ()))
            legend = plain(name) if index == 0 else None
            axes.plot([index + shift] * len(values), values, "o", color=color, alpha=0.55, markersize=5, label=legend)
            if values:
                mean = float(np.mean(values))
                axes.hlines(mean, index + shift - 0.08, index + shift + 0.08, color=color, linewidth=2)
    axes.set_xticks(range(len(results)), list(map(plain, results)))
    axes.set_xlim(-0.6, len(results) - 0.4)
    axes.set_ylabel(label)
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.legend(
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        ncols=min(len(series), LEGEND_COLUMNS),
        loc="lower left",
        bbox_to_anchor=(0, 1),
    )
    return figure

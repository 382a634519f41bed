"""Plots of the report: Matplotlib figures without global state, in colors that color-blind readers can distinguish."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Array, Bool, Float

from wing_jax.evaluation.measures import all_or, auc, ced, or_nan
from wing_jax.report.canvas import Axes, Figure, make_figure, matplotlib
from wing_jax.text import cut, printable

# Okabe and Ito, "Color Universal Design", https://jfly.uni-koeln.de/color/
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
DASHES = ("-", (0, (6, 1.5)), (0, (1.2, 1.2)), (0, (5, 1, 1, 1)))
INK, FAINT = "#343a44", "#d9dde3"
Lines: TypeAlias = Sequence[Sequence[int]]


def ced_figure(
    curves: Mapping[str, Float[np.ndarray, "_"]], *, threshold: float, label: str, scale: float = 100.0
) -> Figure:
    """Plot the cumulative error distribution of each set of errors (NaN left out) up to `threshold`.

    Args:
      curves: the errors of all faces, by name; fractions for an NME.
      threshold: the end of the curves, in the same unit.
      label: the label of the error axis, with its unit, such as "NME by inter-ocular (%)".
      scale: the factor that converts errors to that unit.
    """
    figure, axes = new_figure(6.4, 4.2)
    limits = np.linspace(0, threshold, 2001)
    for number, (name, nmes) in enumerate(curves.items()):
        counted = nmes[np.isfinite(nmes)]
        if len(counted):
            color, dashes = PALETTE[number % len(PALETTE)], DASHES[number % len(DASHES)]
            legend = f"{plain(name)} (AUC {auc(counted, threshold):.3f})"
            axes.plot(
                scale * limits, 100 * ced(counted, limits), linestyle=dashes, color=color, label=legend, linewidth=2
            )
    axes.set(xlim=(0, scale * threshold), ylim=(0, 101))
    axes.set_xlabel(plain(label))
    axes.set_ylabel("faces with at most this error (%)")
    axes.grid(color=FAINT, linewidth=0.8)
    if axes.lines:
        axes.legend(fontsize=9, labelcolor=INK, loc="best", framealpha=0.85, edgecolor="none")
    return figure


def group_figure(groups: Mapping[str, Mapping[str, dict]], *, label: str) -> Figure:
    """Plot the mean of a metric as a bar for each label of a group, with one color for each series.

    `groups` maps a series (a stage) to the result of `wing_jax.evaluation.Measurement.by`; a label that a series lacks,
    or has no face for, gets no bar. `label` is the metric's, with its unit.
    """
    counts = {name: entry["faces"] for numbers in groups.values() for name, entry in numbers.items()}
    labels = list(counts)
    figure, axes = new_figure(max(4.8, 1.6 + 0.5 * len(labels) * (1 + 0.4 * len(groups))), 3.6)
    width = 0.8 / len(groups)
    for number, (series, numbers) in enumerate(groups.items()):
        means = [numbers[name]["mean"] if name in numbers else None for name in labels]
        places = np.arange(len(labels)) + (number - (len(groups) - 1) / 2) * width
        color = PALETTE[number % len(PALETTE)]
        bars = axes.bar(places, [mean or 0.0 for mean in means], width * 0.92, color=color, label=plain(series))
        axes.bar_label(
            bars, ["" if mean is None else f"{mean:.2f}" for mean in means], fontsize=8, padding=2, color=INK
        )
    axes.set_xticks(np.arange(len(labels)), [f"{plain(name)}\n{count} faces" for name, count in counts.items()])
    axes.set_ylabel(plain(label))
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.margins(y=0.15)
    if len(groups) > 1:
        axes.legend(frameon=False, fontsize=8, labelcolor=INK, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    return figure


def stress_figure(
    panels: Mapping[str, Mapping[str, tuple[float | None, float | None]]],
    *,
    unchanged: tuple[float | None, float | None],
    label: str,
) -> Figure:
    """Plot mean and failures at each level of a change, in one panel for each change.

    Args:
      panels: (mean, percentage of failures) by the name of the level, from mild to severe, for each change.
      unchanged: the same two numbers of the unchanged faces, with which each panel starts.
      label: the label of the mean, with its unit.
    """
    columns = min(5, len(panels))
    rows = -(-len(panels) // columns)
    figure = make_figure(2.9 * columns, 2.6 * rows + 0.4, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axes, (name, levels) in zip(grid, panels.items(), strict=False):
        style_axes(axes)
        points = {"none": unchanged, **levels}
        places = np.arange(len(points))
        for part, (title, mark) in enumerate(((label, "o-"), ("failures (%)", "s--"))):
            values = np.array([pair[part] for pair in points.values()], float)  # None, not measured, becomes NaN
            if np.isnan(values).all():  # a metric without a threshold has no failures
                continue
            axes.plot(places, values, mark, color=PALETTE[part], label=plain(title), linewidth=1.8, markersize=4)
        axes.set_xticks(places, [plain(level) for level in points])
        axes.set_title(plain(name), fontsize=10, color=INK)
        axes.set_yscale("symlog", linthresh=1)
        axes.set_yticks([0, 1, 3, 10, 30, 100], ["0", "1", "3", "10", "30", "100"])
        axes.minorticks_off()
        axes.grid(color=FAINT, linewidth=0.8)
    grid[0].set_ylim(0, max(110, grid[0].get_ylim()[1]))  # shared by all panels
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    handles, names = grid[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=2, frameon=False, fontsize=9, labelcolor=INK)
    return figure


def landmark_figure(
    shape: Float[np.ndarray, "points 2"],
    errors: Float[np.ndarray, "points"],
    *,
    normalizer: str,
    lines: Lines = (),
) -> Figure:
    """Plot each landmark's mean error (a fraction; hollow if NaN) as size and color of a dot on the mean shape."""
    figure, axes = new_figure(6.4, 5.4)
    for chain in lines:
        axes.plot(*shape[list(chain)].T, color=FAINT, linewidth=1.5, zorder=1)
    finite = np.isfinite(errors)
    axes.scatter(*shape[~finite].T, s=40, facecolors="none", edgecolors=INK)
    if finite.any():
        largest = max(float(errors[finite].max()), 1e-12)
        dots = axes.scatter(
            *shape[finite].T,
            s=12 + 90 * errors[finite] / largest,
            c=100 * errors[finite],
            cmap="viridis_r",
            vmin=0,
            vmax=100 * largest,
            edgecolors="white",
            linewidths=0.6,
            zorder=2,
        )
        bar = figure.colorbar(dots, ax=axes, shrink=0.8)
        bar.set_label(f"mean error by {plain(normalizer)} (%)", color=INK)
        bar.outline.set_visible(False)
    for index in np.flatnonzero(np.isfinite(shape).all(-1)):
        label = axes.annotate(str(index), shape[index], (0, 5.5), textcoords="offset points", fontsize=6, ha="center")
        label.set(color=INK, path_effects=[matplotlib("patheffects").withStroke(linewidth=1.6, foreground="white")])
    axes.set_aspect("equal")
    axes.invert_yaxis()
    axes.margins(0.08)
    axes.set_axis_off()
    return figure


def mean_shape(
    points: Float[Array | np.ndarray, "faces points 2"],
    visible: Bool[Array | np.ndarray, "faces points"] | None = None,
) -> Float[np.ndarray, "points 2"]:
    """Return the mean of the faces, each centered and scaled to unit spread by its visible points.

    Points that are never visible are NaN.
    """
    points = np.asarray(points, np.float64)
    shown = all_or(visible, points)[..., None]
    points = np.where(shown, points, 0.0)
    count = np.maximum(shown.sum(1, keepdims=True), 1)
    centered = np.where(shown, points - points.sum(1, keepdims=True) / count, 0.0)
    spread = np.sqrt((centered**2).sum((1, 2), keepdims=True) / count)
    unit = centered / np.where(spread > 0, spread, 1.0)
    return or_nan(unit.sum(0) / np.maximum(shown.sum(0), 1), shown.any(0))


def save_figure(figure: Figure, path: Path) -> Path:
    """Write the figure to `path` and return it; the format follows from the file extension and is PNG by default."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ending = path.suffix[1:].lower()
    file_format = ending if ending in figure.canvas.get_supported_filetypes() else "png"
    figure.savefig(path, format=file_format, dpi=160, bbox_inches="tight", facecolor="white")
    return path


def plain(text: str) -> str:
    """Escape a user's text for Matplotlib: "$" starts no formula, missing glyphs are escaped, long text is cut.

    Apply it to every text in a figure that comes from users.
    """
    font_manager = matplotlib("font_manager")
    font = font_manager.get_font(font_manager.findfont(font_manager.FontProperties()))
    glyphs = (char if font.get_char_index(ord(char)) else ascii(char)[1:-1] for char in printable(text))
    name = cut("".join(glyphs)).replace("$", r"\$")
    return f" {name}" if name.startswith("_") else name  # Matplotlib hides names with a leading "_" from legends


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure with one pair of axes in the style of all plots; sizes in inches."""
    figure = make_figure(width, height)
    axes = figure.add_subplot()
    style_axes(axes)
    return figure, axes


def style_axes(axes: Axes) -> None:
    """Give the axes the style of all plots."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=INK, color=FAINT, labelsize=9)
    axes.set_axisbelow(True)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(INK)

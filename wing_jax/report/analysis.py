"""Draw the figures of the loss gradient analysis (`wing_jax.analysis`), as PNG and SVG."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Array, Float

from wing_jax.report.canvas import Figure, make_figure, matplotlib
from wing_jax.report.plots import FAINT, INK, PALETTE, Lines, plain

Numbers = Float[Array | np.ndarray, "..."]
BANDS = ("#cfe0ee", "#5b9bc8", "#0b3c5d")  # small, medium, large errors
DASHES = ("-", (0, (6, 1.5)), (0, (1.2, 1.2)), (0, (5, 1, 1, 1)), (0, (3, 1)), (0, (1, 2)))


def save_vector(figure: Figure, stem: Path) -> list[Path]:
    """Write STEM.svg and STEM.png; the same figure gives the same bytes."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(f"{stem.name}{ending}") for ending in (".svg", ".png")]
    with matplotlib().rc_context({"svg.hashsalt": "wing_jax", "svg.fonttype": "none"}):
        figure.savefig(paths[0], bbox_inches="tight", facecolor="white", metadata={"Date": None})
        figure.savefig(paths[1], dpi=160, bbox_inches="tight", facecolor="white")
    return paths


def curves_figure(errors: Numbers, curves: Mapping[str, tuple[Numbers, Numbers, Numbers, Numbers]]) -> Figure:
    """Draw value, gradient, curvature and optimal step against the error, with one line for each loss.

    Args:
      errors: `[errors]`, pixels.
      curves: the four curves (`wing_jax.analysis.curves`) by the name of the loss.

    Returns:
      A Matplotlib figure.

    >>> import jax.numpy as jnp
    >>> from wing_jax import analysis, losses
    >>> errors = jnp.linspace(-5.0, 5.0, 11)
    >>> len(curves_figure(errors, {"Wing": analysis.curves(losses.wing_loss, errors)}).axes)
    4
    """
    titles = ("value", "gradient", "curvature", "optimal step |x| / |f'(x)|")
    limits = ((0, 30), (-6, 6), (-3, 2), (0, 20))
    figure, panels = _panels(1, 4, width=13.5, height=3.3)
    for part, (axes, title, limit) in enumerate(zip(panels[0], titles, limits, strict=True)):
        for number, (name, curve) in enumerate(curves.items()):
            axes.plot(errors, curve[part], label=plain(name), **_line_style(number))
        axes.set(title=title, ylim=limit, xlim=(float(errors[0]), float(errors[-1])))
        axes.set_xlabel("error (pixels)")
    _legend(figure, panels[0][0])
    return figure


def shares_figure(shares: Mapping[str, Mapping[str, Numbers]], edges: Sequence[float]) -> Figure:
    """Draw stacked bars of the shares `[bands]` of the errors and of each loss's gradient, a panel for each model.

    The first entry of each model has the shares of the errors.
    """
    figure, panels = _panels(1, len(shares), width=1.2 + 3.9 * len(shares), height=3.4)
    for axes, (model, rows) in zip(panels[0], shares.items(), strict=True):
        _draw_stack(axes, list(map(plain, rows)), np.array([np.asarray(row) for row in rows.values()]), edges)
        axes.axvline(0.5, color=INK, linewidth=1, linestyle=(0, (2, 3)))
        axes.set(title=plain(model), ylim=(0, 1))
        axes.set_ylabel("share of errors, of the gradient")
    _legend(figure, panels[0][0], title="error (pixels)")
    return figure


def groups_figure(
    shares: Mapping[str, Numbers], labels: Sequence[str], of_faces: Sequence[float], edges: Sequence[float]
) -> Figure:
    """Draw each group's share of the gradient, in bands of errors, and its share of the faces as a dot.

    There is a panel for each loss.
    """
    figure, panels = _panels(1, len(shares), width=1.0 + 0.55 * len(labels) * len(shares), height=3.6)
    for axes, (loss, values) in zip(panels[0], shares.items(), strict=True):
        _draw_stack(axes, list(map(plain, labels)), np.asarray(values), edges)
        axes.plot(range(len(labels)), of_faces, "o", color=PALETTE[1], label="share of the faces")
        axes.set_title(plain(loss))
        axes.tick_params(axis="x", rotation=40)
    panels[0][0].set_ylabel("share of the gradient")
    top = max(axes.get_ylim()[1] for axes in panels[0])
    for axes in panels[0]:
        axes.set_ylim(0, top)
    _legend(figure, panels[0][0], title="error (pixels)")
    return figure


def landmarks_figure(
    shape: Float[np.ndarray, "points 2"], shares: Mapping[str, Float[np.ndarray, "points"]], *, lines: Lines = ()
) -> Figure:
    """Draw a dot for each landmark on the mean shape, sized by its share of the gradient; a panel for each loss."""
    figure, panels = _panels(1, len(shares), width=3.4 * len(shares), height=3.6)
    largest = max(float(np.max(values)) for values in shares.values())
    for axes, (loss, values) in zip(panels[0], shares.items(), strict=True):
        for chain in lines:
            axes.plot(*shape[list(chain)].T, color=FAINT, linewidth=1.3, zorder=1)
        dots = axes.scatter(*shape.T, s=6 + 130 * values / largest, c=100 * values, cmap="viridis_r", vmin=0,
                            vmax=100 * largest, edgecolors="white", linewidths=0.5, zorder=2)  # fmt: skip
        axes.set_title(plain(loss))
        axes.set_aspect("equal")
        axes.invert_yaxis()
        axes.set_axis_off()
    bar = figure.colorbar(dots, ax=list(panels[0]), shrink=0.7)
    bar.set_label("share of the gradient (%)", color=INK)
    bar.outline.set_visible(False)
    return figure


def layers_figure(
    layers: Sequence[str], norms: Mapping[str, Mapping[str, Numbers]], cosines: Mapping[str, Numbers]
) -> Figure:
    """Draw two panels for each model: gradient norms by layer, a line for each loss, and cosines between losses."""
    figure, panels = _panels(len(norms), 2, width=10.5, height=3.4 * len(norms))
    for (left, right), (model, by_loss) in zip(panels, norms.items(), strict=True):
        for number, (name, values) in enumerate(by_loss.items()):
            left.plot(range(len(layers)), values, marker="o", markersize=4, label=plain(name), **_line_style(number))
        left.set_xticks(range(len(layers)), list(map(plain, layers)), rotation=30, ha="right")
        left.set(yscale="log", title=f"{plain(model)}: norm of the gradient by layer")
        _draw_matrix(right, np.asarray(cosines[model]))
        right.set_xticks(range(len(by_loss)), list(map(plain, by_loss)))
        right.set_yticks(range(len(by_loss)), list(map(plain, by_loss)))
        right.set_title(f"{plain(model)}: cosine between the gradients")
    _legend(figure, panels[0][0])
    return figure


def landscape_figure(places: Numbers, surfaces: Mapping[str, Mapping[str, Numbers]]) -> Figure:
    """Draw contours of log10 of each loss (columns) around each model (rows); the cross marks the model."""
    columns = max(len(by_loss) for by_loss in surfaces.values())
    figure, panels = _panels(len(surfaces), columns, width=3.1 * columns, height=3.0 * len(surfaces))
    for row, (model, by_loss) in zip(panels, surfaces.items(), strict=True):
        for axes, (loss, values) in zip(row, by_loss.items(), strict=True):
            height = np.log10(np.maximum(np.asarray(values).T, 1e-12))
            axes.contourf(places, places, height, levels=14, cmap="cividis")
            axes.contour(places, places, height, levels=14, colors="white", linewidths=0.4)
            axes.plot(0, 0, "+", color=PALETTE[1], markersize=11, markeredgewidth=2)
            axes.set(title=f"{plain(model)}, {plain(loss)}", aspect="equal")
            axes.grid(visible=False)
            low, high = float(np.nanmin(values)), float(np.nanmax(values))
            axes.set_xlabel(f"{low:.3g} to {high:.3g}", fontsize=8)
    return figure


def training_figure(
    steps: Sequence[int],
    shares: Mapping[str, Float[np.ndarray, "steps bands"]],
    counts: Float[np.ndarray, "steps bands"],
    edges: Sequence[float],
) -> Figure:
    """Draw the shares of small, medium and large errors over the steps of one training run.

    The first panel has the shares of the errors, the others those of each loss's gradient at these errors.
    """
    rows = {"errors": counts, **shares}
    figure, panels = _panels(1, len(rows), width=3.0 * len(rows), height=3.2)
    x = np.maximum(np.asarray(steps, float), 0.7)
    for axes, (name, values) in zip(panels[0], rows.items(), strict=True):
        axes.stackplot(x, np.asarray(values).T, colors=BANDS, labels=_band_names(edges))
        axes.set(xscale="log", title=name if name == "errors" else f"gradient of {plain(name)}", ylim=(0, 1))
        axes.set(xlim=(x[0], x[-1]))
        axes.set_xlabel("step (the first is untrained)")
    panels[0][0].set_ylabel("share")
    _legend(figure, panels[0][0], title="error (pixels)")
    return figure


def wing_figure(
    widths: Sequence[float],
    epsilons: Sequence[float],
    shares: Mapping[str, Float[np.ndarray, "widths epsilons bands"]],
) -> Figure:
    """Draw each band's share of the Wing loss's gradient as maps over width and epsilon; a row for each model."""
    figure, panels = _panels(len(shares), 3, width=13.0, height=0.5 + 2.7 * len(shares))
    for row, (model, values) in zip(panels, shares.items(), strict=True):
        for band, (axes, size) in enumerate(zip(row, ("small", "medium", "large"), strict=True)):
            _draw_matrix(axes, values[..., band].T)
            axes.set_xticks(range(len(widths)), [f"{value:g}" for value in widths])
            axes.set_yticks(range(len(epsilons)), [f"{value:g}" for value in epsilons])
            axes.set_title(f"{plain(model)}: share of {size} errors")
            axes.set_xlabel("width (pixels)")
        row[0].set_ylabel("epsilon (pixels)")
    return figure


def errors_figure(errors: Mapping[str, Float[np.ndarray, "_"]], edges: Sequence[float]) -> Figure:
    """Draw the distribution of each model's absolute errors on a logarithmic axis, with the edges of the bands."""
    figure, panels = _panels(1, 1, width=6.4, height=3.2)
    axes = panels[0][0]
    bins = np.geomspace(0.01, 64, 80)
    for number, (model, values) in enumerate(errors.items()):
        share = np.histogram(np.clip(np.abs(values), bins[0], bins[-1]), bins)[0] / len(values)
        axes.stairs(share, bins, label=plain(model), **_line_style(number))
    for edge in edges:
        axes.axvline(edge, color=PALETTE[1], linewidth=1, linestyle=(0, (2, 3)))
    axes.set(xscale="log", xlim=(bins[0], bins[-1]))
    axes.set_xlabel("absolute error of a coordinate (pixels)")
    axes.set_ylabel("share of the errors")
    _legend(figure, axes)
    return figure


def _panels(rows: int, columns: int, *, width: float, height: float):
    figure = make_figure(width, height, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(FAINT)
        axes.tick_params(colors=INK, color=FAINT, labelsize=8)
        axes.title.set(fontsize=10, color=INK)
        axes.set_axisbelow(True)
        axes.grid(color=FAINT, linewidth=0.6)
        for label in (axes.xaxis.label, axes.yaxis.label):
            label.set(color=INK, fontsize=9)
    return figure, panels


def _draw_stack(axes, names: Sequence[str], shares: np.ndarray, edges: Sequence[float]) -> None:
    bottom = np.zeros(len(names))
    for band, label in enumerate(_band_names(edges)):
        axes.bar(range(len(names)), shares[:, band], 0.72, bottom=bottom, color=BANDS[band], label=label)
        bottom += shares[:, band]
    axes.set_xticks(range(len(names)), names)
    axes.grid(visible=False, axis="x")


def _draw_matrix(axes, values: Float[np.ndarray, "rows columns"]) -> None:
    """Draw a matrix of numbers from 0 to 1, with each number in its cell."""
    axes.imshow(values, cmap="cividis", aspect="auto", vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(values):
        color = "black" if value > 0.5 else "white"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=color)
    axes.grid(visible=False)


def _band_names(edges: Sequence[float]) -> list[str]:
    low, high = edges
    return [f"below {low:g}", f"{low:g} to {high:g}", f"{high:g} and more"]


def _line_style(number: int) -> dict:
    dashes = DASHES[number % len(DASHES)]
    return {"color": PALETTE[number % len(PALETTE)], "linestyle": dashes, "linewidth": 1.8}


def _legend(figure: Figure, axes, *, title: str = "") -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        title=title or None,
        title_fontsize=9,
        ncols=len(labels),
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        loc="outside upper center",
    )

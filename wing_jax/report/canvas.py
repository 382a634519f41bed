"""Matplotlib, imported when a figure is made: figures without a screen and without any global state."""

from types import ModuleType
from typing import TYPE_CHECKING, Any

from wing_jax.errors import InputError
from wing_jax.runtime.extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Axes
    from matplotlib.figure import Figure as Figure
else:
    Axes = Figure = Any


def matplotlib(*parts: str) -> ModuleType:
    """The module `matplotlib`, or one of its `parts`, such as "patches".

    Raises:
      InputError: it is not installed.
    """
    return require(".".join(("matplotlib", *parts)), extra="report", purpose="drawing figures")


def absence() -> str:
    """What to say where Matplotlib is not installed; empty where it is."""
    try:
        matplotlib()
    except InputError as error:
        return str(error)
    return ""


def make_figure(width: float, height: float, **options: Any) -> Figure:
    """An empty figure, sizes in inches; `options` are those of `matplotlib.figure.Figure`.

    Raises:
      InputError: Matplotlib is not installed.
    """
    figure = matplotlib("figure").Figure(figsize=(width, height), **options)
    matplotlib("backends.backend_agg").FigureCanvasAgg(figure)
    return figure

"""Import Matplotlib when a figure is made; figures need no screen and no global state."""

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
    """Import and return the module `matplotlib`, or a submodule such as "patches".

    Raises:
      InputError: Matplotlib is not installed.
    """
    return require(".".join(("matplotlib", *parts)), extra="report", purpose="drawing figures")


def missing_message() -> str:
    """Return the error message if Matplotlib is not installed, otherwise an empty string."""
    try:
        matplotlib()
    except InputError as error:
        return str(error)
    return ""


def make_figure(width: float, height: float, **options: Any) -> Figure:
    """Return an empty figure, sizes in inches; `options` are passed to `matplotlib.figure.Figure`.

    Raises:
      InputError: Matplotlib is not installed.
    """
    figure = matplotlib("figure").Figure(figsize=(width, height), **options)
    matplotlib("backends.backend_agg").FigureCanvasAgg(figure)
    return figure

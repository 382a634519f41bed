"""Trainings that are ready to run, by name: the configs that the command line takes, `wing-jax train w300`.

Each is a file of `configs/`: in a checkout it lies there, in an installed package it comes with it. The functions here
give what the files define; `source` gives a file's text, to be changed and given to `wing-jax train` as a file.
"""

import ast
from pathlib import Path

from wing_jax.config import Config, load_config
from wing_jax.errors import InputError
from wing_jax.presets.recipes import paper_recipe as paper_recipe
from wing_jax.presets.recipes import strong_recipe as strong_recipe
from wing_jax.text import quoted

INSTALLED = Path(__file__).parent / "configs"
CHECKOUT = Path(__file__).parents[2] / "configs"


def names() -> tuple[str, ...]:
    """The names of all presets.

    >>> "w300" in names()
    True
    """
    return tuple(sorted(path.stem for path in folder().glob("*.py")))


def load(name: str) -> Config:
    """The training called `name`.

    Raises:
      InputError: there is no preset of that name.

    >>> load("w300").data.name
    'w300'
    """
    return load_config(path(name))


def source(name: str) -> str:
    """The text of the config file called `name`.

    Raises:
      InputError: there is no preset of that name.

    >>> source("w300").splitlines()[0].startswith('\"""300-W, 68 points')
    True
    """
    return path(name).read_text(encoding="utf-8")


def summary(name: str) -> str:
    """The first line of what the config says of itself, without the full stop.

    Raises:
      InputError: there is no preset of that name.
    """
    text = ast.get_docstring(ast.parse(source(name))) or ""
    return text.split("\n")[0].rstrip(".")


def path(name: str) -> Path:
    """Where the config file called `name` lies.

    Raises:
      InputError: there is no preset of that name.
    """
    if name not in names():
        raise InputError(f"no preset is called {quoted(name)}: use one of {', '.join(names())}")
    return folder() / f"{name}.py"


def folder() -> Path:
    """Where the config files lie: with the package, or, in a checkout, beside it."""
    return INSTALLED if INSTALLED.is_dir() else CHECKOUT


def aflw() -> Config:
    """AFLW, 19 points, by the paper's own numbers."""
    return load("aflw")


def mtfl() -> Config:
    """MTFL, 5 points: CNN-6, then a voting network; pose-based data balancing."""
    return load("mtfl")


def own() -> Config:
    """Your own faces, any number of points: two narrow stages."""
    return load("own")


def synthetic() -> Config:
    """Synthetic faces, 68 points: both stages in minutes on two CPU cores."""
    return load("synthetic")


def w300() -> Config:
    """300-W, 68 points: CNN-6, then a voting network."""
    return load("w300")


def w300_mtfl() -> Config:
    """300-W, and MTFL with pseudo-labels of 68 points."""
    return load("w300_mtfl")

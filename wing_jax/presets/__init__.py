"""Trainings that are ready to run, by name: the configs that the command line takes, `wing-jax train w300`.

Each is a file of `configs/`: in a checkout it lies there, in an installed package it comes with it. `w300()` and the
others are recipes for `wing_jax.fit`, of objects that can be replaced; `load` gives the config that a file defines, and
`source` its text, to be changed and given to `wing-jax train` as a file.
"""

import ast
from pathlib import Path

from wing_jax.config import Config, load_config
from wing_jax.errors import InputError
from wing_jax.presets.recipes import paper_recipe as paper_recipe
from wing_jax.presets.recipes import strong_recipe as strong_recipe
from wing_jax.text import quoted
from wing_jax.train.spec import Recipe

INSTALLED = Path(__file__).parent / "configs"
CHECKOUT = Path(__file__).parents[2] / "configs"


def names() -> tuple[str, ...]:
    """The names of all presets.

    >>> "w300" in names()
    True

    Returns:
      The names, sorted.
    """
    return tuple(sorted(path.stem for path in folder().glob("*.py")))


def load(name: str) -> Config:
    """The training called `name`.

    Args:
      name: one of `names()`.

    Returns:
      The config, as `wing-jax train` takes it.

    Raises:
      InputError: there is no preset of that name.

    >>> load("w300").data.name
    'w300'
    """
    return load_config(path(name))


def source(name: str) -> str:
    """The text of the config file called `name`.

    Args:
      name: one of `names()`.

    Returns:
      Python.

    Raises:
      InputError: there is no preset of that name.

    >>> source("w300").splitlines()[0].startswith('\"""300-W, 68 points')
    True
    """
    return path(name).read_text(encoding="utf-8")


def summary(name: str) -> str:
    """The first line of what the config says of itself, without the full stop.

    Args:
      name: one of `names()`.

    Returns:
      A line.

    Raises:
      InputError: there is no preset of that name.

    >>> summary("w300").startswith("300-W, 68 points")
    True
    """
    text = ast.get_docstring(ast.parse(source(name))) or ""
    return text.split("\n")[0].rstrip(".")


def path(name: str) -> Path:
    """Where the config file called `name` lies.

    Args:
      name: one of `names()`.

    Returns:
      A path.

    Raises:
      InputError: there is no preset of that name.

    >>> path("w300").name
    'w300.py'
    """
    if name not in names():
        raise InputError(f"no preset is called {quoted(name)}: use one of {', '.join(names())}")
    return folder() / f"{name}.py"


def folder() -> Path:
    """Where the config files lie: with the package, or, in a checkout, beside it.

    Returns:
      A path.

    >>> folder().name
    'configs'
    """
    return INSTALLED if INSTALLED.is_dir() else CHECKOUT


def recipe(name: str) -> Recipe:
    """The stages, augmentations and balancing of the preset called `name`, as objects for `wing_jax.fit`.

    Args:
      name: one of `names()`.

    Returns:
      The recipe.

    Raises:
      InputError: there is no preset of that name.

    >>> [stage.input_size for stage in recipe("w300").stages]
    [64, 128]
    """
    from wing_jax.from_config.recipe import recipe_of

    return recipe_of(load(name))


def aflw() -> Recipe:
    """AFLW, 19 points, by the paper's own numbers: CNN-6, then CNN-7, SGD, HSM.

    Returns:
      The recipe.

    >>> len(aflw().stages)
    2
    """
    return recipe("aflw")


def mtfl() -> Recipe:
    """MTFL, 5 points: CNN-6, then a voting network; pose-based data balancing.

    Returns:
      The recipe.

    >>> len(mtfl().stages)
    2
    """
    return recipe("mtfl")


def own() -> Recipe:
    """Your own faces, any number of points: two narrow stages.

    Returns:
      The recipe.

    >>> len(own().stages)
    2
    """
    return recipe("own")


def synthetic() -> Recipe:
    """Synthetic faces, 68 points: both stages in minutes on two CPU cores.

    Returns:
      The recipe.

    >>> len(synthetic().stages)
    2
    """
    return recipe("synthetic")


def w300() -> Recipe:
    """300-W, 68 points: CNN-6, then a voting network.

    Returns:
      The recipe.

    >>> len(w300().stages)
    2
    """
    return recipe("w300")


def w300_mtfl() -> Recipe:
    """300-W, and MTFL with pseudo-labels of 68 points.

    Returns:
      The recipe.

    >>> len(w300_mtfl().stages)
    2
    """
    return recipe("w300_mtfl")

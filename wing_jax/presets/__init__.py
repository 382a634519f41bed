"""Presets: ready-made training settings, by name. The command line takes the same names: `wing-jax train w300`.

Each preset is a file of `configs/`, in a checkout or in the installed package. `w300()` and the others return recipes
for `wing_jax.fit`, made of objects that can be replaced. `load` returns the config of a file, and `source` its text,
which you can change and pass to `wing-jax train` as a file.
"""

import ast
import dataclasses
from pathlib import Path
from typing import Any

from wing_jax.config import Config
from wing_jax.config_files import load_config
from wing_jax.errors import InputError
from wing_jax.presets.recipes import paper_recipe as paper_recipe
from wing_jax.presets.recipes import strong_recipe as strong_recipe
from wing_jax.text import quoted
from wing_jax.train.spec import Recipe
from wing_jax.train.start import Start, trained_network

INSTALLED = Path(__file__).parent / "configs"
CHECKOUT = Path(__file__).parents[2] / "configs"


def names() -> tuple[str, ...]:
    """List the names of all presets.

    >>> "w300" in names()
    True

    Returns:
      The names, sorted.
    """
    return tuple(sorted(path.stem for path in folder().glob("*.py")))


def load(name: str) -> Config:
    """Load the config of the preset `name`.

    Args:
      name: one of `names()`.

    Returns:
      The config that `wing-jax train NAME` uses.

    Raises:
      InputError: no preset has this name.

    >>> load("w300").data.name
    'w300'
    """
    return load_config(path(name))


def source(name: str) -> str:
    """Read the source of the config file of the preset `name`.

    Args:
      name: one of `names()`.

    Returns:
      Python source.

    Raises:
      InputError: no preset has this name.

    >>> "300-W, 68 points" in source("w300")
    True
    """
    return path(name).read_text(encoding="utf-8")


def summary(name: str) -> str:
    """Return the first line of the config's docstring, without the final period.

    Args:
      name: one of `names()`.

    Returns:
      One line of text.

    Raises:
      InputError: no preset has this name.

    >>> summary("w300").startswith("300-W, 68 points")
    True
    """
    text = ast.get_docstring(ast.parse(source(name))) or ""
    return text.split("\n")[0].rstrip(".")


def path(name: str) -> Path:
    """Return the path of the config file of the preset `name`.

    Args:
      name: one of `names()`.

    Returns:
      A path.

    Raises:
      InputError: no preset has this name.

    >>> path("w300").name
    'w300.py'
    """
    if name not in names():
        raise InputError(f"no preset is called {quoted(name)}: use one of {', '.join(names())}")
    return folder() / f"{name}.py"


def folder() -> Path:
    """Return the folder of the config files: in the package, or beside it in a checkout.

    Returns:
      A path.

    >>> folder().name
    'configs'
    """
    return INSTALLED if INSTALLED.is_dir() else CHECKOUT


def recipe(name: str) -> Recipe:
    """Make the recipe of the preset `name` for `wing_jax.fit`: its stages, augmentations and balancing.

    Args:
      name: one of `names()`.

    Returns:
      The recipe.

    Raises:
      InputError: no preset has this name.

    >>> [stage.input_size for stage in recipe("w300").stages]
    [64, 128]
    """
    from wing_jax.from_config.recipe import recipe_of

    return recipe_of(load(name))


def aflw() -> Recipe:
    """Make the recipe for AFLW, 19 points, with the paper's settings: CNN-6, then CNN-7, SGD, pose balancing (HSM).

    Returns:
      The recipe.

    >>> len(aflw().stages)
    2
    """
    return recipe("aflw")


def finetune(start: Any = "w300") -> Recipe:
    """Make the recipe that trains the networks of a trained model on your own faces, any number of points.

    Args:
      start: the trained model: the name of a pretrained one, the folder of your own, a `Localizer`, or a
        `wing_jax.Start`.

    Returns:
      The recipe, with as many stages as the trained model.

    Raises:
      InputError: the trained model cannot be loaded, or `start` has ImageNet weights and no landmark model.

    >>> [stage.input_size for stage in finetune("mtfl").stages]
    [64, 128]
    """
    trained = start if isinstance(start, Start) else Start(start)
    networks = [trained_network(trained, number) for number in range(1, 1 + len(trained.localizer.stages))]
    stages = tuple(
        dataclasses.replace(spec, start=trained, model=network, input_size=size)
        for spec, (network, size) in zip(recipe("finetune").stages, networks, strict=False)
    )
    return Recipe(stages=stages)


def mtfl() -> Recipe:
    """Make the recipe for MTFL, 5 points: CNN-6, then a voting network; pose-based data balancing.

    Returns:
      The recipe.

    >>> len(mtfl().stages)
    2
    """
    return recipe("mtfl")


def mtfl_from_w300() -> Recipe:
    """Make the recipe of the pretrained model `mtfl`: the networks of `w300`, trained on MTFL, 5 points.

    Returns:
      The recipe.

    >>> [stage.input_size for stage in mtfl_from_w300().stages]
    [64, 128]
    """
    return recipe("mtfl_from_w300")


def own() -> Recipe:
    """Make a recipe for your own faces, any number of points: two narrow stages.

    Returns:
      The recipe.

    >>> len(own().stages)
    2
    """
    return recipe("own")


def pretrain() -> Recipe:
    """Make the recipe that trains the networks of `w300` on synthetic faces, as a start for few faces.

    Returns:
      The recipe.

    >>> len(pretrain().stages)
    2
    """
    return recipe("pretrain")


def synthetic() -> Recipe:
    """Make the recipe for synthetic faces, 68 points: both stages in minutes on two CPU cores.

    Returns:
      The recipe.

    >>> len(synthetic().stages)
    2
    """
    return recipe("synthetic")


def w300() -> Recipe:
    """Make the recipe for 300-W, 68 points: CNN-6, then a voting network.

    Returns:
      The recipe.

    >>> len(w300().stages)
    2
    """
    return recipe("w300")


def w300_relabeled() -> Recipe:
    """Make the recipe of the last training of the pretrained model `w300`, with faces labeled again, without flips.

    Returns:
      The recipe.

    >>> len(w300_relabeled().stages)
    2
    """
    return recipe("w300_relabeled")


def w300_student() -> Recipe:
    """Make the recipe of the student: 300-W and pseudo-labeled faces, 68 points, larger crops.

    Returns:
      The recipe.

    >>> len(w300_student().stages)
    2
    """
    return recipe("w300_student")


def w300_unflipped() -> Recipe:
    """Make the recipe that trains the student further on 300-W alone, without flips.

    Returns:
      The recipe.

    >>> len(w300_unflipped().stages)
    2
    """
    return recipe("w300_unflipped")

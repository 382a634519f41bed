"""The model that a command is given: where it lies, and which faces its training held out."""

import sys
from collections.abc import Iterator
from pathlib import Path

from wing_jax import pretrained
from wing_jax.config import Config, DataConfig
from wing_jax.data.held_out import HeldOut
from wing_jax.errors import InputError
from wing_jax.inference.bundle import Place, find_bundle
from wing_jax.inference.localizer import Localizer
from wing_jax.text import printable


def find_model(name: str) -> Place:
    """The place of MODEL. Where a folder hides a model of the package, that is said on stderr.

    Raises:
      InputError: there is no model.
    """
    place = find_bundle(name)
    if place.hides:
        said = f"{place.folder} is used: a model in this folder comes before the package's own {place.hides!r}"
        print(printable(said), file=sys.stderr)
    return place


def refuse_hiding(output: str) -> None:
    """Raise InputError where a model written to the folder `output` would be taken for the package's of that name."""
    if (name := str(Path(output))) in pretrained.models():
        raise InputError(
            f"--output {output}: a model there would be used instead of the package's model {name!r}: give another "
            "folder"
        )


def held_out_of(localizer: Localizer, place: Place) -> tuple[HeldOut, str]:
    """(what the training of the model held out, what to say of how that is known, or nothing).

    It is what the model records. A model of an earlier version records nothing: there it is what the config beside it
    says, or else what a training holds out that says nothing of it.
    """
    if localizer.metadata.held_out is not None:
        return localizer.metadata.held_out, ""
    if (found := _config_beside(place.folder)) is not None:
        path, config = found
        from wing_jax.from_config.train import held_out_rule

        rule = held_out_rule(config.data, seed=config.seed)
        return rule, f"held out are {rule.validation:.3g} of the photos, by {path}: the model itself does not record it"
    assumed = HeldOut(data="", validation=DataConfig.validation)
    return assumed, (
        f"the model does not record what its training held out: taken are the {assumed.validation:.3g} of the photos "
        "that are held out by default; if it was trained with another data.validation, it has seen some of them"
    )


def _config_beside(model: Path) -> tuple[Path, Config] | None:
    """The config of the run that wrote the model's folder, by `train`, `sweep` or `reproduce`, where it is there."""
    for path in _records(model):
        if path.is_file():
            from wing_jax.from_config.train import read_config
            from wing_jax.reproduce.runner import read_recipe

            return path, read_recipe(path).config if path.name == "recipe.json" else read_config(path)
    return None


def _records(model: Path) -> Iterator[Path]:
    run, *above = model.absolute().parents
    if model.absolute().name != "model":
        return
    yield run / "config.json"  # RUN/model
    if run.parent.name == "trials":  # RUN/trials/LABEL/model
        yield above[1] / "sweep" / "config.json"
    if run.parent.parent.name == "measured":  # FOLDER/measured/METHOD/LABEL/model
        yield above[2] / "recipe.json"

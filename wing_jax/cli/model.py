"""Find the model that a command names, and the faces that its training held out."""

import sys
from collections.abc import Iterator
from pathlib import Path

from wing_jax import pretrained
from wing_jax.config import Config, DataConfig
from wing_jax.data.held_out import HeldOut
from wing_jax.errors import InputError
from wing_jax.inference.bundle import BundleLocation, find_bundle
from wing_jax.inference.localizer import Localizer
from wing_jax.text import printable


def find_model(name: str) -> BundleLocation:
    """Find the model `name`. Print a note on stderr if a folder takes precedence over a packaged model.

    Raises:
      InputError: there is no such model.
    """
    place = find_bundle(name)
    if place.shadows:
        note = f"using the model in the folder {place.folder}, not the pretrained model {place.shadows!r}"
        print(printable(note), file=sys.stderr)
    return place


def reject_hiding(output: str) -> None:
    """Raise InputError if a model in the folder `output` would take precedence over a packaged model."""
    if (name := str(Path(output))) in pretrained.models():
        raise InputError(
            f"--output {output}: a model there would be used instead of the pretrained model {name!r}: use "
            f"another folder"
        )


def folder_of_copy(place: BundleLocation, output: str) -> Path:
    """Return the folder to write a changed copy of the model to: `output`, or the model's own if that is empty.

    Raises:
      InputError: the model is a pretrained one and `output` is empty, or `output` would hide a pretrained model.
    """
    if place.pretrained_name and not output:
        raise InputError(
            f"{place.pretrained_name!r} is a pretrained model, which is never changed: pass --output FOLDER for a "
            "calibrated copy, and use that folder as MODEL"
        )
    reject_hiding(output)
    return Path(output or place.folder)


def held_out_of(localizer: Localizer, place: BundleLocation) -> tuple[HeldOut, str]:
    """Return (what the training of the model held out, a remark for the user or "").

    The model records it. Models of earlier versions do not: for these, use the config beside the model, or else the
    default of `DataConfig`. The remark says so.
    """
    if localizer.metadata.held_out is not None:
        return localizer.metadata.held_out, ""
    unrecorded = "the model does not record which photos were held out"
    if (record := _config_of_run(place.folder)) is not None:
        path, config = record
        from wing_jax.from_config.train import held_out_rule

        rule = held_out_rule(config.data, seed=config.seed)
        return rule, f"{unrecorded}: using {rule.validation:.3g} of the photos, from {path}"
    assumed = HeldOut(data="", validation=DataConfig.validation)
    return assumed, (
        f"{unrecorded}: assuming the default, {assumed.validation:.3g} of the photos; if data.validation was "
        f"different, "
        "the model was trained on some of these faces"
    )


def _config_of_run(model: Path) -> tuple[Path, Config] | None:
    """Return (path, config) of the run that wrote the model, by `train`, `sweep` or `reproduce`; None without one."""
    for path in _record_paths(model):
        if path.is_file():
            from wing_jax.from_config.train import read_config
            from wing_jax.reproduce.runner import read_recipe

            return path, read_recipe(path).config if path.name == "recipe.json" else read_config(path)
    return None


def _record_paths(model: Path) -> Iterator[Path]:
    """Yield the paths where a run may have recorded its config."""
    run, *above = model.absolute().parents
    if model.absolute().name != "model":
        return
    yield run / "config.json"  # RUN/model
    if run.parent.name == "trials":  # RUN/trials/LABEL/model
        yield above[1] / "sweep" / "config.json"
    if run.parent.parent.name == "measured":  # FOLDER/measured/METHOD/LABEL/model
        yield above[2] / "recipe.json"

"""Train as a config says."""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wing_jax.config import Config, DataConfig, SweepConfig, config_of
from wing_jax.data.boxes import ShapeInBox
from wing_jax.data.face_set import FaceSet
from wing_jax.data.held_out import HeldOut
from wing_jax.data.load import load_faces
from wing_jax.errors import InputError
from wing_jax.from_config.recipe import recipe_of
from wing_jax.inference.stage import Stage
from wing_jax.losses import LOSSES
from wing_jax.models import MODELS
from wing_jax.schemes import SCHEMES
from wing_jax.train.data import FaceSource, TrainingData, face_crop_sizes, prepare_data
from wing_jax.train.fit import TrainResult, fit, setup_first, setup_second
from wing_jax.train.run_record import RECORD, read_record, refuse_difference, unreadable, with_free
from wing_jax.train.setup import StageSetup
from wing_jax.train.stages import template_for


def train(config: Config) -> TrainResult:
    """Train as `config` says, going on where an earlier run of it stopped; the model lies in `config.folder / "model"`.

    Raises:
      InputError: data, checkpoints or numbers are not as they must be, the run's folder was begun with another config,
        or another process trains in it.
      TrainingInterrupted: SIGTERM came (`wing_jax.runtime.termination`), and all is saved.
    """
    recipe, record = recipe_of(config), record_of(config, config.folder)  # before the faces, which take longer
    return fit(
        sources_of(config),
        recipe,
        validation=config.data.validation,
        folder=config.folder,
        name=config.name,
        seed=config.seed,
        device_count=config.devices,
        parallel=config.parallel,
        input=config.input,
        processes=config.processes,
        steps_per_call=config.steps_per_call,
        store=config.data.store,
        held_out=held_out_rule(config.data, seed=config.seed),
        record=record,
    )


def sources_of(config: Config) -> list[FaceSource]:
    """The sets of faces that `config` trains on, read. Of the first set given again, the photos that are held out stay
    out.

    Raises:
      InputError: the data are not as they must be.
    """
    faces = _read(config.data, config)
    sources = [FaceSource(faces=faces, copies=config.data.copies, reshaped=config.data.reshaped)]
    for data in config.more:
        scheme = faces.scheme.name if faces.scheme.name in SCHEMES else config.data.scheme
        more = _read(data if data.scheme else dataclasses.replace(data, scheme=scheme), config)
        if (data.name, os.path.realpath(data.root)) == (config.data.name, os.path.realpath(config.data.root)):
            more = more.without(set(faces.split(config.data.validation)[1].photos))
        sources.append(FaceSource(faces=more, copies=data.copies, reshaped=data.reshaped))
    return sources


def read_split(data: DataConfig, split: str, *, count: int, seed: int = 0) -> FaceSet:
    """The `split` of the faces that `data` names, read as it says; `count` and `seed` are of synthetic faces.

    Raises:
      InputError: the data are not as they must be.
    """
    names = ("root", "images", "scheme", "boxes", "occluded", "picture_size")
    return load_faces(data.name, split, **{name: getattr(data, name) for name in names}, count=count, seed=seed)


def held_out_rule(data: DataConfig, *, seed: int) -> HeldOut:
    """What a training on `data` holds out, by the rule alone."""
    rule = HeldOut(data=data.name, validation=data.validation, without=tuple(data.without))
    return dataclasses.replace(rule, faces=data.train_faces, seed=seed) if data.name == "synthetic" else rule


def training_data(config: Config) -> TrainingData:
    """The faces that `config` trains on, cut into face crops.

    Raises:
      InputError: the data are not as they must be.
    """
    recipe = recipe_of(config)
    return prepare_data(
        sources_of(config),
        recipe.stages,
        validation=config.data.validation,
        balance=recipe.balance,
        seed=config.seed,
        store=config.data.store,
        held_out=held_out_rule(config.data, seed=config.seed),
    )


def packed_size(config: Config, shape: ShapeInBox) -> int:
    """Pixels of the face crops that `config` trains on: the best size to pack faces at that lie so in their boxes."""
    return max(face_crop_sizes(recipe_of(config).stages, shape))


def first_setup(config: Config, data: TrainingData) -> StageSetup:
    """The first stage's training."""
    return setup_first(recipe_of(config), data)


def second_setup(config: Config, data: TrainingData, first: Stage | None, mean: Any) -> StageSetup:
    """The second stage's training, behind the trained `first` stage, or None for annotated crops; `mean` is the first
    setup's."""
    recipe = recipe_of(config)
    template = template_for(recipe.stages[1], mean)
    return setup_second(recipe, data, first, template, seed=config.seed, input=config.input)


def record_of(config: Config, folder: Path) -> Mapping[str, Any]:
    """The record of a run of `config` in `folder`: what is there already, if it is of the same config.

    What a loss or a network has by default is the same said or not, and so are fields that a later version of this
    package added.

    Raises:
      InputError: the run was begun with another config, or its record cannot be read.
    """
    path = folder / RECORD
    if not path.exists():
        return _plain(config)
    there = read_record(path)
    try:
        begun = with_defaults(config_of(there, where="its fields"))
    except InputError as error:
        raise unreadable(path, error) from error
    refuse_difference(_plain(begun), _plain(with_defaults(config)), folder)
    return with_free(there, _plain(config))


def with_defaults(config: Config) -> Config:
    """`config` with all parameters of its losses and networks, and the losses' reference sizes.

    Raises:
      InputError: no loss or no network is called so.
    """

    def whole(stage: Any) -> Any:
        loss, model = stage.loss, stage.model
        known = LOSSES[loss.name]
        size = known.reference_size if loss.reference_size is None and known.rescaled else loss.reference_size
        loss = dataclasses.replace(loss, params={**known.parameters, **loss.params}, reference_size=size)
        model = dataclasses.replace(model, params={**MODELS[model.name].parameters, **model.params})
        return dataclasses.replace(stage, loss=loss, model=model)

    stage2 = None if config.stage2 is None else whole(config.stage2)
    return dataclasses.replace(config, stage1=whole(config.stage1), stage2=stage2)


def read_config(path: Path) -> Config | SweepConfig:
    """The config in the record `path` of a run.

    Raises:
      InputError: it cannot be read.
    """
    try:
        return config_of(read_record(path), where="its fields")
    except InputError as error:
        raise unreadable(path, error) from error


def _plain(config: Config) -> dict[str, Any]:
    """The fields as a file has them."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def _read(data: DataConfig, config: Config) -> FaceSet:
    return read_split(data, "train", count=data.train_faces, seed=config.seed).without(data.without)

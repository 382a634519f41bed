"""Training from a config."""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wing_jax.config import Config, DataConfig, SweepConfig
from wing_jax.config_files import config_of
from wing_jax.data.boxes import shape_in_box
from wing_jax.data.face_set import FaceSet
from wing_jax.data.held_out import HeldOut
from wing_jax.data.load import draws_faces, load_faces
from wing_jax.errors import InputError
from wing_jax.from_config.recipe import TRAINED, recipe_of
from wing_jax.inference.stage import Stage
from wing_jax.losses import LOSSES
from wing_jax.models import MODELS
from wing_jax.schemes import SCHEMES
from wing_jax.train.data import FaceSource, TrainingData, face_crop_sizes, margins_of, prepare_data
from wing_jax.train.fit import TrainResult, check_batch, fit, setup_first, setup_second
from wing_jax.train.run_record import RECORD, check_same_values, read_record, unreadable_record, update_free
from wing_jax.train.setup import StageSetup


def train(config: Config) -> TrainResult:
    """Train by `config`, resuming where an earlier run stopped. The model is saved in `config.folder / "model"`.

    Raises:
      InputError: the data, checkpoints or numbers are invalid, the run was started with a different config, or another
        process is training in the folder.
      TrainingInterrupted: SIGTERM arrived (`wing_jax.runtime.termination`), and the state is saved.
    """
    recipe, record = recipe_of(config), record_of(config, config.folder)
    for spec in recipe.stages:  # before reading the faces, which is slow
        check_batch(spec)
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
    """Read the sets of faces that `config` trains on.

    If `config.extra_data` repeats the first set, the photos held out from it are left out there too.

    Raises:
      InputError: the data are invalid.
    """
    faces = _read_train_faces(config.data, config)
    sources = [FaceSource(faces=faces, copies=config.data.copies, reshaped=config.data.reshaped)]
    for data in config.extra_data:
        scheme = faces.scheme.name if faces.scheme.name in SCHEMES else config.data.scheme
        if not data.scheme and data.landmarks == "convert":
            data = dataclasses.replace(data, scheme=scheme)
        more = _read_train_faces(data, config)
        if (data.name, os.path.realpath(data.root)) == (config.data.name, os.path.realpath(config.data.root)):
            more = more.without(set(faces.split(config.data.validation)[1].photos))
        sources.append(FaceSource(faces=more, copies=data.copies, reshaped=data.reshaped))
    return sources


def read_split(data: DataConfig, split: str, *, count: int, seed: int = 0) -> FaceSet:
    """Read a `split` of the faces of `data`; `count` and `seed` are those of synthetic faces.

    Raises:
      InputError: the data are invalid.
    """
    names = ("root", "images", "scheme", "boxes", "occluded", "picture_size")
    return load_faces(data.name, split, **{name: getattr(data, name) for name in names}, count=count, seed=seed)


def held_out_rule(data: DataConfig, *, seed: int) -> HeldOut:
    """Return the rule by which a training run on `data` chooses its validation faces."""
    rule = HeldOut(data=data.name, validation=data.validation, without=tuple(data.exclude))
    return dataclasses.replace(rule, faces=data.train_faces, seed=seed) if draws_faces(data.name) else rule


def training_data(config: Config) -> TrainingData:
    """Read the faces that `config` trains on and cut them into face crops.

    Raises:
      InputError: the data are invalid.
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


def packed_size(config: Config, faces: FaceSet) -> int:
    """Return the size in pixels of the face crops that `config` trains on, for packing `faces`."""
    stages = recipe_of(config).stages
    return max(face_crop_sizes(stages, margins_of(stages, faces), shape_in_box(faces)))


def first_setup(config: Config, data: TrainingData) -> StageSetup:
    """Return the setup of the first stage."""
    return setup_first(recipe_of(config), data)


def second_setup(config: Config, data: TrainingData, first: Stage | None, mean: Any) -> StageSetup:
    """Return the setup of the second stage.

    `first` is the trained first stage, or None for annotated crops; `mean` is that of the first setup.
    """
    return setup_second(recipe_of(config), data, first, data.template(mean), seed=config.seed, input=config.input)


def record_of(config: Config, folder: Path) -> Mapping[str, Any]:
    """Return the record of a run of `config` in `folder`: the existing one, if it is of the same config.

    Defaults of losses and networks compare equal whether the config states them or not, and so do fields that a later
    version of this package has added.

    Raises:
      InputError: the run was started with a different config, or its record cannot be read.
    """
    path = folder / RECORD
    if not path.exists():
        return _to_json(config)
    record = read_record(path)
    try:
        original = with_defaults(config_of(record, location="its fields"))
    except InputError as error:
        raise unreadable_record(path, error) from error
    check_same_values(_to_json(original), _to_json(with_defaults(config)), folder)
    return update_free(record, _to_json(config))


def with_defaults(config: Config) -> Config:
    """Return `config` with all parameters of its losses and networks, and the losses' reference sizes.

    Raises:
      InputError: the name of a loss or network is unknown.
    """

    def complete(stage: Any) -> Any:
        loss, model = stage.loss, stage.model
        entry = LOSSES[loss.name]
        size = entry.reference_size if loss.reference_size is None and entry.rescaled else loss.reference_size
        loss = dataclasses.replace(loss, params={**entry.parameters, **loss.params}, reference_size=size)
        if model.name != TRAINED:
            model = dataclasses.replace(model, params={**MODELS[model.name].parameters, **model.params})
        return dataclasses.replace(stage, loss=loss, model=model)

    stage2 = None if config.stage2 is None else complete(config.stage2)
    return dataclasses.replace(config, stage1=complete(config.stage1), stage2=stage2)


def read_config(path: Path) -> Config | SweepConfig:
    """Read the config in the record `path` of a run.

    Raises:
      InputError: it cannot be read.
    """
    try:
        return config_of(read_record(path), location="its fields")
    except InputError as error:
        raise unreadable_record(path, error) from error


def _to_json(config: Config) -> dict[str, Any]:
    """Convert the config to JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def _read_train_faces(data: DataConfig, config: Config) -> FaceSet:
    return read_split(data, "train", count=data.train_faces, seed=config.seed).without(data.exclude)

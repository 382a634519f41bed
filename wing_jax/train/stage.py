"""One stage's training, from what it is trained on to the trained stage."""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import jax
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Float, Int

from wing_jax import losses
from wing_jax.augment.perturb import supersampling
from wing_jax.config import LENGTHS, Config, LossConfig, StageConfig
from wing_jax.data.chips import Chips
from wing_jax.errors import InputError
from wing_jax.inference.localizer import Stage
from wing_jax.input.cutting import BatchCutter, fixed_crops
from wing_jax.input.device_input import DeviceFaces, DeviceInput, Planner, device_faces
from wing_jax.input.tfdata import training_batches
from wing_jax.models import make_model
from wing_jax.runtime import devices
from wing_jax.schemes import Scheme
from wing_jax.text import quoted
from wing_jax.train.engines import DeviceEngine, Engine, FedEngine
from wing_jax.train.loop import Diverged, Validate, ValidationSet, make_validate, train_network
from wing_jax.train.optimizer import learning_rates, make_optimizer
from wing_jax.train.state import TrainState, init_state
from wing_jax.train.steps import Step, make_objective, make_train_step
from wing_jax.types import Loss
from wing_jax.values import Value

LOG_EVERY = 20  # steps, at least


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class StageTask(Value):
    """What a stage is trained and validated on. Frames are of the unperturbed crops, to pixels of the chips."""

    stage: StageConfig
    number: int
    chips: Chips
    names: tuple[str, ...]  # of the faces' pictures
    frames: Float[np.ndarray, "n draws 2 3"]
    order: Int[np.ndarray, "duplicated"]  # faces of an epoch
    scheme: Scheme
    mean: Float[np.ndarray, "points 2"]  # the mean shape, in fractions of the crop
    validation: Chips
    validation_frames: Float[np.ndarray, "m 2 3"]
    centre: tuple[float, float] = (0.0, 0.0)

    @property
    def network(self) -> dict[str, Any]:
        """Arguments of `make_model` by which the trained stage is kept: always in float32."""
        model = self.stage.model
        return {
            "name": model.name,
            "points": self.scheme.points,
            "channels": model.channels,
            "hidden": model.hidden,
            "norm": model.norm,
            "dropout": model.dropout,
            "residual": model.residual,
            "precision": "float32",
        }

    @property
    def eyes(self) -> tuple[int, int]:
        """The points whose distance normalises the NME that is logged."""
        return self.scheme.left_outer, self.scheme.right_outer

    def model(self, *, axis: str | None = None) -> nn.Module:
        """The network in the precision it is trained in."""
        trained_in: dict[str, Any] = {"precision": devices.precision(self.stage.model.precision), "axis": axis}
        return make_model(**self.network | trained_in)

    def optimizer(self) -> optax.GradientTransformation:
        """The stage's optimiser with its schedule."""
        chosen = self.stage.optimizer
        rates = learning_rates(
            first=chosen.learning_rate,
            last=chosen.final_learning_rate,
            steps=self.stage.steps,
            decay=chosen.decay,
            warmup=chosen.warmup,
        )
        return make_optimizer(
            chosen.name, rates, weight_decay=chosen.weight_decay, momentum=chosen.momentum, clip=chosen.clip
        )

    def state(self, *, seed: int) -> TrainState:
        """The untrained state."""
        stage = self.stage
        return init_state(
            self.model(),
            self.optimizer(),
            seed=seed,
            stage=self.number,
            input_size=stage.input_size,
            mean_shape=self.mean * stage.input_size - 0.5 if stage.model.output_bias == "mean_shape" else None,
            average=stage.optimizer.ema > 0,
        )

    def objective(self, *, seed: int, axis: str | None = None) -> Callable:
        """What a step descends (`wing_jax.train.steps.make_objective`)."""
        return make_objective(
            self.model(axis=axis),
            make_loss(self.stage),
            reduction=self.stage.loss.reduction,
            seed=self.data_seed(seed),
            axis=axis,
        )

    def step(self, *, seed: int, axis: str | None = None, loss: Loss | None = None) -> Step:
        """The training step, not yet compiled; `loss`, in pixels of the crop, instead of the stage's own."""
        return make_train_step(
            self.model(axis=axis),
            self.optimizer(),
            loss or make_loss(self.stage),
            reduction=self.stage.loss.reduction,
            eyes=self.eyes,
            ema=self.stage.optimizer.ema,
            seed=self.data_seed(seed),
            axis=axis,
        )

    def data_seed(self, seed: int) -> int:
        """The seed of all that is drawn for a step, apart for each stage."""
        return 2 * seed + self.number

    def cutter(self, *, seed: int) -> BatchCutter:
        """Batches cut by the host."""
        return BatchCutter(
            chips=self.chips,
            frames=self.frames,
            order=self.order,
            flip=self.scheme.flip,
            perturb=self.stage.perturb,
            size=self.stage.input_size,
            batch_size=self.stage.batch_size,
            seed=self.data_seed(seed),
        )

    def device_input(self, *, seed: int) -> DeviceInput:
        """How batches are made on the device."""
        return DeviceInput(
            perturb=self.stage.perturb,
            size=self.stage.input_size,
            batch_size=self.stage.batch_size,
            supersample=supersampling(self.frames),
            seed=self.data_seed(seed),
        )

    def faces_of(self, step: int, *, seed: int, source: Literal["device", "tfdata"]) -> Int[np.ndarray, "batch"]:
        """Which of the chips the batch of `step` (from 1) shows."""
        if source == "tfdata":
            return self.cutter(seed=seed).faces_of(step - 1)
        return np.asarray(Planner(self.device_input(seed=seed), self.order)(step - 1, 1).index[0])

    def faces(self, *, parts: int = 1) -> DeviceFaces:
        """The training faces for the devices, still on the host."""
        return device_faces(self.chips, self.frames, order=self.order, flip=self.scheme.flip, parts=parts)

    def validate(self, mesh: Mesh) -> Validate:
        """Measures variables on the held-out faces.

        Raises:
          InputError: the crops miss the faces.
        """
        size = self.stage.input_size
        images, points, visible = fixed_crops(self.validation, self.validation_frames, size=size)
        try:
            losses.check_units(points, working_extent=size, visible=visible)
        except ValueError as error:
            raise InputError(
                f"stage {self.number}'s crops miss the faces: see to the boxes and the points: {error}"
            ) from error
        validation = ValidationSet(images=images, points=points, visible=visible)
        return make_validate(self.model(), validation, eyes=self.eyes, mesh=mesh)


def train_stage(task: StageTask, config: Config, mesh: Mesh) -> Stage:
    """Train on the crops that the task's frames place on its chips, or go on where an earlier run stopped."""
    stage, state = task.stage, task.state(seed=config.seed)
    if jax.process_count() > 1:  # so that checkpoints are written and read as arrays of all processes
        state = devices.replicate(state, mesh)
    try:
        variables = train_network(
            config.folder / f"stage{task.number}",
            title=f"stage {task.number}",
            state=state,
            engine=make_engine(task, config, mesh),
            validate=task.validate(mesh),
            steps=stage.steps,
            batch_size=stage.batch_size,
            evaluate_every=stage.evaluate_every,
            log_every=max(LOG_EVERY, calls(config)),
            keep=stage.keep,
        )
    except Diverged as found:
        path = write_record(task, config, found)
        raise InputError(
            f"stage {task.number}: {found}: lower the learning rate or set optimizer.clip, under another --name; the "
            f"checkpoints before it are kept; `wing-jax replay {path}` shows the step and its faces"
        ) from found
    return trained_stage(task, variables)


def write_record(task: StageTask, config: Config, found: Diverged) -> Path:
    """Write which step of which training diverged, on which faces, for `wing_jax.train.replay`."""
    faces = task.faces_of(found.step, seed=config.seed, source=config.input)
    record = {
        "stage": task.number,
        "step": found.step,
        "said": str(found),
        "faces": [{"index": int(index), "picture": task.names[index]} for index in faces],
        "config": dataclasses.asdict(config),
    }
    path = config.folder / f"stage{task.number}" / f"diverged-{found.step}.json"
    if devices.is_first_process():
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return path


def trained_stage(task: StageTask, variables: dict) -> Stage:
    """The stage that predicts with `variables`."""
    return Stage(
        model=make_model(**task.network),
        variables=variables,
        input_size=task.stage.input_size,
        chip_size=task.chips.size,
        margin=task.stage.margin,
        center=task.centre,
    )


def calls(config: Config) -> int:
    """Steps in one program of the device."""
    return config.steps_per_call or devices.steps_per_call()


def make_engine(task: StageTask, config: Config, mesh: Mesh, *, loss: Loss | None = None) -> Engine:
    """Steps with the input that `config` names; `loss`, in pixels of the crop, instead of the stage's own."""
    axis = devices.AXIS if config.parallel == "pmap" else None
    step = task.step(seed=config.seed, axis=axis, loss=loss)
    if config.input == "device":
        source, faces = task.device_input(seed=config.seed), task.faces(parts=mesh.size)
        return DeviceEngine(step, source, faces, mesh=mesh, parallel=config.parallel, steps_per_call=calls(config))
    stream = functools.partial(_stream, task.cutter(seed=config.seed), task.stage.steps)
    return FedEngine(step, stream, mesh=mesh, parallel=config.parallel)


def _stream(cutter: BatchCutter, last_step: int, first_step: int) -> Iterator[Any]:
    parts = {"part": jax.process_index(), "parts": jax.process_count()}
    return training_batches(cutter, first_step=first_step, last_step=last_step, **parts)


def given_lengths(loss: LossConfig) -> dict[str, float]:
    """The parameters that `loss` gives, in pixels of its reference size; the others have the loss's defaults."""
    return {name: value for name in LENGTHS if (value := getattr(loss, name)) is not None}


def make_loss(stage: StageConfig) -> Loss:
    """The stage's loss, its lengths rescaled from pixels of its reference size to pixels of the stage's crop.

    Raises:
      InputError: the loss does not take these lengths.
    """
    try:
        return losses.make_loss(
            stage.loss.name,
            reference_size=stage.loss.reference_size,
            working_extent=float(stage.input_size),
            **given_lengths(stage.loss),
        )
    except (TypeError, ValueError) as error:
        raise InputError(f"loss {quoted(stage.loss.name)}: {error}") from error

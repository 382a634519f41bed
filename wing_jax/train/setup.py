"""The training of one stage: its setup (`StageSetup`) and its run (`train_stage`)."""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Float, Int

from wing_jax import losses
from wing_jax.augment import Augmentation
from wing_jax.augment.geometric import supersampling
from wing_jax.choices import Input, Parallel
from wing_jax.data.face_crops import FaceCrops
from wing_jax.errors import InputError
from wing_jax.geometry import crop_pixels
from wing_jax.inference.stage import Stage
from wing_jax.input.on_device import DeviceInput, TrainingFaces, splits_images, training_faces
from wing_jax.input.on_host import HostInput, fixed_crops
from wing_jax.input.sampling import EpochSampler
from wing_jax.input.tfdata import training_batches
from wing_jax.models.networks import Network, as_network, shapes_of
from wing_jax.runtime import devices
from wing_jax.runtime.devices import AXIS
from wing_jax.schemes import Scheme
from wing_jax.train.heads import join_schemes
from wing_jax.train.loop import DivergedError, LoopResult, Schedule, Validate, make_validate, train_network
from wing_jax.train.replicas import Replicas
from wing_jax.train.runners import DeviceInputRunner, HostInputRunner, Runner
from wing_jax.train.spec import Callback, StageSpec, training_model
from wing_jax.train.start import Started, find_source, match_arrays, train_parts
from wing_jax.train.state import TrainState, init_state
from wing_jax.train.steps import Step, make_objective, make_train_step
from wing_jax.types import Batch
from wing_jax.values import Value

LOG_EVERY = 20  # least number of steps between two log lines


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TrainSettings:
    """How a training run is computed. All but the seed and the callbacks affect the result only through rounding."""

    mesh: Mesh
    seed: int = 0
    parallel: Parallel = "jit"
    input: Input = "device"
    steps_per_call: int = 0  # 0: 1 on CPU, 250 on GPU and TPU
    callbacks: Sequence[Callback] = ()
    quiet: bool = False

    @property
    def steps_a_program(self) -> int:
        """Steps in one program of the device."""
        return self.steps_per_call or devices.steps_per_call()

    @property
    def replicas(self) -> Replicas:
        """The devices that share each batch."""
        return Replicas(self.mesh, parallel=self.parallel)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class StageSetup(Value):
    """The data and model of one stage.

    `transforms` are those of the crops before augmentation, from pixels of the crop to pixels of the face crop.
    """

    spec: StageSpec
    model: Any  # built by the spec for the scheme's number of points
    augment: tuple[Augmentation, ...]
    margin: float
    number: int
    face_crops: FaceCrops
    names: tuple[str, ...]  # names of the faces' pictures
    transforms: Float[np.ndarray, "n crops_per_face 2 3"]
    order: Int[np.ndarray, "duplicated"]  # face indices of an epoch, with duplicates
    heads: tuple[Scheme, ...]  # the schemes of the sets
    mean: Float[np.ndarray, "points 2"]  # the mean shape, in fractions of the crop
    validation: FaceCrops
    validation_transforms: Float[np.ndarray, "m 2 3"]
    center: tuple[float, float] = (0.0, 0.0)

    @functools.cached_property
    def scheme(self) -> Scheme:
        """The scheme of the network's points: those of all heads."""
        return join_schemes(self.heads)

    @property
    def eyes(self) -> tuple[int, int]:
        """The two points whose distance normalizes the logged NME."""
        return self.scheme.left_outer, self.scheme.right_outer

    def network(self, *, axis: str | None = None) -> Network:
        """Return the network in its training precision; with `axis`, for one replica."""
        return as_network(training_model(self.model, precision=self.spec.precision, axis=axis))

    @functools.cached_property
    def optimizer(self) -> optax.GradientTransformation:
        """The stage's optimizer with its schedule, and with the learning rates of its start."""
        optimizer = self.spec.build_optimizer()
        return optimizer if self.started is None else train_parts(optimizer, self.spec.start, self.started)

    @functools.cached_property
    def started(self) -> Started | None:
        """The arrays of the trained model that the stage starts from; None if it starts from none.

        Raises:
          InputError: the trained model cannot be loaded or does not fit, or a pattern matches no parameter.
        """
        start = self.spec.start
        if start is None:
            return None
        shapes = shapes_of(self.network(), input_size=self.spec.input_size, points=self.scheme.points)
        mean = np.asarray(crop_pixels(self.mean, size=self.spec.input_size))
        source = find_source(start, heads=self.heads, mean=mean, number=self.number)
        return match_arrays(shapes, source, start, number=self.number)

    def state(self, *, seed: int) -> TrainState:
        """Return the state before the first step; the parameters that no trained model gives depend on `seed`."""
        size = self.spec.input_size
        return init_state(
            self.network(),
            self.optimizer,
            seed=seed,
            stage=self.number,
            input_size=size,
            start=np.asarray(crop_pixels(self.mean, size=size)) if self.spec.output_bias == "mean_shape" else None,
            average=self.spec.ema > 0,
            arrays=None if self.started is None else self.started.arrays,
        )

    def objective(self, *, seed: int, axis: str | None = None) -> Callable:
        """Return the function that a step minimizes (`wing_jax.train.steps.make_objective`)."""
        return make_objective(
            self.network(axis=axis),
            self.spec.scaled_loss(),
            reduction=self.spec.reduction,
            seed=self.data_seed(seed),
            axis=axis,
        )

    def step(self, *, seed: int, axis: str | None = AXIS) -> Step:
        """Return the training step, not compiled."""
        return make_train_step(
            self.network(axis=axis),
            self.optimizer,
            self.spec.scaled_loss(),
            reduction=self.spec.reduction,
            eyes=self.eyes,
            ema=self.spec.ema,
            seed=self.data_seed(seed),
            axis=axis,
        )

    def data_seed(self, seed: int) -> int:
        """Return the seed of this stage's shuffling, augmentation and dropout."""
        return 2 * seed + self.number

    def host_input(self, *, seed: int) -> HostInput:
        """Return the input that makes batches on the host."""
        return HostInput(
            face_crops=self.face_crops,
            crop_to_image=self.transforms,
            order=self.order,
            flip=self.scheme.flip,
            augment=self.augment,
            size=self.spec.input_size,
            batch_size=self.spec.batch_size,
            seed=self.data_seed(seed),
        )

    def device_input(self, *, seed: int) -> DeviceInput:
        """Return the input that makes batches on the device."""
        return DeviceInput(
            augment=self.augment,
            size=self.spec.input_size,
            image_size=self.face_crops.size,
            batch_size=self.spec.batch_size,
            supersample=supersampling(self.transforms),
            seed=self.data_seed(seed),
            split=splits_images(len(self.face_crops.images) * 3 * self.face_crops.size**2),
        )

    def faces_of(self, step: int, *, seed: int) -> Int[np.ndarray, "batch"]:
        """Return the indices of the face crops in the batch of `step` (from 1), the same for both inputs."""
        sampler = EpochSampler(self.order, batch_size=self.spec.batch_size, seed=self.data_seed(seed))
        return np.asarray(sampler(step - 1, 1).index[0])

    def faces(self, *, parts: int = 1) -> TrainingFaces:
        """Return the training faces for the on-device input, in host memory."""
        return training_faces(self.face_crops, self.transforms, order=self.order, flip=self.scheme.flip, parts=parts)

    def validation_crops(self) -> Batch:
        """Return the crops of the validation faces.

        Raises:
          InputError: the crops miss the faces.
        """
        batch = fixed_crops(self.validation, self.validation_transforms, size=self.spec.input_size)
        try:
            losses.check_units(batch.points, working_extent=self.spec.input_size, visible=batch.visible)
        except ValueError as error:
            raise InputError(
                f"stage {self.number}'s crops miss the faces: check the boxes and the points: {error}"
            ) from error
        return batch

    def validate(self, mesh: Mesh) -> Validate:
        """Return the function that validates variables on the validation faces.

        Raises:
          InputError: the crops miss the faces.
        """
        return make_validate(self.network(), self.validation_crops(), eyes=self.eyes, mesh=mesh)

    def trained(self, variables: dict) -> Stage:
        """Return the stage with these trained `variables`."""
        return Stage(
            model=self.model,
            variables=variables,
            input_size=self.spec.input_size,
            face_crop_size=self.face_crops.size,
            margin=self.margin,
            center=self.center,
        )


def train_stage(
    setup: StageSetup, settings: TrainSettings, *, folder: Path | None, record: Mapping[str, Any] | None = None
) -> LoopResult:
    """Train a stage, resuming from the newest checkpoint in `folder` if there is one.

    `record` is the run's config. If the training diverges, it is written to a file for `wing-jax replay`.

    Raises:
      InputError: the training run diverged, or its checkpoints or log cannot be used.
      TrainingInterrupted: SIGTERM arrived, and the state is saved.
    """
    spec, state = setup.spec, setup.state(seed=settings.seed)
    if jax.process_count() > 1:  # so that checkpoints contain arrays of all processes
        state = devices.replicate(state, settings.mesh)
    stage_folder = None if folder is None else folder / f"stage{setup.number}"
    try:
        return train_network(
            stage_folder,
            state=state,
            runner=make_runner(setup, settings),
            validate=setup.validate(settings.mesh),
            schedule=Schedule(
                stage=setup.number,
                steps=spec.steps,
                batch_size=spec.batch_size,
                evaluate_every=spec.validation_steps,
                log_every=max(LOG_EVERY, settings.steps_a_program),
                keep=spec.keep_checkpoints,
            ),
            callbacks=settings.callbacks,
            quiet=settings.quiet,
        )
    except DivergedError as error:
        message = f"stage {setup.number}: {error}: lower optimizer.learning_rate or set optimizer.clip"
        if stage_folder is None or record is None:
            raise InputError(message) from error
        path = write_divergence(setup, error, stage_folder, record, seed=settings.seed)
        raise InputError(
            f"{message}, and pass a new --name; earlier checkpoints are kept; `wing-jax replay {path}` shows the "
            "step and its faces"
        ) from error


def write_divergence(
    setup: StageSetup, error: DivergedError, folder: Path, record: Mapping[str, Any], *, seed: int
) -> Path:
    """Write the step at which a training run diverged, and its faces, to a file for `wing_jax.from_config.replay`."""
    faces = setup.faces_of(error.step, seed=seed)
    table = {
        "stage": setup.number,
        "step": error.step,
        "message": str(error),
        "faces": [{"index": int(index), "picture": setup.names[index]} for index in faces],
        "config": dict(record),
    }
    path = folder / f"diverged-{error.step}.json"
    if devices.is_first_process():
        path.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return path


def make_runner(setup: StageSetup, settings: TrainSettings) -> Runner:
    """Return the runner for the input of the settings."""
    step = setup.step(seed=settings.seed)
    if settings.input == "device":
        return DeviceInputRunner(
            step,
            setup.device_input(seed=settings.seed),
            setup.faces(parts=settings.mesh.size),
            replicas=settings.replicas,
            steps_per_call=settings.steps_a_program,
        )
    stream = functools.partial(_stream, setup.host_input(seed=settings.seed), setup.spec.steps)
    return HostInputRunner(step, stream, replicas=settings.replicas)


def _stream(batches: HostInput, last_step: int, first_step: int) -> Iterator[Batch]:
    parts = {"part": jax.process_index(), "parts": jax.process_count()}
    return training_batches(batches, first_step=first_step, last_step=last_step, **parts)

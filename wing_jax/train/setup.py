"""One stage's training, from what it is trained on to the trained stage."""

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
from wing_jax.input.on_device import DeviceInput, training_faces
from wing_jax.input.on_host import HostInput, fixed_crops
from wing_jax.input.sampling import EpochSampler, TrainingFaces
from wing_jax.input.tfdata import training_batches
from wing_jax.models.networks import Network, as_network
from wing_jax.runtime import devices
from wing_jax.runtime.devices import AXIS
from wing_jax.schemes import Scheme
from wing_jax.train.loop import DivergedError, Schedule, Trained, Validate, make_validate, train_network
from wing_jax.train.replicas import Replicas
from wing_jax.train.runners import DeviceInputRunner, HostInputRunner, Runner
from wing_jax.train.spec import Callback, StageSpec, training_model
from wing_jax.train.state import TrainState, init_state
from wing_jax.train.steps import Step, make_objective, make_train_step
from wing_jax.types import Batch
from wing_jax.values import Value

LOG_EVERY = 20  # steps, at least


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TrainSettings:
    """How a training is computed. None of it changes what is trained, but for rounding."""

    mesh: Mesh
    seed: int = 0
    parallel: Parallel = "jit"
    input: Input = "device"
    steps_per_call: int = 0  # steps in one program of the device; 0: 1 on CPU, 250 on GPU and TPU
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
    """What a stage is trained and validated on. `frames` are of the crops without augmentation, to pixels of the
    face crops."""

    spec: StageSpec
    model: Any  # as the spec builds it for the scheme's points
    augment: tuple[Augmentation, ...]
    margin: float
    number: int
    face_crops: FaceCrops
    names: tuple[str, ...]  # of the faces' pictures
    transforms: Float[np.ndarray, "n draws 2 3"]
    order: Int[np.ndarray, "duplicated"]  # faces of an epoch
    scheme: Scheme
    mean: Float[np.ndarray, "points 2"]  # the mean shape, in fractions of the crop
    validation: FaceCrops
    validation_transforms: Float[np.ndarray, "m 2 3"]
    center: tuple[float, float] = (0.0, 0.0)

    @property
    def eyes(self) -> tuple[int, int]:
        """The points whose distance normalizes the NME that is logged."""
        return self.scheme.left_outer, self.scheme.right_outer

    def network(self, *, axis: str | None = None) -> Network:
        """The network in the precision it is trained in; with `axis` that of one replica."""
        return as_network(training_model(self.model, precision=self.spec.precision, axis=axis))

    @functools.cached_property
    def optimizer(self) -> optax.GradientTransformation:
        """The stage's optimizer with its schedule."""
        return self.spec.build_optimizer()

    def state(self, *, seed: int) -> TrainState:
        """The untrained state."""
        size = self.spec.input_size
        return init_state(
            self.network(),
            self.optimizer,
            seed=seed,
            stage=self.number,
            input_size=size,
            start=np.asarray(crop_pixels(self.mean, size=size)) if self.spec.start == "mean_shape" else None,
            average=self.spec.ema > 0,
        )

    def objective(self, *, seed: int, axis: str | None = None) -> Callable:
        """What a step descends (`wing_jax.train.steps.make_objective`)."""
        return make_objective(
            self.network(axis=axis),
            self.spec.scaled_loss(),
            reduction=self.spec.reduction,
            seed=self.data_seed(seed),
            axis=axis,
        )

    def step(self, *, seed: int, axis: str | None = AXIS) -> Step:
        """The training step, not yet compiled."""
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
        """The seed of all that is drawn for a step, apart for each stage."""
        return 2 * seed + self.number

    def host_input(self, *, seed: int) -> HostInput:
        """How batches are made on the host."""
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
        """How batches are made on the device."""
        return DeviceInput(
            augment=self.augment,
            size=self.spec.input_size,
            batch_size=self.spec.batch_size,
            supersample=supersampling(self.transforms),
            seed=self.data_seed(seed),
        )

    def faces_of(self, step: int, *, seed: int) -> Int[np.ndarray, "batch"]:
        """Which of the face crops the batch of `step` (from 1) shows, by either input."""
        sampler = EpochSampler(self.order, batch_size=self.spec.batch_size, seed=self.data_seed(seed))
        return np.asarray(sampler(step - 1, 1).index[0])

    def faces(self, *, parts: int = 1) -> TrainingFaces:
        """The training faces for the devices, still on the host."""
        return training_faces(self.face_crops, self.transforms, order=self.order, flip=self.scheme.flip, parts=parts)

    def validation_crops(self) -> Batch:
        """The held-out faces' crops.

        Raises:
          InputError: the crops miss the faces.
        """
        batch = fixed_crops(self.validation, self.validation_transforms, size=self.spec.input_size)
        try:
            losses.check_units(batch.points, working_extent=self.spec.input_size, visible=batch.visible)
        except ValueError as error:
            raise InputError(
                f"stage {self.number}'s crops miss the faces: see to the boxes and the points: {error}"
            ) from error
        return batch

    def validate(self, mesh: Mesh) -> Validate:
        """Measures variables on the held-out faces.

        Raises:
          InputError: the crops miss the faces.
        """
        return make_validate(self.network(), self.validation_crops(), eyes=self.eyes, mesh=mesh)

    def trained(self, variables: dict) -> Stage:
        """The stage that predicts with `variables`."""
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
) -> Trained:
    """Train on the crops that the setup's frames place on its face crops, or go on where an earlier run in `folder`
    stopped. `record` is what is written of the training where it diverges, for `wing-jax replay`."""
    spec, state = setup.spec, setup.state(seed=settings.seed)
    if jax.process_count() > 1:  # so that checkpoints are written and read as arrays of all processes
        state = devices.replicate(state, settings.mesh)
    place = None if folder is None else folder / f"stage{setup.number}"
    try:
        return train_network(
            place,
            state=state,
            runner=make_runner(setup, settings),
            validate=setup.validate(settings.mesh),
            schedule=Schedule(
                stage=setup.number,
                steps=spec.steps,
                batch_size=spec.batch_size,
                evaluate_every=spec.validation_steps,
                log_every=max(LOG_EVERY, settings.steps_a_program),
                keep=spec.keep,
            ),
            callbacks=settings.callbacks,
            quiet=settings.quiet,
        )
    except DivergedError as found:
        said = f"stage {setup.number}: {found}: lower the learning rate or clip the gradient"
        if place is None or record is None:
            raise InputError(said) from found
        path = write_divergence(setup, found, place, record, seed=settings.seed)
        raise InputError(
            f"{said}, under another --name; the checkpoints before it are kept; `wing-jax replay {path}` shows the "
            "step and its faces"
        ) from found


def write_divergence(
    setup: StageSetup, found: DivergedError, place: Path, record: Mapping[str, Any], *, seed: int
) -> Path:
    """Write which step of which training diverged, on which faces, for `wing_jax.train.replay`."""
    faces = setup.faces_of(found.step, seed=seed)
    table = {
        "stage": setup.number,
        "step": found.step,
        "said": str(found),
        "faces": [{"index": int(index), "picture": setup.names[index]} for index in faces],
        "config": dict(record),
    }
    path = place / f"diverged-{found.step}.json"
    if devices.is_first_process():
        path.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return path


def make_runner(setup: StageSetup, settings: TrainSettings) -> Runner:
    """Steps with the input that the settings name."""
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

"""`fit`: train one or two stages on faces in memory, with or without a folder. The loop is `wing_jax.train.loop`."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import jax
import numpy as np
from jax.sharding import Mesh

from wing_jax.augment import Augmentation
from wing_jax.balance import Balance
from wing_jax.choices import Input, Parallel, Store
from wing_jax.data.face_set import FaceSet
from wing_jax.data.held_out import HeldOut
from wing_jax.errors import InputError
from wing_jax.inference.localizer import Localizer
from wing_jax.inference.stage import Stage
from wing_jax.models import cpu_kernel
from wing_jax.models.networks import as_network, shapes_of
from wing_jax.runtime import devices, memory
from wing_jax.text import quoted
from wing_jax.train import stages as setups
from wing_jax.train.data import FaceSource, TrainingData, prepare_data
from wing_jax.train.logs import Row
from wing_jax.train.run_record import describe, refuse_another, write_record
from wing_jax.train.setup import StageSetup, TrainSettings, train_stage
from wing_jax.train.spec import Callback, Recipe, StageSpec, usual_augmentations
from wing_jax.values import Value

# What `fit` takes, to a type checker anything: it says itself what is wrong.
FacesLike: TypeAlias = Any  # FaceSet | FaceSource | Sequence[FaceSet | FaceSource]
StagesLike: TypeAlias = Any  # Recipe | StageSpec | Sequence[StageSpec]
FRACTION = 0.05  # of the photos, held out for validation
FEWEST = 8  # photos held out where that would be fewer, but at most a quarter of them


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TrainResult(Value):
    """What a training leaves.

    `history` holds a dict for each step that was logged: "stage", "step", "loss", "nme" (fraction of the inter-ocular
    distance, on the training crops), "faces_per_second", and after each measurement "validation_nme" (fraction).

    Args:
      localizer: of the best checkpoint of each stage.
      history: as above.
      folder: where checkpoints, logs and the model lie; None: nothing was written.
      interrupted: Ctrl-C ended the training early; the localizer is the best until then.

    >>> import wing_jax as wj
    >>> stage = wj.StageSpec(model=wj.models.TINY, input_size=32, steps=2, batch_size=8)
    >>> result = wj.fit(wj.load_faces("synthetic", count=24), stage, quiet=True, device_count=1)
    >>> result.interrupted, 0 < result.validation_nme < 1
    (False, True)
    """

    localizer: Localizer
    history: tuple[Row, ...]
    folder: Path | None = None
    interrupted: bool = False

    @property
    def validation_nme(self) -> float:
        """The lowest validation NME (fraction) of the last stage; NaN where none was measured."""
        last = max((row["stage"] for row in self.history), default=0)
        measured = [row["validation_nme"] for row in self.history if row["stage"] == last and "validation_nme" in row]
        return min(measured, default=float("nan"))


def fit(
    faces: FacesLike,
    stages: StagesLike,
    *,
    augment: Sequence[Augmentation] | None = None,
    balance: Balance | None = None,
    validation: float | FaceSet | None = None,
    folder: str | Path | None = None,
    name: str = "model",
    seed: int = 0,
    callbacks: Sequence[Callback] = (),
    quiet: bool = False,
    device_count: int = 0,
    parallel: Parallel = "jit",
    input: Input = "device",
    processes: str = "one",
    steps_per_call: int = 0,
    store: Store = "pixels",
    held_out: HeldOut | None = None,
    record: Mapping[str, Any] | None = None,
) -> TrainResult:
    """Train a localizer.

    Args:
      faces: a `FaceSet`, a `FaceSource`, or a list of them; several sets must have the same points and kind of boxes.
      stages: one or two `StageSpec`s, or a recipe (`wing_jax.presets`). The second works on crops
        that the first has turned upright and centered.
      augment: the augmentations of all stages that have none of their own; None: the usual ones.
      balance: how often each face comes in an epoch, such as `wing_jax.balance.hsm()`; None: as the recipe says.
      validation: the share of the photos that is held out to choose the best checkpoint, or faces for it. None: 5 %,
        and of small sets about eight photos.
      folder: where checkpoints, logs and the model are written; a training that was stopped goes on from there.
        None: nothing is written.
      name: what the model is called.
      seed: of the first parameters and of all that is drawn.
      callbacks: functions of a `Progress`, called whenever values are logged; one that returns True ends its stage.
      quiet: print no progress.
      device_count: devices to train on; 0: all.
      parallel: "jit" (with `shard_map`) or "pmap".
      input: "device": the faces lie in device memory and each step makes its own batch. "tfdata": for faces that do
        not fit there. One seed gives the same training by either, but for rounding of pixels.
      processes: "many": every process of a cluster makes this call (docs/how-to/accelerators.md).
      steps_per_call: steps in one program of the device; 0: 1 on CPU, 250 on GPU and TPU.
      store: the faces in host memory, as "pixels" or "jpeg" (for large sets, with input="tfdata").
      held_out: how the validation faces are chosen, as the model records it; None: by `validation`.
      record: plain values by which a training in `folder` is known again; None: what can be said of the arguments.

    Returns:
      The localizer with the best checkpoint of each stage, and the history. Ctrl-C ends the training after the running
      steps; the result then has what there is, and `interrupted` is True.

    Raises:
      InputError: an argument is not as it must be, the folder holds another training, a number went out of hand
        (loss, gradient or validation are not finite), or another process trains in the folder.
      TrainingInterrupted: SIGTERM came while the command line handles it, and all is saved.

    >>> import optax, wing_jax as wj
    >>> faces = wj.load_faces("synthetic", count=24)
    >>> stage = wj.StageSpec(model=wj.models.TINY, optimizer=optax.adam(1e-3), input_size=32, steps=2, batch_size=8)
    >>> result = wj.fit(faces, stage, quiet=True, device_count=1)
    >>> result.localizer.scheme.points, result.history[-1]["step"], result.folder
    (68, 2, None)
    """
    recipe = _recipe(stages, augment, balance)
    sources = _sources(faces)
    with devices.usual_settings():
        mesh = prepare_devices(device_count, processes=processes, parallel=parallel)
        settings = TrainSettings(
            mesh=mesh,
            seed=seed,
            parallel=parallel,
            input=input,
            steps_per_call=steps_per_call,
            callbacks=tuple(callbacks),
            quiet=quiet,
        )
        for number, spec in enumerate(recipe.stages, 1):
            check_stage(spec, number, sources[0].faces.scheme.points, mesh)
        folder = None if folder is None else Path(folder)
        known = describe(recipe, sources, seed=seed) if record is None else record
        with contextlib.ExitStack() as held:
            if folder is not None:
                refuse_another(known, folder)
                held.enter_context(devices.ended_with_the_others())
            data = prepare_data(
                sources,
                recipe.stages,
                validation=_validation(validation, sources[0].faces),
                balance=recipe.balance,
                seed=seed,
                store=store,
                held_out=held_out,
            )
            if folder is not None:
                held.enter_context(devices.only_trainer(folder))
                write_record(known, folder)
            return _train(recipe, data, settings, folder, name=name, record=record)


def _train(
    recipe: Recipe,
    data: TrainingData,
    settings: TrainSettings,
    folder: Path | None,
    *,
    name: str,
    record: Mapping[str, Any] | None,
) -> TrainResult:
    trained: tuple[Stage, ...] = ()
    history: list[Row] = []
    template, interrupted = None, False
    for number in range(1, len(recipe.stages) + 1):
        if template is None:
            setup = setup_first(recipe, data)
            template = setup.mean
        else:
            template = setups.template_for(recipe.stages[1], template)
            setup = setup_second(recipe, data, trained[0], template, seed=settings.seed, input=settings.input)
        outcome = train_stage(setup, settings, folder=folder, record=record)
        trained = (*trained, setup.trained(outcome.variables))
        history += [{"stage": number, **row} for row in outcome.history]
        interrupted = outcome.interrupted
        if interrupted:
            break
    assert template is not None
    localizer = data.localizer(trained, template, name=name)
    if folder is not None and not interrupted and devices.is_first_process():
        localizer.save(folder / "model")
    return TrainResult(localizer=localizer, history=tuple(history), folder=folder, interrupted=interrupted)


def setup_first(recipe: Recipe, data: TrainingData) -> StageSetup:
    """The first stage's training by the recipe."""
    return setups.first_setup(recipe.stages[0], data, augment=_augment(recipe, 1))


def setup_second(
    recipe: Recipe, data: TrainingData, first: Stage | None, template: np.ndarray, *, seed: int, input: Input = "device"
) -> StageSetup:
    """The second stage's training by the recipe, behind the trained `first` stage, or None for annotated crops."""
    return setups.second_setup(
        recipe.stages[1],
        data,
        first,
        template,
        augment=_augment(recipe, 2),
        first_augment=_augment(recipe, 1),
        seed=seed,
        input=input,
    )


def prepare_devices(count: int, *, processes: str = "one", parallel: Parallel = "jit") -> Mesh:
    """The devices to train on, of all processes, with the settings of XLA that suit them, where JAX has not started
    yet. On a CPU the kernel is loaded, and built where it is not yet, so that all programs of a training have it
    (`wing_jax.models.cpu_kernel`).

    Raises:
      InputError: there are fewer devices, or `WING_JAX_CPU_KERNEL` asks for instructions that are not there.
    """
    if processes == "many":
        devices.join_processes()
        if parallel == "pmap" or count:
            raise InputError('processes="many" trains by parallel="jit" on all devices: leave both as they are')
    devices.prepare_xla()
    mesh = devices.make_mesh(count)
    cpu_kernel.load()
    return mesh


def check_stage(spec: StageSpec, number: int, points: int, mesh: Mesh) -> None:
    """Raises InputError for a stage that cannot be trained, or takes more memory than there is, before any work."""
    devices.check_divides(spec.batch_size, mesh)
    memory.refuse_beyond(
        12 * spec.batch_size * spec.input_size**2,  # float32, RGB
        what=f"a batch of {spec.batch_size:,} crops of {spec.input_size:,} x {spec.input_size:,} pixels",
        fix="set batch_size or input_size lower",
    )
    network = as_network(spec.build_model(points))
    variables = shapes_of(network, input_size=spec.input_size, points=points)
    memory.refuse_beyond(
        sum(np.dtype(leaf.dtype).itemsize * leaf.size for leaf in jax.tree.leaves(variables)),
        what=f"the model of stage {number} on {spec.input_size:,} pixels",
        fix="set input_size lower, or give the model fewer parameters",
    )


def _recipe(stages: Any, augment: Sequence[Augmentation] | None, balance: Balance | None) -> Recipe:
    recipe = stages if isinstance(stages, Recipe) else Recipe(stages=_listed(stages, StageSpec, "stages"))
    specs = _listed(recipe.stages, StageSpec, "stages")
    if not 1 <= len(specs) <= 2:
        raise InputError(f"stages: {len(specs)} were given: give one or two StageSpecs")
    if augment is not None:
        specs = [dataclasses.replace(spec, augment=spec.augment or augment) for spec in specs]
    return Recipe(stages=tuple(specs), balance=recipe.balance if balance is None else balance)


def _sources(faces: Any) -> list[FaceSource]:
    given = _listed(faces, FaceSet | FaceSource, "faces")
    sources = [one if isinstance(one, FaceSource) else FaceSource(faces=one) for one in given]
    if not sources:
        raise InputError("faces: none were given: give a FaceSet")
    return sources


def _listed(value: Any, kind: Any, name: str) -> list[Any]:
    """`value` as a list, if it holds what it must."""
    values = [value] if isinstance(value, kind) else value
    wanted = "FaceSets (wing_jax.load_faces, FaceSet.from_arrays)" if name == "faces" else "StageSpecs or a Recipe"
    if not isinstance(values, Sequence) or isinstance(values, str) or not all(isinstance(one, kind) for one in values):
        raise InputError(f"{name}={quoted(value)}: give {wanted}")
    return list(values)


def _augment(recipe: Recipe, number: int) -> tuple[Augmentation, ...]:
    own = recipe.stages[number - 1].augment
    return usual_augmentations(number) if own is None else tuple(own)


def _validation(validation: float | FaceSet | None, faces: FaceSet) -> float | FaceSet:
    if validation is not None:
        if not isinstance(validation, FaceSet) and not 0 < validation < 1:
            raise InputError(f"validation={quoted(validation)}: give a share between 0 and 1, or a FaceSet")
        return validation
    photos = len(set(faces.photos))
    return faces.share_of_photos(max(round(FRACTION * photos), min(FEWEST, photos // 4), 1))

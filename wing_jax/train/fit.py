"""`fit`: train one or two stages on faces in memory, with or without a folder. `wing_jax.train.loop` has the loop."""

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
from wing_jax.choices import Input, Parallel, Processes, Store
from wing_jax.data.face_set import FaceSet
from wing_jax.data.held_out import HeldOut
from wing_jax.errors import InputError
from wing_jax.inference.localizer import Localizer
from wing_jax.inference.stage import Stage
from wing_jax.models import cpu_kernel
from wing_jax.models.networks import as_network, shapes_of
from wing_jax.runtime import devices, memory
from wing_jax.runtime.console import make_console, say
from wing_jax.runtime.parameters import check_choice
from wing_jax.text import quoted
from wing_jax.train import stages as setups
from wing_jax.train.data import FaceSource, TrainingData, prepare_data
from wing_jax.train.heads import list_schemes
from wing_jax.train.logs import Row
from wing_jax.train.run_record import check_same_record, describe, write_record
from wing_jax.train.setup import StageSetup, TrainSettings, train_stage
from wing_jax.train.spec import Callback, Recipe, StageSpec, default_augmentations
from wing_jax.values import Value

# Any to a type checker: `fit` checks these arguments at run time, with messages that say what to pass.
FacesLike: TypeAlias = Any  # FaceSet | FaceSource | Sequence[FaceSet | FaceSource]
StagesLike: TypeAlias = Any  # Recipe | StageSpec | Sequence[StageSpec]
FRACTION = 0.05  # share of the photos that is held out for validation
FEWEST = 8  # least number of held-out photos, but at most a quarter of all photos


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TrainResult(Value):
    """A trained localizer and the history of its training.

    Args:
      localizer: the model, with the best checkpoint of each stage.
      history: a dict for each logged step: "stage", "step", "loss", "nme" (on the training crops, as a fraction of the
        inter-ocular distance), "faces_per_second", and after each validation "validation_nme" (fraction).
      heads: after training on sets with different landmarks: the localizers of the other schemes, by their names.
      folder: the folder of the checkpoints, logs and model; None: nothing was written.
      interrupted: True if Ctrl-C ended the training early; the localizer is then the best one up to that point.

    >>> import wing_jax as wj
    >>> stage = wj.StageSpec(model=wj.models.TINY, input_size=32, steps=2, batch_size=8)
    >>> result = wj.fit(wj.load_faces("synthetic", count=24), stage, quiet=True, device_count=1)
    >>> result.interrupted, 0 < result.validation_nme < 1
    (False, True)
    """

    localizer: Localizer
    history: tuple[Row, ...]
    heads: Mapping[str, Localizer] = dataclasses.field(default_factory=dict)
    folder: Path | None = None
    interrupted: bool = False

    @property
    def validation_nme(self) -> float:
        """The lowest validation NME (fraction) of the last stage; NaN if none was measured."""
        last = max((row["stage"] for row in self.history), default=0)
        measured = [row["validation_nme"] for row in self.history if row["stage"] == last and "validation_nme" in row]
        return min(measured, default=float("nan"))


def fit(
    faces: FacesLike,
    stages: StagesLike,
    *,
    augment: Sequence[Augmentation] | None = None,
    balance: Balance | None = None,
    start: Any = None,
    validation: float | FaceSet | None = None,
    folder: str | Path | None = None,
    name: str = "model",
    seed: int = 0,
    callbacks: Sequence[Callback] = (),
    quiet: bool = False,
    device_count: int = 0,
    parallel: Parallel = "jit",
    input: Input = "device",
    processes: Processes = "one",
    steps_per_call: int = 0,
    store: Store = "pixels",
    held_out: HeldOut | None = None,
    record: Mapping[str, Any] | None = None,
) -> TrainResult:
    """Train a localizer with one or two stages.

    With a `folder`, training resumes from the newest checkpoint in it. Ctrl-C ends the training after the current
    steps and returns the stages trained so far.

    Args:
      faces: a `FaceSet`, a `FaceSource`, or a list of them. The localizer predicts the landmarks of the first set.
        A set with other landmarks is learned by a head of its own (`TrainResult.heads`); its boxes are converted to
        the first set's convention.
      stages: one or two `StageSpec`s, or a `Recipe` (`wing_jax.presets`). The second stage sees crops that the first
        stage's points have centered and turned upright.
      augment: augmentations for the stages without their own; None: the defaults.
      balance: rule for how often each face appears in an epoch, such as `wing_jax.balance.hsm()`; None: the recipe's.
      start: a trained model for the stages without their own `start`: its name, folder, a `Localizer` or a
        `wing_jax.Start`. None: nothing is taken from a trained model.
      validation: the fraction of photos to hold out for choosing the best checkpoint, or a `FaceSet` to use instead.
        None: 5%, but at least about eight photos for a small set.
      folder: where to write checkpoints, logs and the model. None: nothing is written.
      name: the name of the model.
      seed: the seed of the initial parameters, shuffling and augmentation.
      callbacks: functions that take a `Progress`, called whenever values are logged; one that returns True ends its
        stage.
      quiet: whether to print no progress.
      device_count: number of devices to train on; 0: all.
      parallel: "jit" (with `shard_map`) or "pmap".
      input: "device": the faces are in device memory, and each step makes its own batch. "tfdata": batches are made on
        the host, for sets that do not fit in device memory. With the same seed, both make the same batches up to the
        rounding of pixels.
      processes: "one", or "many" if every process of a cluster makes this call.
      steps_per_call: training steps in one compiled call; 0: 1 on CPU, 250 on GPU and TPU.
      store: how the faces are stored in host memory, "pixels" or "jpeg" (for large sets, with input="tfdata").
      held_out: the rule that chose the validation faces, to record in the model; None: derived from `validation`.
      record: JSON values that identify this training run in `folder`; None: a description of the arguments.

    Returns:
      The localizer with the best checkpoint of each stage, and the history. After Ctrl-C, `interrupted` is True.

    Raises:
      InputError: an argument is invalid, the folder belongs to a different training run, the run diverged (loss,
        gradient or validation is not finite), or another process is training in the folder.
      TrainingInterrupted: SIGTERM arrived (only in the command line), and the state was saved.

    >>> import optax, wing_jax as wj
    >>> faces = wj.load_faces("synthetic", count=24)
    >>> stage = wj.StageSpec(model=wj.models.TINY, optimizer=optax.adam(1e-3), input_size=32, steps=2, batch_size=8)
    >>> result = wj.fit(faces, stage, quiet=True, device_count=1)
    >>> result.localizer.scheme.points, result.history[-1]["step"], result.folder
    (68, 2, None)
    """
    check_choice("parallel", parallel, Parallel)
    check_choice("input", input, Input)
    check_choice("processes", processes, Processes)
    check_choice("store", store, Store)
    recipe = _recipe(stages, augment, balance, start)
    sources = _sources(faces)
    with devices.default_settings():
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
        point_count = sum(scheme.points for scheme in list_schemes([source.faces for source in sources]))
        for number, spec in enumerate(recipe.stages, 1):
            check_stage(spec, number, point_count, mesh)
        folder = None if folder is None else Path(folder)
        run_record = describe(recipe, sources, seed=seed) if record is None else record
        with contextlib.ExitStack() as stack:
            if folder is not None:
                check_same_record(run_record, folder)
                stack.enter_context(devices.ended_with_the_others())
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
                stack.enter_context(devices.only_trainer(folder))
                write_record(run_record, folder)
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
            template = data.template(template)
            setup = setup_second(recipe, data, trained[0], template, seed=settings.seed, input=settings.input)
        if setup.started is not None and not settings.quiet and devices.is_first_process():
            _report(f"stage {number} starts from {setup.spec.start.name}", *str(setup.started).split("\n"))
        outcome = train_stage(setup, settings, folder=folder, record=record)
        trained = (*trained, setup.trained(outcome.variables))
        history += [{"stage": number, **row} for row in outcome.history]
        interrupted = outcome.interrupted
        if interrupted:
            break
    assert template is not None
    localizer, *others = (data.localizer(trained, template, name=name, head=head) for head in range(len(data.heads)))
    heads = {other.scheme.name: other for other in others}
    if folder is not None and not interrupted and devices.is_first_process():
        localizer.save(folder / "model")
        for scheme, other in heads.items():
            other.save(folder / f"model-{scheme}")
    return TrainResult(localizer=localizer, heads=heads, history=tuple(history), folder=folder, interrupted=interrupted)


def setup_first(recipe: Recipe, data: TrainingData) -> StageSetup:
    """Return the setup of the recipe's first stage."""
    return setups.first_setup(recipe.stages[0], data, augment=_augment(recipe, 1))


def setup_second(
    recipe: Recipe, data: TrainingData, first: Stage | None, template: np.ndarray, *, seed: int, input: Input = "device"
) -> StageSetup:
    """Return the setup of the recipe's second stage; `first` is the trained first stage, or None (annotated crops)."""
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


def _report(*lines: str) -> None:
    console = make_console()
    for line in lines:
        say(console, line)


def prepare_devices(count: int, *, processes: Processes = "one", parallel: Parallel = "jit") -> Mesh:
    """Return the mesh of devices to train on, of all processes.

    XLA's settings are chosen for them if JAX has not started yet. On a CPU the kernel is loaded, and built if needed,
    before any program of the training run is compiled (`wing_jax.models.cpu_kernel`).

    Raises:
      InputError: there are fewer devices, or `WING_JAX_CPU_KERNEL` names instructions that the CPU does not have.
    """
    if processes == "many":
        devices.join_processes()
        if parallel == "pmap" or count:
            raise InputError('processes="many" needs parallel="jit" and all devices: leave both at their defaults')
    devices.prepare_xla()
    mesh = devices.make_mesh(count)
    cpu_kernel.load()
    return mesh


def check_batch(spec: StageSpec) -> None:
    """Check before the faces are read that a batch fits into memory.

    Raises:
      InputError: it does not.
    """
    memory.require_memory(
        12 * spec.batch_size * spec.input_size**2,  # float32, RGB
        what=f"a batch of {spec.batch_size:,} crops of {spec.input_size:,} x {spec.input_size:,} pixels",
        fix="use a smaller batch_size or input_size",
    )


def check_stage(spec: StageSpec, number: int, points: int, mesh: Mesh) -> None:
    """Check before any work that a stage can be trained.

    Raises:
      InputError: the model, batch size or number of devices is invalid, or the memory does not suffice.
    """
    check_batch(spec)
    devices.check_divides(spec.batch_size, mesh)
    network = as_network(spec.build_model(points))
    variables = shapes_of(network, input_size=spec.input_size, points=points)
    memory.require_memory(
        sum(np.dtype(leaf.dtype).itemsize * leaf.size for leaf in jax.tree.leaves(variables)),
        what=f"the model of stage {number} on {spec.input_size:,} pixels",
        fix="use a smaller input_size, or a model with fewer parameters",
    )


def _recipe(stages: Any, augment: Sequence[Augmentation] | None, balance: Balance | None, start: Any) -> Recipe:
    recipe = stages if isinstance(stages, Recipe) else Recipe(stages=_as_list(stages, StageSpec, "stages"))
    specs = _as_list(recipe.stages, StageSpec, "stages")
    if not 1 <= len(specs) <= 2:
        raise InputError(f"stages: got {len(specs)}: pass one or two StageSpecs")
    if augment is not None:
        if all(spec.augment is not None for spec in specs):
            raise InputError("augment: every stage has its own augment: omit it, or change the StageSpecs")
        specs = [dataclasses.replace(spec, augment=augment) if spec.augment is None else spec for spec in specs]
    if start is not None:
        specs = [dataclasses.replace(spec, start=start) if spec.start is None else spec for spec in specs]
    return Recipe(stages=tuple(specs), balance=recipe.balance if balance is None else balance)


def _sources(faces: Any) -> list[FaceSource]:
    items = _as_list(faces, FaceSet | FaceSource, "faces")
    sources = [item if isinstance(item, FaceSource) else FaceSource(faces=item) for item in items]
    if not sources:
        raise InputError("faces: got an empty list: pass a FaceSet")
    return sources


def _as_list(value: Any, kind: Any, name: str) -> list[Any]:
    """Return a `kind`, or a sequence of them, as a list."""
    items = [value] if isinstance(value, kind) else value
    expected = "FaceSets (wing_jax.load_faces, FaceSet.from_arrays)" if name == "faces" else "StageSpecs or a Recipe"
    if not isinstance(items, Sequence) or isinstance(items, str) or not all(isinstance(item, kind) for item in items):
        raise InputError(f"{name}={quoted(value)}: pass {expected}")
    return list(items)


def _augment(recipe: Recipe, number: int) -> tuple[Augmentation, ...]:
    augment = recipe.stages[number - 1].augment
    return default_augmentations(number) if augment is None else tuple(augment)


def _validation(validation: float | FaceSet | None, faces: FaceSet) -> float | FaceSet:
    if validation is not None:
        if not isinstance(validation, FaceSet) and not 0 < validation < 1:
            raise InputError(f"validation={quoted(validation)}: pass a fraction between 0 and 1, or a FaceSet")
        return validation
    photos = len(set(faces.photos))
    return faces.share_of_photos(max(round(FRACTION * photos), min(FEWEST, photos // 4), 1))

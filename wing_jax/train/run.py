"""A whole training: data, first stage, the crops it makes, second stage, and the bundle."""

import dataclasses
import functools
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from wing_jax import balance
from wing_jax.augment.reshaping import reshaped
from wing_jax.config import BalanceConfig, Config, DataConfig, PerturbConfig, StageConfig
from wing_jax.data.boxes import RULES, ShapeInBox, shape_in_box
from wing_jax.data.chips import Chips, cut_chips, joined, shrink
from wing_jax.data.face_set import FaceSet
from wing_jax.data.held_out import HeldOut
from wing_jax.data.load import load_faces
from wing_jax.errors import InputError
from wing_jax.inference.localizer import Localizer
from wing_jax.inference.metadata import Metadata
from wing_jax.inference.stage import Stage
from wing_jax.models import cpu_kernel
from wing_jax.runtime import devices, memory
from wing_jax.schemes import SCHEMES, Scheme
from wing_jax.text import quoted
from wing_jax.train import crops, run_config
from wing_jax.train.optimizer import scaled_to_batch
from wing_jax.train.stage import StageTask, make_loss, train_stage
from wing_jax.values import Value

AnyConfig = TypeVar("AnyConfig", bound=Config)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Corpus(Value):
    """The faces of one training, cut into chips of one size."""

    train: Chips
    names: tuple[str, ...]  # of the pictures that `train` was cut from
    validation: Chips
    order: Int[np.ndarray, "duplicated"]  # faces of an epoch, duplicated by HSM
    scheme: Scheme
    box_convention: str
    shape: ShapeInBox
    chip_sizes: tuple[int, ...]  # pixels, of each stage
    about: dict  # what the model will say of its data
    held_out: HeldOut  # the photos of `validation`

    def localizer(self, stages: tuple[Stage, ...], template: Float[np.ndarray, "points 2"], *, name: str) -> Localizer:
        """The trained `stages` with what the faces say of boxes and points."""
        return Localizer(
            scheme=self.scheme,
            box_convention=self.box_convention,
            stages=stages,
            template=template,
            metadata=Metadata(name=name, shape_in_box=self.shape, held_out=self.held_out, **self.about),
        )

    def unbalanced(self) -> "Corpus":
        """The same with every face once in an epoch."""
        return dataclasses.replace(self, order=np.arange(len(self.train.images)))

    def at(self, size: int) -> "Corpus":
        """The same with chips of `size` pixels."""
        return dataclasses.replace(
            self, train=shrink(self.train, size=size), validation=shrink(self.validation, size=size)
        )


@devices.usual_settings()
def train(config: Config) -> Path:
    """Train as `config` says, going on where an earlier run of it stopped. Returns the model's folder.

    Raises:
      InputError: data, checkpoints or numbers are not as they must be, the run's folder was begun with another config,
        or another process trains in it.
      Stopped: SIGTERM came (`wing_jax.runtime.termination`), and all is saved.
    """
    mesh = prepare(config)
    if config.large_batch:
        config = at_large_batch(config)
    check_numbers(config, mesh)
    run_config.refuse_another(config, config.folder)
    corpus = read_corpus(config)
    task = first_task(config, corpus)
    with devices.ended_with_the_others(), devices.only_trainer(config.folder):
        run_config.claim(config, config.folder)
        return _train(config, corpus, task, mesh)


def _train(config: Config, corpus: Corpus, task: StageTask, mesh: Mesh) -> Path:
    trained, template = (train_stage(task, config, mesh),), task.mean
    if config.stage2 is not None:
        template = crops.template_of(task.mean, margin=config.stage2.margin)
        second = second_task(config, corpus, trained[0], template)
        trained = (trained[0], train_stage(second, config, mesh))
    localizer = corpus.localizer(trained, template, name=config.name)
    return localizer.save(config.folder / "model") if devices.is_first_process() else config.folder / "model"


def prepare(config: Config) -> Mesh:
    """The devices to train on, of all processes. On a CPU the kernel is loaded, and built where it is not yet, so that
    all programs of a training have it (`wing_jax.models.cpu_kernel`).

    Raises:
      InputError: there are fewer devices, or `WING_JAX_CPU_KERNEL` asks for instructions that are not there.
    """
    if config.processes == "many":
        devices.join_processes()
        if config.parallel == "pmap" or config.devices:
            raise InputError('processes="many" trains by parallel="jit" on all devices: leave both as they are')
    mesh = devices.make_mesh(config.devices)
    cpu_kernel.load()
    return mesh


def at_large_batch(config: AnyConfig) -> AnyConfig:
    """The config with every stage rescaled to `large_batch` faces a step."""
    second = config.stage2
    return dataclasses.replace(
        config,
        stage1=scaled_to_batch(config.stage1, config.large_batch),
        stage2=None if second is None else scaled_to_batch(second, config.large_batch),
        large_batch=0,
    )


def check_numbers(config: Config, mesh: Mesh) -> None:
    """Raises InputError for a number that cannot be, or takes more memory than there is, before any work is done."""
    stages: tuple[StageConfig, ...] = (config.stage1,) if config.stage2 is None else (config.stage1, config.stage2)
    for stage in stages:
        make_loss(stage)
        devices.check_divides(stage.batch_size, mesh)
        memory.refuse_beyond(
            12 * stage.batch_size * stage.input_size**2,  # float32, RGB
            what=f"a batch of {stage.batch_size:,} crops of {stage.input_size:,} x {stage.input_size:,} pixels",
            fix="set batch_size or input_size lower",
        )
        memory.refuse_beyond(
            dense_bytes(stage),
            what=f"a network with {stage.model.hidden:,} hidden units on {stage.input_size:,} pixels",
            fix="set input_size or model.hidden lower, or give more channels, each of which halves the side",
        )


def dense_bytes(stage: StageConfig) -> int:
    """Bytes of the weights of the network's fully connected layer; 0 where the network has none."""
    if stage.model.name != "plain":
        return 0
    side = stage.input_size >> len(stage.model.channels)
    return 4 * side**2 * stage.model.channels[-1] * stage.model.hidden


def read_corpus(config: Config) -> Corpus:
    """The faces that `config` trains on, cut into chips.

    Raises:
      InputError: the data are not as they must be.
    """
    faces = _read(config.data, config)
    shape = shape_in_box(faces)
    sizes = chip_sizes(config, shape)
    own, kept_out = faces.split(config.data.validation)
    sets = (config.data, *config.more)
    parts = [own, *(_read_more(data, faces, kept_out, config) for data in config.more)]
    chips = [cut_chips(part, size=max(sizes), held=config.data.held) for part in parts]
    order = _epoch_order(parts, config.balance, copies=[data.copies for data in sets])
    names = [[part.picture_name(index) for index in range(len(part))] for part in parts]
    copies = [data.reshaped * [f"{name} (reshaped)" for name in part] for part, data in zip(names, sets, strict=True)]
    train, order = _with_reshaped(chips, order, sets, scheme=faces.scheme, seed=config.seed)
    return Corpus(
        train=train,
        names=tuple(itertools.chain(*names, *copies)),
        validation=cut_chips(kept_out, size=max(sizes)),
        order=order,
        scheme=faces.scheme,
        box_convention=faces.box_convention,
        shape=shape,
        chip_sizes=tuple(sizes),
        about={
            "data": " + ".join([faces.name, *(part.name for part in parts[1:])]),
            "faces": len(faces) + sum(map(len, parts[1:])),
        },
        held_out=HeldOut.of(
            kept_out,
            config.data,
            trained={photo for part in parts for photo in part.photos},
            seed=config.seed,
        ),
    )


def _with_reshaped(
    chips: Sequence[Chips],
    order: Int[np.ndarray, "duplicated"],
    sets: Sequence[DataConfig],
    *,
    scheme: Scheme,
    seed: int,
) -> tuple[Chips, Int[np.ndarray, "longer"]]:
    """The chips of all sets, the reshaped copies behind them, and an epoch in which each copy comes as often as its
    face does in `order`."""
    every, orders, total = list(chips), [order], sum(len(part.images) for part in chips)
    first = 0
    for part, data in zip(chips, sets, strict=True):
        count = len(part.images)
        if data.reshaped:
            own = order[(order >= first) & (order < first + count)] - first
            every.append(reshaped(part, copies=data.reshaped, flip=scheme.flip, seed=seed))
            orders += [own + total + copy * count for copy in range(data.reshaped)]
            total += data.reshaped * count
        first += count
    return joined(every), np.concatenate(orders)


def read_split(data: DataConfig, split: str, *, count: int, seed: int = 0) -> FaceSet:
    """The `split` of the faces that `data` names, read as it says; `count` and `seed` are of synthetic faces.

    Raises:
      InputError: the data are not as they must be.
    """
    names = ("root", "images", "scheme", "boxes", "hidden", "picture_size")
    return load_faces(data.name, split, **{name: getattr(data, name) for name in names}, count=count, seed=seed)


def _read(data: DataConfig, config: Config) -> FaceSet:
    return read_split(data, "train", count=data.train_faces, seed=config.seed).without(data.without)


def _read_more(data: DataConfig, faces: FaceSet, kept_out: FaceSet, config: Config) -> FaceSet:
    """The training faces of another set, with the points of `faces`. Of the same set again, the photos `kept_out` stay
    held out.

    Raises:
      InputError: its points or its boxes are others.
    """
    scheme = faces.scheme.name if faces.scheme.name in SCHEMES else config.data.scheme
    more = _read(data if data.scheme else dataclasses.replace(data, scheme=scheme), config)
    if (data.name, os.path.realpath(data.root)) == (config.data.name, os.path.realpath(config.data.root)):
        more = more.without(set(kept_out.photos))
    if more.scheme.name != faces.scheme.name:
        raise InputError(f"{more.name} has {more.scheme.name}, {faces.name} {faces.scheme.name}: train on one of them")
    if more.box_convention != faces.box_convention:
        raise InputError(
            f"{more.name} has boxes by the {quoted(more.box_convention)} convention, {faces.name} by "
            f"{quoted(faces.box_convention)}: give `boxes` in the DataConfig of one of them a rule of "
            f"{', '.join(RULES)}"
        )
    return more


def chip_sizes(config: Config, shape: ShapeInBox) -> list[int]:
    """Pixels of each stage's chips; the larger is what the faces are cut at, and the best size to pack them at."""
    second = config.stage2
    sizes = [crops.chip_size(input_size=config.stage1.input_size, margin=config.stage1.margin)]
    if second is not None:
        sizes.append(crops.chip_size(input_size=second.input_size, margin=second.margin * shape.side))
    return sizes


def _epoch_order(
    parts: Sequence[FaceSet], config: BalanceConfig, *, copies: Sequence[int] = (1,)
) -> Int[np.ndarray, "duplicated"]:
    """The faces of one epoch, each as often as HSM says, times the copies of its set; |coefficient| is balanced, for
    training flips faces."""
    times = np.concatenate([np.full(len(part), often) for part, often in zip(parts, copies, strict=True)])
    if config.method == "none":
        return balance.duplicated_indices(times)
    points, visible = (np.concatenate([getattr(part, name) for part in parts]) for name in ("points", "visible"))
    try:
        if config.method == "official":
            indices = balance.official_duplication(points, bins=config.bins).indices
            return np.repeat(indices, times[indices])
        pose = balance.pose_axis(points, visible, flip_permutation=parts[0].scheme.flip)
    except ValueError as error:
        names = " + ".join(part.name for part in parts)
        raise InputError(f"balance.method={quoted(config.method)} does not work on {names}: {error}") from error
    counts = balance.duplication_counts(np.abs(pose.coefficients), bins=config.bins, cap=config.cap)
    return balance.duplicated_indices(counts * times)


def first_task(config: Config, corpus: Corpus) -> StageTask:
    """The first stage's training, on crops around the boxes; its `mean` is in fractions of the crop."""
    stage, corpus = config.stage1, corpus.at(corpus.chip_sizes[0])
    centre = corpus.shape.centre if stage.centre == "shape" else (0.0, 0.0)
    place = functools.partial(crops.box_frames, size=stage.input_size, margin=stage.margin, centre=centre)
    frames = place(corpus.train)
    points = crops.points_in(corpus.train.points, frames)
    return StageTask(
        stage=stage,
        number=1,
        chips=corpus.train,
        names=corpus.names,
        frames=frames[:, None],
        order=corpus.order,
        scheme=corpus.scheme,
        mean=crops.mean_shape((points + 0.5) / stage.input_size, corpus.train.visible, flip=corpus.scheme.flip),
        validation=corpus.validation,
        validation_frames=place(corpus.validation),
        centre=centre,
    )


def second_task(
    config: Config, corpus: Corpus, first: Stage | None, template: Float[np.ndarray, "points 2"]
) -> StageTask:
    """The second stage's training, on crops made by the first or by the annotation; validated behind the first.

    With `first`=None nothing is made by a first stage, the crops of the validation neither: for crops="direct" alone.
    """
    if first is None:
        return _direct_task(config, corpus, template)
    stage, chip_size = config.stage2, corpus.chip_sizes[1]
    assert stage is not None
    through = functools.partial(
        crops.frames_through,
        first,
        template=template,
        size=stage.input_size,
        target_size=chip_size,
        flip=corpus.scheme.flip,
        seed=config.seed,
    )
    small, corpus = corpus.at(first.chip_size), corpus.at(chip_size)
    still = PerturbConfig(rotation=0.0, translation=0.0, scale=0.0, flip=0.0, blur=0.0)
    if stage.crops == "through":
        frames = through(small.train, perturb=config.stage1.perturb, draws=stage.draws)
    else:
        frames = crops.shape_frames(corpus.train.points, template, size=stage.input_size)[:, None]
    return StageTask(
        stage=stage,
        number=2,
        chips=corpus.train,
        names=corpus.names,
        frames=frames,
        order=corpus.order,
        scheme=corpus.scheme,
        mean=template,
        validation=corpus.validation,
        validation_frames=through(small.validation, perturb=still, draws=1)[:, 0],
    )


def _direct_task(config: Config, corpus: Corpus, template: Float[np.ndarray, "points 2"]) -> StageTask:
    stage, corpus = config.stage2, corpus.at(corpus.chip_sizes[1])
    assert stage is not None
    assert stage.crops == "direct"
    place = functools.partial(crops.shape_frames, template=template, size=stage.input_size)
    return StageTask(
        stage=stage,
        number=2,
        chips=corpus.train,
        names=corpus.names,
        frames=place(corpus.train.points)[:, None],
        order=corpus.order,
        scheme=corpus.scheme,
        mean=template,
        validation=corpus.validation,
        validation_frames=place(corpus.validation.points),
    )

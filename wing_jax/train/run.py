"""A whole training: data, first stage, the crops it makes, second stage, and the bundle."""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from wing_jax import balance, losses
from wing_jax.config import BalanceConfig, Config, PerturbConfig, StageConfig
from wing_jax.data.boxes import ShapeInBox, shape_in_box
from wing_jax.data.chips import Chips, cut_chips, shrink
from wing_jax.data.load import load_faces
from wing_jax.data.pipeline import fixed_crops, training_batches
from wing_jax.data.records import FaceSet
from wing_jax.errors import InputError
from wing_jax.localizer import Localizer, Stage
from wing_jax.models import make_model
from wing_jax.schemes import Scheme
from wing_jax.train import crops, devices
from wing_jax.train.loop import ValidationSet, train_network
from wing_jax.train.optimizer import learning_rates, make_optimizer
from wing_jax.train.state import init_state
from wing_jax.train.steps import make_predict, make_train_step
from wing_jax.types import Loss


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corpus:
    """The faces of one training, cut into chips of one size."""

    train: Chips
    validation: Chips
    order: Int[np.ndarray, "duplicated"]  # faces of an epoch, duplicated by HSM
    scheme: Scheme

    def at(self, size: int) -> "Corpus":
        return dataclasses.replace(
            self, train=shrink(self.train, size=size), validation=shrink(self.validation, size=size)
        )


def train(config: Config) -> Path:
    """Train as `config` says, going on where an earlier run of it stopped. Returns the model's folder.

    Raises:
      InputError: data, checkpoints or numbers are not as they must be.
    """
    mesh = devices.make_mesh(config.devices)
    stages: tuple[StageConfig, ...] = (config.stage1,) if config.stage2 is None else (config.stage1, config.stage2)
    for stage in stages:
        make_loss(stage)  # so that a wrong number is said before any work is done
        devices.check_divides(stage.batch_size, mesh)
    faces = load_faces(
        config.data.name,
        "train",
        root=config.data.root,
        scheme=config.data.scheme,
        boxes=config.data.boxes,
        hidden=config.data.hidden,
        count=config.data.train_faces,
        seed=config.seed,
    )
    shape = shape_in_box(faces)
    sizes = chip_sizes(config, shape)
    corpus = _corpus(faces, config, chip_size=max(sizes))

    centre = shape.centre if config.stage1.centre == "shape" else (0.0, 0.0)
    first, mean = _train_first(config, corpus.at(sizes[0]), centre, mesh)
    trained, template = (first,), mean
    if config.stage2 is not None:
        template = crops.template_of(mean, margin=config.stage2.margin)
        trained = (first, _train_second(config, corpus, sizes[1], first, template, mesh))
    localizer = Localizer(
        scheme=faces.scheme,
        box_convention=faces.box_convention,
        stages=trained,
        template=template,
        about={
            "name": config.name,
            "data": faces.name,
            "faces": len(faces),
            "shape_in_box": dataclasses.asdict(shape),
        },
    )
    return localizer.save(config.folder / "model")


def chip_sizes(config: Config, shape: ShapeInBox) -> list[int]:
    """Pixels of each stage's chips; the larger is what the faces are cut at, and the best size to pack them at."""
    second = config.stage2
    sizes = [crops.chip_size(input_size=config.stage1.input_size, margin=config.stage1.margin)]
    if second is not None:
        sizes.append(crops.chip_size(input_size=second.input_size, margin=second.margin * shape.side))
    return sizes


def _corpus(faces: FaceSet, config: Config, *, chip_size: int) -> Corpus:
    train_faces, held_out = faces.split(config.data.validation)
    return Corpus(
        train=cut_chips(train_faces, size=chip_size),
        validation=cut_chips(held_out, size=chip_size),
        order=_epoch_order(train_faces, config.balance),
        scheme=faces.scheme,
    )


def _epoch_order(faces: FaceSet, config: BalanceConfig) -> Int[np.ndarray, "duplicated"]:
    """The faces of one epoch, each as often as HSM says; |coefficient| is balanced, for training flips faces."""
    if config.method == "none":
        return np.arange(len(faces))
    try:
        if config.method == "official":
            return balance.official_duplication(faces.points, bins=config.bins).indices
        pose = balance.pose_axis(faces.points, faces.visible, flip_permutation=faces.scheme.flip)
    except ValueError as error:
        raise InputError(f"balance.method={config.method!r} does not work on {faces.name}: {error}") from error
    counts = balance.duplication_counts(np.abs(pose.coefficients), bins=config.bins, cap=config.cap)
    return balance.duplicated_indices(counts)


def _train_first(
    config: Config, corpus: Corpus, centre: tuple[float, float], mesh: Mesh
) -> tuple[Stage, Float[np.ndarray, "points 2"]]:
    """The first stage, and the mean shape in fractions of its crop."""
    stage = config.stage1
    place = functools.partial(crops.box_frames, size=stage.input_size, margin=stage.margin, centre=centre)
    frames = place(corpus.train)
    points = crops.points_in(corpus.train.points, frames)
    mean = crops.mean_shape((points + 0.5) / stage.input_size, corpus.train.visible, flip=corpus.scheme.flip)
    trained = _train_stage(
        config, stage, corpus, frames=frames[:, None], held_out=place(corpus.validation), mean=mean, mesh=mesh, number=1
    )
    return dataclasses.replace(trained, centre=centre), mean


def _train_second(
    config: Config, corpus: Corpus, chip_size: int, first: Stage, template: Float[np.ndarray, "points 2"], mesh: Mesh
) -> Stage:
    """The second stage, on crops made by the first or by the annotation; validated behind the first."""
    stage = config.stage2
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
    small = corpus.at(first.chip_size)
    still = PerturbConfig(rotation=0.0, translation=0.0, scale=0.0, flip=0.0, blur=0.0)
    if stage.crops == "through":
        frames = through(small.train, perturb=config.stage1.perturb, draws=stage.draws)
    else:
        frames = crops.shape_frames(corpus.train.points, template, size=stage.input_size)[:, None]
    held_out = through(small.validation, perturb=still, draws=1)[:, 0]
    return _train_stage(
        config, stage, corpus.at(chip_size), frames=frames, held_out=held_out, mean=template, mesh=mesh, number=2
    )


def _train_stage(
    config: Config,
    stage: StageConfig,
    corpus: Corpus,
    *,
    frames: Float[np.ndarray, "n draws 2 3"],
    held_out: Float[np.ndarray, "m 2 3"],
    mean: Float[np.ndarray, "points 2"],
    mesh: Mesh,
    number: int,
) -> Stage:
    """Train stage `number` on the crops that `frames` place on the corpus' chips; `mean` is in fractions of them."""
    scheme, optimizer_config = corpus.scheme, stage.optimizer
    network = {
        "name": stage.model.name,
        "points": scheme.points,
        "channels": stage.model.channels,
        "hidden": stage.model.hidden,
        "norm": stage.model.norm,
        "dropout": stage.model.dropout,
        "precision": stage.model.precision,
    }
    model = make_model(**network)
    replica_axis = devices.AXIS if config.parallel == "pmap" else None
    rates = learning_rates(
        first=optimizer_config.learning_rate,
        last=optimizer_config.final_learning_rate,
        steps=stage.steps,
        decay=optimizer_config.decay,
        warmup=optimizer_config.warmup,
    )
    optimizer = make_optimizer(
        optimizer_config.name,
        rates,
        weight_decay=optimizer_config.weight_decay,
        momentum=optimizer_config.momentum,
        clip=optimizer_config.clip,
    )
    eyes = (scheme.left_outer, scheme.right_outer)
    state = init_state(
        model,
        optimizer,
        key=jax.random.fold_in(jax.random.key(config.seed), number),
        input_size=stage.input_size,
        mean_shape=mean * stage.input_size - 0.5 if stage.model.output_bias == "mean_shape" else None,
        average=optimizer_config.ema > 0,
    )
    step = make_train_step(
        make_model(**network, axis=replica_axis),
        optimizer,
        make_loss(stage),
        reduction=stage.loss.reduction,
        eyes=eyes,
        ema=optimizer_config.ema,
        seed=2 * config.seed + number,
        axis=replica_axis,
    )

    def batches(first_step: int) -> Iterator[dict]:
        return training_batches(
            corpus.train,
            frames,
            order=corpus.order,
            flip=scheme.flip,
            perturb=stage.perturb,
            size=stage.input_size,
            batch_size=stage.batch_size,
            seed=2 * config.seed + number,
            first_step=first_step,
            last_step=stage.steps,
        )

    images, points, visible = fixed_crops(corpus.validation, held_out, size=stage.input_size)
    try:
        losses.check_units(points, working_extent=stage.input_size, visible=visible)
    except ValueError as error:
        raise InputError(f"stage {number}'s crops miss the faces: see to the boxes and the points: {error}") from error
    variables = train_network(
        config.folder / f"stage{number}",
        title=f"stage {number}",
        state=state,
        step=step,
        predict=make_predict(model),
        batches=batches,
        validation=ValidationSet(images=images, points=points, visible=visible),
        eyes=eyes,
        steps=stage.steps,
        batch_size=stage.batch_size,
        evaluate_every=stage.evaluate_every,
        keep=stage.keep,
        mesh=mesh,
        parallel=config.parallel,
    )
    return Stage(
        network=network,
        variables=variables,
        input_size=stage.input_size,
        chip_size=corpus.train.size,
        margin=stage.margin,
    )


def make_loss(stage: StageConfig) -> Loss:
    """The stage's loss, its lengths rescaled from pixels of its reference size to pixels of the stage's crop.

    Raises:
      InputError: the loss does not take these lengths.
    """
    given = {name: getattr(stage.loss, name) for name in ("width", "epsilon")}
    try:
        return losses.make_loss(
            stage.loss.name,
            reference_size=stage.loss.reference_size,
            working_extent=float(stage.input_size),
            **{name: value for name, value in given.items() if value is not None},
        )
    except (TypeError, ValueError) as error:
        raise InputError(f"loss {stage.loss.name!r}: {error}") from error

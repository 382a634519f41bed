"""The faces of a training, cut out of their pictures once: those trained on, and those held out."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from wing_jax.augment.reshaping import reshaped
from wing_jax.balance import Balance, duplicated_indices
from wing_jax.choices import Store
from wing_jax.data.boxes import ShapeInBox, shape_in_box
from wing_jax.data.face_crops import FaceCrops, crop_faces, joined, resize_face_crops
from wing_jax.data.face_set import FaceSet
from wing_jax.data.held_out import HeldOut
from wing_jax.errors import InputError
from wing_jax.inference.localizer import Localizer
from wing_jax.inference.metadata import Metadata
from wing_jax.inference.stage import Stage
from wing_jax.schemes import Scheme
from wing_jax.text import quoted
from wing_jax.train import crops
from wing_jax.train.spec import StageSpec
from wing_jax.values import Value


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class FaceSource(Value):
    """One of the sets of a training: `copies` says how often its faces come in an epoch, `reshaped` how many copies of
    each face are warped towards the shapes of others like it (`wing_jax.augment.reshaping`)."""

    faces: FaceSet
    copies: int = 1
    reshaped: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TrainingData(Value):
    """The faces of one training, cut into face crops of one size."""

    train: FaceCrops
    names: tuple[str, ...]  # of the pictures that `train` was cut from
    validation: FaceCrops
    order: Int[np.ndarray, "duplicated"]  # faces of an epoch, duplicated by HSM
    scheme: Scheme
    box_convention: str
    shape: ShapeInBox
    face_crop_sizes: tuple[int, ...]  # pixels, of each stage
    data_name: str  # of all sets
    face_count: int  # of all sets, those held out too
    held_out: HeldOut  # the photos of `validation`

    def localizer(self, stages: tuple[Stage, ...], template: Float[np.ndarray, "points 2"], *, name: str) -> Localizer:
        """The trained `stages` with what the faces say of boxes and points."""
        return Localizer(
            scheme=self.scheme,
            box_convention=self.box_convention,
            stages=stages,
            template=template,
            metadata=Metadata(
                name=name,
                data=self.data_name,
                faces=self.face_count,
                shape_in_box=self.shape,
                held_out=self.held_out,
            ),
        )

    def unbalanced(self) -> "TrainingData":
        """The same with every face once in an epoch."""
        return dataclasses.replace(self, order=np.arange(len(self.train.images)))

    def at(self, size: int) -> "TrainingData":
        """The same with face crops of `size` pixels."""
        return dataclasses.replace(
            self,
            train=resize_face_crops(self.train, size=size),
            validation=resize_face_crops(self.validation, size=size),
        )


def prepare_data(
    sources: Sequence[FaceSource],
    stages: Sequence[StageSpec],
    *,
    validation: float | FaceSet,
    balance: Balance | None,
    seed: int,
    store: Store = "pixels",
    held_out: HeldOut | None = None,
) -> TrainingData:
    """Hold out the validation faces and cut all faces out of their pictures, large enough for all `stages`.

    Args:
      sources: the sets to train on, all with the points and boxes of the first.
      stages: what is trained on them.
      validation: the share of the first set's photos that chooses the checkpoint, or the faces that do.
      balance: how often each face comes in an epoch; None: once.
      seed: of the reshaped copies.
      store: how the faces are held in memory, "jpeg" for sets too large.
      held_out: the record of how the validation faces are chosen, for the model; None: `validation` says it.

    Raises:
      InputError: the sets do not go together, are too few, or a picture cannot be read.
    """
    first, *others = sources
    faces = first.faces
    for other in others:
        _refuse_other_points(other.faces, faces)
    if isinstance(validation, FaceSet):
        _refuse_other_points(validation, faces)
        own, kept_out = faces, validation
        rule = held_out or HeldOut(data="", validation=0.0)
    else:
        own, kept_out = faces.split(validation)
        rule = held_out or HeldOut(data="", validation=validation)
    shape = shape_in_box(faces)
    sizes = face_crop_sizes(stages, shape)
    parts = [own, *(other.faces for other in others)]
    face_crops = [crop_faces(part, size=max(sizes), store=store) for part in parts]
    order = _epoch_order(parts, balance, copies=[source.copies for source in sources])
    names = [[part.picture_name(index) for index in range(len(part))] for part in parts]
    copies = [
        source.reshaped * [f"{name} (reshaped)" for name in part] for part, source in zip(names, sources, strict=True)
    ]
    train, order = _with_reshaped(
        face_crops, order, [source.reshaped for source in sources], scheme=faces.scheme, seed=seed
    )
    return TrainingData(
        train=train,
        names=tuple(itertools.chain(*names, *copies)),
        validation=crop_faces(kept_out, size=max(sizes)),
        order=order,
        scheme=faces.scheme,
        box_convention=faces.box_convention,
        shape=shape,
        face_crop_sizes=tuple(sizes),
        data_name=" + ".join([faces.name, *(part.name for part in parts[1:])]),
        face_count=len(faces) + sum(map(len, parts[1:])),
        held_out=rule.of_faces(kept_out, trained={photo for part in parts for photo in part.photos}),
    )


def face_crop_sizes(stages: Sequence[StageSpec], shape: ShapeInBox) -> list[int]:
    """Pixels of each stage's face crops; the largest is what the faces are cut at, and the best size to pack them
    at."""
    sides = (1.0, shape.side)  # of what the margin is of: the box, the mean shape's box
    return [
        crops.face_crop_size(input_size=stage.input_size, margin=margin_of(stage, number) * side)
        for number, (stage, side) in enumerate(zip(stages, sides, strict=False), 1)
    ]


def margin_of(stage: StageSpec, number: int) -> float:
    """The side of the stage's crop, per side of the face box or, from the second stage on, of the mean shape's box."""
    usual = 1.2 if number == 1 else 1.12
    return usual if stage.margin is None else stage.margin


def _refuse_other_points(more: FaceSet, faces: FaceSet) -> None:
    if more.scheme.name != faces.scheme.name:
        raise InputError(f"{more.name} has {more.scheme.name}, {faces.name} {faces.scheme.name}: train on one of them")
    if more.box_convention != faces.box_convention:
        raise InputError(
            f"{more.name} has boxes by the {quoted(more.box_convention)} convention, {faces.name} by "
            f"{quoted(faces.box_convention)}: choose a rule that both can follow, such as boxes='landmarks'"
        )


def _epoch_order(
    parts: Sequence[FaceSet], balance: Balance | None, *, copies: Sequence[int]
) -> Int[np.ndarray, "duplicated"]:
    """The faces of one epoch, each as often as `balance` says, times the copies of its set."""
    times = np.concatenate([np.full(len(part), often) for part, often in zip(parts, copies, strict=True)])
    if balance is None:
        return duplicated_indices(times)
    points, visible = (np.concatenate([getattr(part, name) for part in parts]) for name in ("points", "visible"))
    try:
        counts = np.asarray(balance(points, visible, parts[0].scheme.flip))
    except ValueError as error:
        names = " + ".join(part.name for part in parts)
        raise InputError(f"the balancing does not work on {names}: {error}") from error
    if counts.shape != times.shape or not np.issubdtype(counts.dtype, np.integer) or (counts < 0).any():
        raise InputError(
            f"balance answers {counts.dtype} {list(counts.shape)}: it must answer how often each of the {len(times)} "
            "faces comes in an epoch, whole numbers of 0 or more"
        )
    return duplicated_indices(counts * times)


def _with_reshaped(
    face_crops: Sequence[FaceCrops],
    order: Int[np.ndarray, "duplicated"],
    copies: Sequence[int],
    *,
    scheme: Scheme,
    seed: int,
) -> tuple[FaceCrops, Int[np.ndarray, "longer"]]:
    """The face crops of all sets, the reshaped copies behind them, and an epoch in which each copy comes as often as
    its face does in `order`."""
    every, orders, total = list(face_crops), [order], sum(len(part.images) for part in face_crops)
    first = 0
    for part, number in zip(face_crops, copies, strict=True):
        count = len(part.images)
        if number:
            own = order[(order >= first) & (order < first + count)] - first
            every.append(reshaped(part, copies=number, flip=scheme.flip, seed=seed))
            orders += [own + total + copy * count for copy in range(number)]
            total += number * count
        first += count
    return joined(every), np.concatenate(orders)

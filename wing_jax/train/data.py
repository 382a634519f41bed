"""The data of a training run: the training and validation faces, each cut out of its picture once."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from wing_jax.augment.reshaping import reshaped
from wing_jax.balance import Balance, duplicated_indices
from wing_jax.choices import Store
from wing_jax.data.boxes import ShapeInBox, shape_in_box
from wing_jax.data.face_crops import FaceCrops, concatenate, crop_faces, resize_face_crops
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
    """One of the sets of faces of a training run."""

    faces: FaceSet
    copies: int = 1  # of each face in an epoch
    reshaped: int = 0  # further copies of each face, warped towards similar shapes (`wing_jax.augment.reshaping`)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TrainingData(Value):
    """The faces of a training run, as face crops of one size."""

    train: FaceCrops
    names: tuple[str, ...]  # names of the pictures of `train`
    validation: FaceCrops
    order: Int[np.ndarray, "duplicated"]  # face indices of an epoch, with duplicates
    scheme: Scheme
    box_convention: str
    shape: ShapeInBox
    face_crop_sizes: tuple[int, ...]  # pixels, of each stage
    data_name: str  # names of all sets
    face_count: int  # faces of all sets, including the validation faces
    held_out: HeldOut  # the photos of `validation`

    def localizer(self, stages: tuple[Stage, ...], template: Float[np.ndarray, "points 2"], *, name: str) -> Localizer:
        """Return a localizer of the trained `stages`, with the scheme and metadata of this data."""
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
        """Return the same data with every face once in an epoch."""
        return dataclasses.replace(self, order=np.arange(len(self.train.images)))

    def at(self, size: int) -> "TrainingData":
        """Return the same data with face crops of `size` pixels."""
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
      sources: the sets to train on, all with the same scheme and box convention.
      stages: the stages to train.
      validation: the share of the first set's photos to hold out for validation, or a set of validation faces.
      balance: how often each face appears in an epoch; None: once.
      seed: the seed of the reshaped copies.
      store: how the faces are stored in memory, "pixels" or "jpeg" (for large sets).
      held_out: the rule by which the validation faces were chosen, recorded in the model; None: from `validation`.

    Raises:
      InputError: the sets do not fit together, there are too few faces, or a picture cannot be read.
    """
    first, *others = sources
    faces = first.faces
    for other in others:
        _check_compatible(other.faces, faces)
    if isinstance(validation, FaceSet):
        _check_compatible(validation, faces)
        train_faces, validation_faces = faces, validation
        rule = held_out or HeldOut(data="", validation=0.0)
    else:
        train_faces, validation_faces = faces.split(validation)
        rule = held_out or HeldOut(data="", validation=validation)
    shape = shape_in_box(faces)
    sizes = face_crop_sizes(stages, shape)
    parts = [train_faces, *(other.faces for other in others)]
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
        validation=crop_faces(validation_faces, size=max(sizes)),
        order=order,
        scheme=faces.scheme,
        box_convention=faces.box_convention,
        shape=shape,
        face_crop_sizes=tuple(sizes),
        data_name=" + ".join([faces.name, *(part.name for part in parts[1:])]),
        face_count=len(faces) + sum(map(len, parts[1:])),
        held_out=rule.of_faces(validation_faces, trained={photo for part in parts for photo in part.photos}),
    )


def face_crop_sizes(stages: Sequence[StageSpec], shape: ShapeInBox) -> list[int]:
    """Return the size in pixels of each stage's face crops.

    Faces are cropped at the largest of these, which is also the best size for packing.
    """
    sides = (1.0, shape.side)  # the margins are relative to the box, then to the mean shape's box
    return [
        crops.face_crop_size(input_size=stage.input_size, margin=margin_of(stage, number) * side)
        for number, (stage, side) in enumerate(zip(stages, sides, strict=False), 1)
    ]


def margin_of(stage: StageSpec, number: int) -> float:
    """Return the side of the stage's crop, as a multiple of the side of the face box.

    For the second stage, it is a multiple of the side of the mean shape's box.
    """
    default = 1.2 if number == 1 else 1.12
    return default if stage.margin is None else stage.margin


def _check_compatible(other: FaceSet, faces: FaceSet) -> None:
    if other.scheme.name != faces.scheme.name:
        raise InputError(
            f"{other.name} has the scheme {other.scheme.name}, {faces.name} has {faces.scheme.name}: train on one of "
            "them"
        )
    if other.box_convention != faces.box_convention:
        raise InputError(
            f"{other.name} has boxes by the {quoted(other.box_convention)} convention, {faces.name} by "
            f"{quoted(faces.box_convention)}: choose a rule that works for both, such as boxes='landmarks'"
        )


def _epoch_order(
    parts: Sequence[FaceSet], balance: Balance | None, *, copies: Sequence[int]
) -> Int[np.ndarray, "duplicated"]:
    """Return the face indices of an epoch: each face by its count from `balance`, times the copies of its set."""
    multiples = np.concatenate([np.full(len(part), count) for part, count in zip(parts, copies, strict=True)])
    if balance is None:
        return duplicated_indices(multiples)
    points, visible = (np.concatenate([getattr(part, name) for part in parts]) for name in ("points", "visible"))
    try:
        counts = np.asarray(balance(points, visible, parts[0].scheme.flip))
    except ValueError as error:
        names = " + ".join(part.name for part in parts)
        raise InputError(f"the balancing does not work on {names}: {error}") from error
    if counts.shape != multiples.shape or not np.issubdtype(counts.dtype, np.integer) or (counts < 0).any():
        raise InputError(
            f"balance returned {counts.dtype} {list(counts.shape)}: it must return how often each of the "
            f"{len(multiples)} faces is in an epoch, as whole numbers of 0 or more"
        )
    return duplicated_indices(counts * multiples)


def _with_reshaped(
    face_crops: Sequence[FaceCrops],
    order: Int[np.ndarray, "duplicated"],
    copies: Sequence[int],
    *,
    scheme: Scheme,
    seed: int,
) -> tuple[FaceCrops, Int[np.ndarray, "longer"]]:
    """Return the face crops of all sets followed by their reshaped copies, and the indices of an epoch.

    Each copy is in the epoch as often as its face is in `order`.
    """
    all_crops, orders, total = list(face_crops), [order], sum(len(part.images) for part in face_crops)
    first = 0
    for part, number in zip(face_crops, copies, strict=True):
        count = len(part.images)
        if number:
            part_order = order[(order >= first) & (order < first + count)] - first
            all_crops.append(reshaped(part, copies=number, flip=scheme.flip, seed=seed))
            orders += [part_order + total + copy * count for copy in range(number)]
            total += number * count
        first += count
    return concatenate(all_crops), np.concatenate(orders)

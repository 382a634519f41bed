"""The data of a training run: the training and validation faces, each cut out of its picture once."""

import dataclasses
import functools
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
from wing_jax.train.heads import (
    check_heads,
    common_points,
    head_columns,
    join_schemes,
    join_sets,
    list_schemes,
    select_head,
)
from wing_jax.train.spec import StageSpec
from wing_jax.train.start import starts_from_landmarks, trained_margin
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
    heads: tuple[Scheme, ...]  # the schemes of the sets; those of the first set come first
    box_convention: str
    shape: ShapeInBox
    margins: tuple[float, ...]  # of each stage (`StageSpec`)
    face_crop_sizes: tuple[int, ...]  # pixels, of each stage
    data_name: str  # names of all sets
    face_count: int  # faces of all sets, including the validation faces
    held_out: HeldOut  # the photos of `validation`

    @functools.cached_property
    def scheme(self) -> Scheme:
        """The scheme of the network's points: those of all heads."""
        return join_schemes(self.heads)

    def localizer(
        self, stages: tuple[Stage, ...], template: Float[np.ndarray, "points 2"], *, name: str, head: int = 0
    ) -> Localizer:
        """Return a localizer of the trained `stages` for one of the `heads`, with the metadata of this data."""
        return Localizer(
            scheme=self.heads[head],
            box_convention=self.box_convention,
            stages=tuple(select_head(stage, self.heads, head) for stage in stages),
            template=template[head_columns(self.heads, head)],
            metadata=Metadata(
                name=name,
                data=self.data_name,
                faces=self.face_count,
                shape_in_box=self.shape,
                held_out=self.held_out,
            ),
        )

    def template(self, mean: Float[np.ndarray, "points 2"]) -> Float[np.ndarray, "points 2"]:
        """Convert the mean shape from fractions of the first stage's crop to fractions of the second's."""
        return crops.template_of(mean, margin=self.margins[1], points=self.heads[0].points)

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
      sources: the sets to train on. Those with the same scheme must have the same box convention.
      stages: the stages to train.
      validation: the share of the first set's photos to hold out for validation, or a set of validation faces.
      balance: how often each face appears in an epoch; None: once.
      seed: the seed of the reshaped copies.
      store: how the faces are stored in memory, "pixels" or "jpeg" (for large sets).
      held_out: the rule by which the validation faces were chosen, recorded in the model; None: from `validation`.

    Raises:
      InputError: the sets do not fit together, there are too few faces, or a picture cannot be read.
    """
    faces, *others = [source.faces for source in sources]
    heads = list_schemes([faces, *others])
    for other in others:
        _check_boxes(other, faces)
    _check_heads(heads, sources, stages)
    if isinstance(validation, FaceSet):
        _check_validation(validation, faces)
        train_faces, validation_faces = faces, validation
        rule = held_out or HeldOut(data="", validation=0.0)
    else:
        train_faces, validation_faces = faces.split(validation)
        rule = held_out or HeldOut(data="", validation=validation)
    shape = shape_in_box(faces)
    margins = margins_of(stages, faces)
    sizes = face_crop_sizes(stages, margins, shape)
    order = _epoch_order([train_faces, *others], balance, copies=[source.copies for source in sources])
    *parts, validation_faces = join_sets([train_faces, *others, validation_faces], heads)
    face_crops = [crop_faces(part, size=max(sizes), store=store) for part in parts]
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
        heads=heads,
        box_convention=faces.box_convention,
        shape=shape,
        margins=margins,
        face_crop_sizes=tuple(sizes),
        data_name=" + ".join([faces.name, *(part.name for part in parts[1:])]),
        face_count=len(faces) + sum(map(len, parts[1:])),
        held_out=rule.of_faces(validation_faces, trained={photo for part in parts for photo in part.photos}),
    )


def face_crop_sizes(stages: Sequence[StageSpec], margins: Sequence[float], shape: ShapeInBox) -> list[int]:
    """Return the size in pixels of each stage's face crops.

    Faces are cropped at the largest of these, which is also the best size for packing.
    """
    sides = (1.0, shape.side)  # the margins are relative to the box, then to the mean shape's box
    return [
        crops.face_crop_size(input_size=stage.input_size, margin=margin * side)
        for stage, margin, side in zip(stages, margins, sides, strict=False)
    ]


def margins_of(stages: Sequence[StageSpec], faces: FaceSet) -> tuple[float, ...]:
    """Return the margin of each stage: its own, or that of the trained model it starts from, or the default.

    Raises:
      InputError: a trained model cannot be loaded or has fewer stages.
    """
    defaults = (1.2, 1.12)
    return tuple(
        spec.margin or (trained_margin(spec.start, number, faces) if starts_from_landmarks(spec.start) else default)
        for number, (spec, default) in enumerate(zip(stages, defaults, strict=False), 1)
    )


def _check_heads(heads: Sequence[Scheme], sources: Sequence[FaceSource], stages: Sequence[StageSpec]) -> None:
    if len(heads) == 1:
        return
    for spec in stages:
        check_heads(spec.build_model(sum(scheme.points for scheme in heads)))
    if any(source.reshaped for source in sources):
        raise InputError("reshaped: works on sets of one scheme only: omit it, or train on sets of one scheme")
    if any(spec.stage2_crops == "annotated" for spec in stages[1:]):
        raise InputError(
            'stage2_crops="annotated" works on sets of one scheme only: use "predicted", or train on sets of one scheme'
        )


def _check_validation(validation: FaceSet, faces: FaceSet) -> None:
    if validation.scheme.name != faces.scheme.name:
        raise InputError(
            f"validation: {validation.name} has the scheme {validation.scheme.name}, {faces.name} has "
            f"{faces.scheme.name}: pass faces with the scheme of the first training set"
        )
    _check_boxes(validation, faces)


def _check_boxes(other: FaceSet, faces: FaceSet) -> None:
    if other.scheme.name == faces.scheme.name and other.box_convention != faces.box_convention:
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
    points, visible, scheme = common_points(parts)
    try:
        counts = np.asarray(balance(points, visible, scheme.flip))
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

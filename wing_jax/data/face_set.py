"""One record for a face of any data set, and sets of such faces."""

import dataclasses
import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int, Int8, UInt8

from wing_jax.data.images import Embedded, InMemory, Picture, load_picture, picture_name
from wing_jax.data.limits import LARGEST_COORDINATE, apart
from wing_jax.errors import InputError
from wing_jax.geometry import tight_box
from wing_jax.schemes import Scheme, SchemeLike
from wing_jax.text import quoted
from wing_jax.types import Visibility
from wing_jax.values import Value

Entry = TypeVar("Entry")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Face(Value):
    """One annotated face, as a reader finds it. Coordinates are pixels of its picture (`wing_jax.types`)."""

    where: str  # "FILE:LINE" or "FILE", for messages
    picture: Picture
    points: Float[np.ndarray, "points 2"]  # NaN where no position is annotated
    visibility: Int8[np.ndarray, "points"] | Visibility = Visibility.UNKNOWN  # values of `Visibility`
    box: Float[np.ndarray, "4"] | None = None  # None: the tight box of the points
    photo: str
    subset: str
    attributes: Mapping[str, bool] = dataclasses.field(default_factory=dict)
    pose: str | None = None  # annotated class, in order of yaw when sorted
    angles: tuple[float, float, float] | None = None  # yaw, pitch, roll in degrees; yaw > 0 to image right
    picture_size: tuple[int, int] | None = None  # width and height that the file says; None: it says nothing


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class FaceSet(Value):
    """`n` annotated faces. Coordinates are pixels of each face's own picture (`wing_jax.types`).

    `from_arrays` makes a set of what you hold in memory, `wing_jax.load_faces` one of files.

    Args:
      name: of the set, in reports.
      scheme: what the points are.
      pictures: where each picture is, or the pictures `[n, height, width, 3]`.
      points: `[n, L, 2]`, (x, y) in pixels of the face's own picture.
      visible: bool `[n, L]`, the points that count in losses and metrics.
      boxes: `[n, 4]`, x0, y0, x1, y1 in the same pixels.
      box_convention: the rule by which boxes lie about faces.
      photos: faces of one photo share a name, and are never split apart.
      subsets: the part of the set that each face is of.
      visibility: values of `Visibility`; None: not annotated.
      attributes: booleans `[n]` by name, to evaluate by.
      poses: annotated pose class, in order of yaw when sorted.
      angles: yaw, pitch, roll in degrees, NaN where not annotated.
      picture_sizes: width, height that the files say; 0: not said.
      origins: "FILE:LINE" or "FILE" of each annotation, for messages.
      groups: labels, to evaluate by.
      cropped: the pictures are the face crops of others (`wing_jax.data.face_crops`): points may lie outside them.

    >>> import wing_jax as wj
    >>> faces = wj.load_faces("synthetic", count=4)
    >>> len(faces), faces.points.shape, len(faces.take([0, 2]))
    (4, (4, 68, 2), 2)
    """

    name: str
    scheme: Scheme
    pictures: tuple[Picture, ...] | UInt8[np.ndarray, "n height width 3"]
    points: Float[np.ndarray, "n points 2"]
    visible: Bool[np.ndarray, "n points"]
    boxes: Float[np.ndarray, "n 4"]
    box_convention: str
    photos: tuple[str, ...]
    subsets: tuple[str, ...]
    visibility: Int8[np.ndarray, "n points"] | None = None
    attributes: Mapping[str, Bool[np.ndarray, "n"]] = dataclasses.field(default_factory=dict)
    poses: tuple[str, ...] | None = None
    angles: Float[np.ndarray, "n 3"] | None = None
    picture_sizes: Int[np.ndarray, "n 2"] | None = None
    origins: tuple[str, ...] | None = None
    groups: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    cropped: bool = False

    @classmethod
    def from_arrays(
        cls,
        images: Any,
        points: Any,
        *,
        scheme: SchemeLike,
        boxes: Any = None,
        visible: Any = None,
        groups: Any = None,
        photos: Any = None,
        name: str = "faces",
    ) -> "FaceSet":
        """Faces that you hold in memory, or whose files you know. Arrays may be NumPy's, JAX's or another library's.

        >>> images = np.zeros((2, 100, 80, 3), np.uint8)
        >>> points = np.array([[[20, 30], [60, 30], [40, 50], [25, 70], [55, 70]]] * 2)
        >>> faces = FaceSet.from_arrays(images, points, scheme="mtfl5", groups={"light": ["dark", "bright"]})
        >>> len(faces), faces.boxes[0].tolist(), faces.groups
        (2, [20.0, 30.0, 60.0, 70.0], {'light': ('dark', 'bright')})

        Args:
          images: RGB uint8 `[n, height, width, 3]`; or a list, with the image of each face, of any size: an array
            `[height, width, 3]`, the path of a file, or a PIL image.
          points: `[n, L, 2]`, (x, y) in pixels of the face's own image, 0 being the center of the first pixel; NaN
            where a point has no position.
          scheme: of the L points: the name of a published one ("mtfl5"), a TOML file, or a `wing_jax.Scheme`.
          boxes: `[n, 4]`, x0 y0 x1 y1 in pixels of the image; None: the tight boxes of the points.
          visible: bool `[n, L]`, the points that count in losses and metrics; None: all that have a position.
          groups: labels `[n]` of the faces by the name of the group, by which evaluations are broken down; booleans
            become `attributes`, a group "subset" the `subsets`.
          photos: `[n]`, what to call the photo of each face: faces of one photo are never split apart. None: the
            paths below the folder that all share, or a number for each array.
          name: of the set, in reports.

        Returns:
          The set. Files are read when a picture is asked for.

        Raises:
          InputError: an argument is not as above; the message names it, the index of the face and what to do.
        """
        from wing_jax.data.arrays import fields_of_arrays  # takes JAX, which a reader of files does not need

        return cls(
            **fields_of_arrays(
                images,
                points,
                scheme=scheme,
                boxes=boxes,
                visible=visible,
                groups=groups,
                photos=photos,
                name=name,
            )
        )

    def __len__(self) -> int:
        return len(self.photos)

    def picture(self, index: int) -> UInt8[np.ndarray, "height width 3"]:
        """The whole picture of face `index`, RGB.

        Raises:
          InputError: it cannot be read.
        """
        return load_picture(self.source(index))

    def source(self, index: int) -> Picture:
        """Where the picture of face `index` comes from."""
        if isinstance(self.pictures, tuple):
            return self.pictures[index]
        return Embedded(f"{self.name} face {index}", InMemory(self.pictures[index]))

    def picture_name(self, index: int) -> str:
        return picture_name(self.source(index))

    def take(self, indices: Any) -> "FaceSet":
        """The faces at `indices` `[m]`, in that order, or those that a mask of booleans `[n]` chooses.

        Raises:
          InputError: they are neither, or one is out of range.
        """
        indices = self._indices(indices)

        def pick(values: tuple[Entry, ...]) -> tuple[Entry, ...]:
            return tuple(values[i] for i in indices)

        return dataclasses.replace(
            self,
            pictures=pick(self.pictures) if isinstance(self.pictures, tuple) else self.pictures[indices],
            points=self.points[indices],
            visible=self.visible[indices],
            boxes=self.boxes[indices],
            photos=pick(self.photos),
            subsets=pick(self.subsets),
            visibility=None if self.visibility is None else self.visibility[indices],
            attributes={name: values[indices] for name, values in self.attributes.items()},
            poses=None if self.poses is None else pick(self.poses),
            angles=None if self.angles is None else self.angles[indices],
            picture_sizes=None if self.picture_sizes is None else self.picture_sizes[indices],
            origins=None if self.origins is None else pick(self.origins),
            groups={name: pick(labels) for name, labels in self.groups.items()},
        )

    def _indices(self, given: Any) -> Int[np.ndarray, "m"]:
        try:
            indices = np.asarray(given)
        except ValueError:
            indices = np.array(None)
        if indices.dtype == bool and indices.shape == (len(self),):
            return np.flatnonzero(indices)
        if indices.shape == (0,):
            return np.zeros(0, np.int64)
        if indices.ndim != 1 or not np.issubdtype(indices.dtype, np.integer):
            raise InputError(f"{self.name}: faces are chosen by a list of their numbers, not by {quoted(given)}")
        outside = indices[(indices < -len(self)) | (indices >= len(self))]
        if len(outside):
            raise InputError(f"{self.name}: there is no face {outside[0]}: it has {len(self)}, counted from 0")
        return indices

    def without(self, photos: Collection[str]) -> "FaceSet":
        """The faces of other photos than these, of which some may not be there.

        Raises:
          InputError: nothing is left, or `photos` is no collection of names.
        """
        if isinstance(photos, str | bytes) or not isinstance(photos, Iterable):
            raise InputError(f"{self.name}: photos must be a list of their names, not {quoted(photos)}")
        left_out = set(photos)
        kept = np.flatnonzero([photo not in left_out for photo in self.photos])
        if not len(kept):
            raise InputError(f"{self.name}: no face is left without these photos")
        return self.take(kept)

    def split(self, fraction: float) -> tuple["FaceSet", "FaceSet"]:
        """(the rest, about `fraction` of the faces), whole photos apart, the same for ever: by a hash of names.

        Raises:
          InputError: one of the two would be empty, or `fraction` is no number in [0, 1].
        """
        if not isinstance(fraction, int | float | np.number) or not 0 <= fraction <= 1:
            raise InputError(f"{self.name}: the fraction to hold out must lie between 0 and 1, not {quoted(fraction)}")
        held_out = self.held_out(fraction)
        if held_out.all() or not held_out.any():
            raise InputError(
                f"{self.name}: {len(self)} faces are too few to hold out {fraction:.0%} for validation: "
                "add faces or change data.validation"
            )
        return self.take(np.flatnonzero(~held_out)), self.take(np.flatnonzero(held_out))

    def share_of_photos(self, count: int) -> float:
        """The fraction for `split` that holds out `count` of the photos."""
        shares = sorted(map(_share, set(self.photos)))
        return shares[count] if count < len(shares) else 1.0

    def held_out(self, fraction: float) -> Bool[np.ndarray, "n"]:
        """Which faces `split` holds out."""
        return np.array([_share(photo) < fraction for photo in self.photos])


def gather(
    makers: Iterable[Callable[[], Face]],
    *,
    name: str,
    scheme: Scheme,
    box_convention: str,
    faults: list[str] | None = None,
) -> FaceSet:
    """The set of the faces that `makers` make. A fault of one face stops it, or is added to `faults` if that is given,
    and the face left out.

    Points without a position (NaN) do not count, the others do, hidden or not: `visible` says which. A face without a
    box gets the tight box of its points.

    Raises:
      InputError: a face is not as it must be (see `faults`), or none is left; or in most faces no point lies in the
        box, so that both are not in the same units.
    """
    faces: list[Face] = []
    for make in makers:
        try:
            faces.append(_checked(make(), scheme))
        except InputError as error:
            if faults is None:
                raise
            faults.append(str(error))
    if not faces:
        raise InputError(f"{name}: no face is left: {faults[0] if faults else 'the data set is empty'}")
    points = np.stack([face.points for face in faces]).astype(np.float32)
    positioned = np.asarray(np.isfinite(points).all(-1))
    visibility = np.stack([np.broadcast_to(np.int8(face.visibility), (scheme.points,)) for face in faces])
    boxes = np.stack([_box(face) for face in faces]).astype(np.float32)
    if (strayed := apart(points, positioned, boxes)).sum() > len(faces) / 2:
        raise InputError(
            f"{faces[int(strayed.argmax())].where}: no point lies in its box, and so in {strayed.sum()} of "
            f"{len(faces)} faces: give points and boxes both in pixels of the picture"
        )
    angles = [(np.nan,) * 3 if face.angles is None else face.angles for face in faces]
    sizes = np.array([face.picture_size or (0, 0) for face in faces], np.int64)
    attributes = list(dict.fromkeys(attribute for face in faces for attribute in face.attributes))
    return FaceSet(
        name=name,
        scheme=scheme,
        pictures=tuple(face.picture for face in faces),
        points=np.where(positioned[..., None], points, 0).astype(np.float32),
        visible=positioned,
        boxes=boxes,
        box_convention=box_convention,
        photos=tuple(face.photo for face in faces),
        subsets=tuple(face.subset for face in faces),
        visibility=visibility if visibility.any() else None,
        attributes={name: np.array([face.attributes.get(name, False) for face in faces]) for name in attributes},
        poses=None if any(face.pose is None for face in faces) else tuple(str(face.pose) for face in faces),
        angles=np.array(angles, np.float32) if np.isfinite(angles).any() else None,
        picture_sizes=sizes if sizes.any() else None,
        origins=tuple(face.where for face in faces),
    )


def _checked(face: Face, scheme: Scheme) -> Face:
    if len(face.points) != scheme.points:
        raise InputError(f"{face.where}: {len(face.points)} points where {scheme.name} has {scheme.points}")
    if not np.isfinite(face.points).all(-1).any():
        raise InputError(f"{face.where}: no point of this face has a position: annotate it or remove it")
    if (absurd := np.abs(face.points) >= LARGEST_COORDINATE).any():
        number = int(absurd.any(-1).argmax())
        said = " ".join(f"{value:g}" for value in face.points[number])
        raise InputError(f"{face.where}: point {number + 1} at {said} lies beyond any picture: correct it")
    if face.box is not None:
        left, top, right, bottom = face.box
        if not (np.isfinite(face.box).all() and left < right and top < bottom):
            said = " ".join(f"{value:g}" for value in face.box)
            raise InputError(f"{face.where}: the box {said} (x0 y0 x1 y1) is empty: correct it or remove the face")
        if (np.abs(face.box) >= LARGEST_COORDINATE).any():
            said = " ".join(f"{value:g}" for value in face.box)
            raise InputError(f"{face.where}: the box {said} (x0 y0 x1 y1) reaches beyond any picture: correct it")
    return face


def _box(face: Face) -> Float[np.ndarray, "4"]:
    return np.asarray(tight_box(face.points)) if face.box is None else face.box


def _share(photo: str) -> float:
    """A number in [0, 1) that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(photo.encode(errors="surrogateescape")).digest()[:6], "big") / 2**48

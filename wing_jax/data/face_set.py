"""A record for a face of any data set, and sets of such faces."""

import dataclasses
import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int, Int8, UInt8

from wing_jax.data.images import Embedded, InMemory, Picture, load_picture, picture_name
from wing_jax.data.limits import LARGEST_COORDINATE, outside_boxes
from wing_jax.errors import InputError, NoFacesError
from wing_jax.geometry import tight_box
from wing_jax.schemes import Scheme, SchemeLike
from wing_jax.text import quoted
from wing_jax.types import Visibility
from wing_jax.values import Value

Entry = TypeVar("Entry")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Face(Value):
    """One annotated face, as a reader returns it. Coordinates are pixels of its picture (`wing_jax.types`)."""

    location: str  # "FILE:LINE" or "FILE", for messages
    picture: Picture
    points: Float[np.ndarray, "points 2"]  # NaN where no position is annotated
    visibility: Int8[np.ndarray, "points"] | Visibility = Visibility.UNKNOWN  # values of `Visibility`
    box: Float[np.ndarray, "4"] | None = None  # None: use the tight box of the points
    photo: str
    subset: str
    attributes: Mapping[str, bool] = dataclasses.field(default_factory=dict)
    pose: str | None = None  # annotated class, in order of yaw when sorted
    angles: tuple[float, float, float] | None = None  # yaw, pitch, roll in degrees; yaw > 0 to image right
    picture_size: tuple[int, int] | None = None  # width and height in the annotation file; None: not stated


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class FaceSet(Value):
    """`n` annotated faces. Coordinates are pixels of each face's own picture (`wing_jax.types`).

    `from_arrays` makes a set from data in memory, `wing_jax.load_faces` from files.

    Args:
      name: the name of the set in reports.
      scheme: the meaning of the points.
      pictures: the file or `Embedded` record of each face's picture, or the pictures, RGB uint8 `[n, height, width,
        3]`.
      points: `[n, L, 2]`, (x, y) in pixels of the face's own picture.
      visible: bool `[n, L]`, the points included in losses and metrics.
      boxes: `[n, 4]`, x0, y0, x1, y1 in the same pixels.
      box_convention: the name of the rule that defines the boxes.
      photos: the name of the original photo of each face, `[n]`; `split` keeps faces of one photo together.
      subsets: the name of the part of the set that each face belongs to, `[n]`.
      visibility: values of `Visibility`, `[n, L]`; None: not annotated.
      attributes: booleans `[n]` by name, for evaluation by group.
      poses: the annotated pose class of each face, `[n]`; sorting the names sorts them by yaw.
      angles: yaw, pitch, roll `[n, 3]` in degrees, NaN where not annotated.
      picture_sizes: width and height `[n, 2]` in pixels, as in the annotation files; 0: not stated.
      origins: "FILE:LINE" or "FILE" of each annotation, for messages.
      groups: labels `[n]` by name, for evaluation by group.
      cropped: the pictures are face crops of other pictures (`wing_jax.data.face_crops`): points may be outside them.

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
        """Make a set of faces from images and points in memory, or from image files.

        Arrays may be NumPy's, JAX's or another library's.

        >>> images = np.zeros((2, 100, 80, 3), np.uint8)
        >>> points = np.array([[[20, 30], [60, 30], [40, 50], [25, 70], [55, 70]]] * 2)
        >>> faces = FaceSet.from_arrays(images, points, scheme="mtfl5", groups={"light": ["dark", "bright"]})
        >>> len(faces), faces.boxes[0].tolist(), faces.groups
        (2, [20.0, 30.0, 60.0, 70.0], {'light': ('dark', 'bright')})

        Args:
          images: RGB uint8 `[n, height, width, 3]`; or a list with one image of any size for each face: an array
            `[height, width, 3]`, the path of a file, or a PIL image.
          points: `[n, L, 2]`, (x, y) in pixels of the face's own image, with 0 at the center of the first pixel; NaN
            where a point has no position.
          scheme: the scheme of the L points: the name of a published one ("mtfl5"), a TOML file, or a
            `wing_jax.Scheme`.
          boxes: `[n, 4]`, x0 y0 x1 y1 in pixels of the image; None: the tight boxes of the points.
          visible: bool `[n, L]`, the points included in losses and metrics; None: all that have a position.
          groups: a dictionary from the name of a group to its labels `[n]`, for evaluation by group; booleans become
            `attributes`, and a group called "subset" becomes `subsets`.
          photos: `[n]`, the name of the photo of each face; `split` keeps faces of one photo together. None: the paths
            relative to the common folder, or a number for each array.
          name: the name of the set in reports.

        Returns:
          The set. Files are read when a picture is requested.

        Raises:
          InputError: an argument is invalid; the message names the argument, the index of the face and what to do.
        """
        from wing_jax.data.arrays import fields_from_arrays  # imports JAX, which readers of files do not need

        return cls(
            **fields_from_arrays(
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
        """Return the complete picture of face `index`, RGB.

        Raises:
          InputError: the picture cannot be read.
        """
        return load_picture(self.source(index))

    def source(self, index: int) -> Picture:
        """Return the source of the picture of face `index`."""
        if isinstance(self.pictures, tuple):
            return self.pictures[index]
        return Embedded(f"{self.name} face {index}", InMemory(self.pictures[index]))

    def picture_name(self, index: int) -> str:
        return picture_name(self.source(index))

    def take(self, indices: Any) -> "FaceSet":
        """Return the faces at `indices` `[m]`, in that order, or those that a boolean mask `[n]` selects.

        Raises:
          InputError: `indices` is neither, or an index is out of range.
        """
        indices = self._parse_indices(indices)

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

    def _parse_indices(self, selection: Any) -> Int[np.ndarray, "m"]:
        try:
            indices = np.asarray(selection)
        except ValueError:
            indices = np.array(None)
        if indices.dtype == bool and indices.shape == (len(self),):
            return np.flatnonzero(indices)
        if indices.shape == (0,):
            return np.zeros(0, np.int64)
        if indices.ndim != 1 or not np.issubdtype(indices.dtype, np.integer):
            raise InputError(f"{self.name}: faces are selected by a list of indices, not by {quoted(selection)}")
        outside = indices[(indices < -len(self)) | (indices >= len(self))]
        if len(outside):
            raise InputError(f"{self.name}: there is no face {outside[0]}: pass indices from 0 to {len(self) - 1}")
        return indices

    def without(self, photos: Collection[str]) -> "FaceSet":
        """Return the faces whose photo is not in `photos`; unknown names are ignored.

        Raises:
          InputError: no face remains, or `photos` is not a collection of names.
        """
        if isinstance(photos, str | bytes) or not isinstance(photos, Iterable):
            raise InputError(f"{self.name}: photos must be a list of names, not {quoted(photos)}")
        excluded = set(photos)
        remaining = np.flatnonzero([photo not in excluded for photo in self.photos])
        if not len(remaining):
            raise InputError(f"{self.name}: no face remains without these photos: pass fewer names")
        return self.take(remaining)

    def split(self, fraction: float) -> tuple["FaceSet", "FaceSet"]:
        """Split into two sets, (rest, held out); the second has about `fraction` of the faces.

        All faces of a photo go to the same set.

        The split is always the same: it depends on a hash of the photos' names.

        Raises:
          InputError: one of the two would be empty, or `fraction` is not a number in [0, 1].
        """
        if not isinstance(fraction, int | float | np.number) or not 0 <= fraction <= 1:
            raise InputError(f"{self.name}: the fraction to hold out must be between 0 and 1, not {quoted(fraction)}")
        held_out = self.held_out(fraction)
        if held_out.all() or not held_out.any():
            raise InputError(
                f"{self.name}: {len(self)} faces are too few to hold out {fraction:.0%} for validation: "
                "add faces, or hold out a larger fraction (validation)"
            )
        return self.take(np.flatnonzero(~held_out)), self.take(np.flatnonzero(held_out))

    def share_of_photos(self, count: int) -> float:
        """Return the `fraction` with which `split` holds out `count` photos."""
        hashes = sorted(map(_hash_to_fraction, set(self.photos)))
        return hashes[count] if count < len(hashes) else 1.0

    def held_out(self, fraction: float) -> Bool[np.ndarray, "n"]:
        """Return the mask of the faces that `split(fraction)` holds out, bool `[n]`."""
        return np.array([_hash_to_fraction(photo) < fraction for photo in self.photos])


def build_face_set(
    makers: Iterable[Callable[[], Face]],
    *,
    name: str,
    scheme: Scheme,
    box_convention: str,
    faults: list[str] | None = None,
) -> FaceSet:
    """Make a set of the faces that `makers` return.

    The first invalid face is an error; if `faults` is passed, the message is added to it and the face is skipped.
    Points without a position (NaN) do not count, all others do, hidden or not: `visible` says which. A face without a
    box gets the tight box of its points.

    Raises:
      InputError: a face is invalid (see `faults`), or none remains; or most faces have no point inside their box, so
        that points and boxes are in different units.
    """
    faces: list[Face] = []
    for make in makers:
        try:
            faces.append(_check_face(make(), scheme))
        except InputError as error:
            if faults is None:
                raise
            faults.append(str(error))
    if not faces:
        if not faults:
            raise NoFacesError(f"{name}: no face remains: the data set is empty")
        raise InputError(f"{name}: no face remains: {faults[0]}")
    points = np.stack([face.points for face in faces]).astype(np.float32)
    has_position = np.asarray(np.isfinite(points).all(-1))
    visibility = np.stack([np.broadcast_to(np.int8(face.visibility), (scheme.points,)) for face in faces])
    boxes = np.stack([tight_box(face.points) if face.box is None else face.box for face in faces]).astype(np.float32)
    outside = outside_boxes(points, has_position, boxes)
    if outside.sum() > len(faces) / 2:
        raise InputError(
            f"{faces[int(outside.argmax())].location}: no point is inside its box, as in {outside.sum()} of "
            f"{len(faces)} faces: correct the annotation: both points and boxes must be in pixels of the picture"
        )
    angles = [(np.nan,) * 3 if face.angles is None else face.angles for face in faces]
    sizes = np.array([face.picture_size or (0, 0) for face in faces], np.int64)
    attributes = list(dict.fromkeys(attribute for face in faces for attribute in face.attributes))
    return FaceSet(
        name=name,
        scheme=scheme,
        pictures=tuple(face.picture for face in faces),
        points=np.where(has_position[..., None], points, 0).astype(np.float32),
        visible=has_position,
        boxes=boxes,
        box_convention=box_convention,
        photos=tuple(face.photo for face in faces),
        subsets=tuple(face.subset for face in faces),
        visibility=visibility if visibility.any() else None,
        attributes={name: np.array([face.attributes.get(name, False) for face in faces]) for name in attributes},
        poses=None if any(face.pose is None for face in faces) else tuple(str(face.pose) for face in faces),
        angles=np.array(angles, np.float32) if np.isfinite(angles).any() else None,
        picture_sizes=sizes if sizes.any() else None,
        origins=tuple(face.location for face in faces),
    )


def _check_face(face: Face, scheme: Scheme) -> Face:
    if len(face.points) != scheme.points:
        raise InputError(f"{face.location}: {len(face.points)} points, but {scheme.name} has {scheme.points}")
    if not np.isfinite(face.points).all(-1).any():
        raise InputError(f"{face.location}: no point of this face has a position: annotate it or remove it")
    if (too_large := np.abs(face.points) >= LARGEST_COORDINATE).any():
        number = int(too_large.any(-1).argmax())
        text = _format_numbers(face.points[number])
        raise InputError(f"{face.location}: point {number + 1} at {text} is beyond any picture: correct it")
    if face.box is not None:
        left, top, right, bottom = face.box
        if not (np.isfinite(face.box).all() and left < right and top < bottom):
            text = _format_numbers(face.box)
            raise InputError(f"{face.location}: the box {text} (x0 y0 x1 y1) is empty: correct it or remove the face")
        if (np.abs(face.box) >= LARGEST_COORDINATE).any():
            text = _format_numbers(face.box)
            raise InputError(f"{face.location}: the box {text} (x0 y0 x1 y1) extends beyond any picture: correct it")
    return face


def _format_numbers(values: Float[np.ndarray, "n"]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _hash_to_fraction(photo: str) -> float:
    """Return a number in [0, 1) that depends only on the name."""
    return int.from_bytes(hashlib.sha256(photo.encode(errors="surrogateescape")).digest()[:6], "big") / 2**48

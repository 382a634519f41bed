"""Everything that can be wrong with a data set, found by reading all of it once."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from wing_jax import geometry
from wing_jax.data.face_crops import annotation_fault
from wing_jax.data.face_set import FaceSet
from wing_jax.data.images import Picture, decode_image, load_picture, picture_name, read_bytes
from wing_jax.data.limits import points_fault, points_outside
from wing_jax.data.picture_sizes import turned_unseen
from wing_jax.errors import InputError
from wing_jax.schemes import MTFL_5, get_conversion
from wing_jax.types import Image
from wing_jax.values import Value

# Of 256 bits: pictures whose patterns differ by no more are taken for one photo. In 300-W's crops this finds the three
# photos that lie in both splits, one of them with other colors, and no two that differ; in MTFL it finds none.
ALIKE = 28
FLAT = 24  # bits: a pattern with fewer ones, or fewer zeros, belongs to a blank picture and tells nothing
# Correlation of the gray levels of two faces laid on one another. The three photos that lie in both splits of 300-W
# have 0.999, and MTFL has one of its training faces again (0.987); all others of both sets stay below.
ONE_FACE = 0.98
LAID_ON = np.array([[0.35, 0.38], [0.65, 0.38], [0.5, 0.55], [0.38, 0.72], [0.62, 0.72]], np.float32)  # of MTFL_5
LAID_SIZE = 64  # pixels


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SplitCheck(Value):
    """What was found in one split. Faces and pictures whose reading failed are in `faults` alone."""

    faces: FaceSet
    faults: tuple[str, ...]  # one line each: the file and the reason
    misfits: tuple[str, ...]  # annotations that do not fit their pictures, which training refuses; one line each
    sizes: Int[np.ndarray, "n 2"]  # width and height of each face's picture; 0 where it could not be read
    outside: Bool[np.ndarray, "n"]  # a point that counts lies outside the picture
    cut: Bool[np.ndarray, "n"]  # a point that counts lies outside the box
    digests: tuple[bytes, ...]  # of each face's picture file; b"" where it could not be read
    patterns: UInt8[np.ndarray, "n 32"]  # what each picture looks like, 256 bits


def check_split(faces: FaceSet, faults: Sequence[str], *, workers: int = 2) -> SplitCheck:
    """Read every picture of `faces` once, with `workers` threads; `faults` are those that reading the lists found."""
    sources = [faces.source(index) for index in range(len(faces))]
    distinct = list(dict.fromkeys(sources))
    with ThreadPoolExecutor(workers) as pool:
        looked = dict(zip(distinct, pool.map(_look, distinct), strict=True))
    broken = tuple(dict.fromkeys(appearance for appearance in looked.values() if isinstance(appearance, str)))
    nothing = ((0, 0), b"", np.zeros(32, np.uint8))
    found = [nothing if isinstance(appearance := looked[source], str) else appearance for source in sources]
    sizes = np.array([size for size, _, _ in found])
    readable = sizes[:, 0] > 0
    misfits = [
        annotation_fault(faces, index, width=int(sizes[index, 0]), height=int(sizes[index, 1]))
        for index in np.flatnonzero(readable).tolist()
    ]
    if any("sides exchanged" in line for line in misfits):
        misfits += turned_unseen(faces)
    low, high = faces.boxes[:, None, :2], faces.boxes[:, None, 2:]
    beyond = ((faces.points < low - 0.5) | (faces.points > high + 0.5)).any(-1) & faces.visible
    return SplitCheck(
        faces=faces,
        faults=(*faults, *broken),
        misfits=tuple(dict.fromkeys(line for line in misfits if line)),
        sizes=sizes,
        outside=readable & (points_outside(faces.points, faces.visible, sizes) > 0).any(1),
        cut=np.asarray(beyond.any(1)),
        digests=tuple(digest for _, digest, _ in found),
        patterns=np.stack([pattern for _, _, pattern in found]),
    )


def duplicates(checks: Mapping[str, SplitCheck]) -> list[tuple[str, str, str]]:
    """(what is alike, picture of one split, picture of another): the same file, or one photo encoded or graded anew."""
    found = []
    names = list(checks)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            found += _across(first, checks[first], second, checks[second])
    return found


def parted(check: SplitCheck) -> list[tuple[str, str]]:
    """(picture, the same file under another name) of one split whose photos are called otherwise, so that one may be
    trained on and the other held out."""
    first: dict[bytes, int] = {}
    pairs = {}
    for index, digest in enumerate(check.digests):
        other = first.setdefault(digest, index) if digest else index
        if check.faces.photos[other] != check.faces.photos[index]:
            pairs[check.faces.picture_name(index)] = check.faces.picture_name(other)
    return [(name, again) for again, name in pairs.items()]


def _across(first: str, one: SplitCheck, second: str, other: SplitCheck) -> list[tuple[str, str, str]]:
    rows, columns = _patterned(one), _patterned(other)
    found: dict[tuple[str, str], str] = {}
    other_of = {digest: column for column, digest in enumerate(other.digests) if digest}
    for row, digest in enumerate(one.digests):
        if digest in other_of:
            found[_named(first, one, row), _named(second, other, other_of[digest])] = "the same file"
    left, right = _signs(one.patterns[rows]), _signs(other.patterns[columns])
    for start in range(0, len(rows), 2048):  # a product of signs is 256 less twice the bits that differ
        agree = left[start : start + 2048] @ right.T
        for row, column in zip(*np.nonzero(agree >= 256 - 2 * ALIKE), strict=True):
            pair = _named(first, one, rows[start + row]), _named(second, other, columns[column])
            found.setdefault(pair, "one photo, it seems")
    return [(alike, *pair) for pair, alike in found.items()]


def shared_faces(one: FaceSet, other: FaceSet, *, workers: int = 2) -> list[tuple[float, str, str]]:
    """(correlation, picture of `one`, picture of `other`) of the faces that are in both sets, however they were cut,
    scaled and encoded: laid on one another by eyes, nose and corners of the mouth, they look the same.

    Raises:
      InputError: a scheme does not tell those five points, or a picture cannot be read.
    """
    alike = _laid(one, workers) @ _laid(other, workers).T
    pairs = [(float(alike[row, column]), int(row), int(column)) for row, column in np.argwhere(alike >= ONE_FACE)]
    return [(value, one.picture_name(row), other.picture_name(column)) for value, row, column in sorted(pairs)[::-1]]


def _laid(faces: FaceSet, workers: int) -> Float[np.ndarray, "n pixels"]:
    """The gray levels of each face upright and in its place, less their mean, of length 1."""
    try:
        points = get_conversion(faces.scheme, MTFL_5).points(faces.points)
    except ValueError as error:
        raise InputError(f"{faces.name}: its faces cannot be laid on others: {error}") from error
    transforms = np.asarray(geometry.crop_of_shape(points, LAID_ON, size=LAID_SIZE), np.float64)

    def appearance(index: int) -> Float[np.ndarray, "pixels"]:
        how = {"flags": cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, "borderMode": cv2.BORDER_REPLICATE}
        gray = cv2.cvtColor(faces.picture(index), cv2.COLOR_RGB2GRAY)
        height, width = gray.shape
        if points_fault(faces.points[index], faces.visible[index], width=width, height=height):
            return np.zeros(LAID_SIZE**2 // 4, np.float32)  # it shows nothing of the face
        side = float(np.linalg.norm(transforms[index, :, 0]))  # pixels of the picture for one of the laid
        gray = cv2.GaussianBlur(gray.astype(np.float32), (0, 0), max(0.3, 1.2 * side))
        laid = cv2.warpAffine(gray, transforms[index], (LAID_SIZE, LAID_SIZE), **how)[::2, ::2].ravel()
        laid -= laid.mean()
        return laid / max(float(np.linalg.norm(laid)), 1e-6)

    with ThreadPoolExecutor(workers) as pool:
        return np.stack(list(pool.map(appearance, range(len(faces)))))


def _signs(patterns: UInt8[np.ndarray, "n 32"]) -> Float[np.ndarray, "n 256"]:
    return np.unpackbits(patterns, axis=1).astype(np.float32) * 2 - 1


def _patterned(check: SplitCheck) -> list[int]:
    """One face for each picture that has a pattern."""
    first = {digest: index for index, digest in reversed(list(enumerate(check.digests))) if digest}
    ones = np.unpackbits(check.patterns, axis=1).sum(1)
    return sorted(i for i in first.values() if FLAT <= ones[i] <= 256 - FLAT)


def _named(split: str, check: SplitCheck, index: int) -> str:
    return f"{split}: {check.faces.picture_name(index)}"


def _look(picture: Picture) -> tuple[tuple[int, int], bytes, np.ndarray] | str:
    """(width and height, digest of the file, pattern), or the reason why it cannot be read."""
    try:
        if isinstance(picture, Path):
            content = read_bytes(picture)
            image = decode_image(content, name=picture_name(picture))
        else:
            image = load_picture(picture)
            content = image.tobytes()
    except InputError as error:
        return str(error)
    return (image.shape[1], image.shape[0]), hashlib.blake2b(content, digest_size=16).digest(), _pattern(image)


def _pattern(image: Image) -> UInt8[np.ndarray, "32"]:
    """256 bits: where brightness rises from left to right on a 17 x 16 picture ("difference hash")."""
    small = cv2.resize(image, (17, 16), interpolation=cv2.INTER_AREA).astype(np.int32).sum(-1)
    return np.packbits(small[:, 1:] > small[:, :-1])

"""Find faults, misfitting annotations and duplicates in a data set by reading all of it once."""

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
from wing_jax.data.picture_sizes import find_hidden_rotations
from wing_jax.errors import InputError
from wing_jax.schemes import MTFL_5, get_conversion
from wing_jax.types import Image
from wing_jax.values import Value

# Of 256 bits: pictures whose patterns differ by at most this many count as the same photo. In 300-W's crops this finds
# the three photos that are in both splits, one of them with other colors, and no false pair; in MTFL it finds none.
SAME_PHOTO_BITS = 28
BLANK_BITS = 24  # a pattern with fewer ones, or fewer zeros, is that of a blank picture and cannot be compared
# Correlation of the gray levels of two aligned faces: 0.999 for the three photos that are in both splits of 300-W, and
# 0.987 for a training face that MTFL has twice; it is lower for all other faces of both sets.
SAME_FACE_CORRELATION = 0.98
ALIGNED_POINTS = np.array(
    [[0.35, 0.38], [0.65, 0.38], [0.5, 0.55], [0.38, 0.72], [0.62, 0.72]], np.float32
)  # of MTFL_5
ALIGNED_SIZE = 64  # pixels


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SplitCheck(Value):
    """The results for one split. Faces and pictures that could not be read are only in `faults`."""

    faces: FaceSet
    faults: tuple[str, ...]  # one line each: the file and the reason
    misfits: tuple[str, ...]  # annotations that do not fit their pictures, which training rejects; one line each
    sizes: Int[np.ndarray, "n 2"]  # width and height of each face's picture; 0 if it could not be read
    outside: Bool[np.ndarray, "n"]  # a visible point is outside the picture
    cut: Bool[np.ndarray, "n"]  # a visible point is outside the box
    digests: tuple[bytes, ...]  # of each face's picture file; b"" if it could not be read
    patterns: UInt8[np.ndarray, "n 32"]  # a hash of each picture's appearance, 256 bits


def check_split(faces: FaceSet, faults: Sequence[str], *, workers: int = 2) -> SplitCheck:
    """Read every picture of `faces` once, with `workers` threads; `faults` are those of reading the annotations."""
    sources = [faces.source(index) for index in range(len(faces))]
    unique = list(dict.fromkeys(sources))
    with ThreadPoolExecutor(workers) as pool:
        results = dict(zip(unique, pool.map(_inspect, unique), strict=True))
    unreadable = tuple(dict.fromkeys(result for result in results.values() if isinstance(result, str)))
    empty = ((0, 0), b"", np.zeros(32, np.uint8))
    entries = [empty if isinstance(result := results[source], str) else result for source in sources]
    sizes = np.array([size for size, _, _ in entries])
    readable = sizes[:, 0] > 0
    misfits = [
        annotation_fault(faces, index, width=int(sizes[index, 0]), height=int(sizes[index, 1]))
        for index in np.flatnonzero(readable).tolist()
    ]
    if any("width and height swapped" in line for line in misfits):
        misfits += find_hidden_rotations(faces)
    low, high = faces.boxes[:, None, :2], faces.boxes[:, None, 2:]
    outside_box = ((faces.points < low - 0.5) | (faces.points > high + 0.5)).any(-1) & faces.visible
    return SplitCheck(
        faces=faces,
        faults=(*faults, *unreadable),
        misfits=tuple(dict.fromkeys(line for line in misfits if line)),
        sizes=sizes,
        outside=readable & (points_outside(faces.points, faces.visible, sizes) > 0).any(1),
        cut=np.asarray(outside_box.any(1)),
        digests=tuple(digest for _, digest, _ in entries),
        patterns=np.stack([pattern for _, _, pattern in entries]),
    )


def duplicates(checks: Mapping[str, SplitCheck]) -> list[tuple[str, str, str]]:
    """Return (kind of match, picture of one split, picture of another) of each duplicate.

    A duplicate is the same file, or the same photo with another encoding or other colors.
    """
    matches = []
    names = list(checks)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            matches += _compare(first, checks[first], second, checks[second])
    return matches


def find_renamed_duplicates(check: SplitCheck) -> list[tuple[str, str]]:
    """Return (picture, the same file under another name) of one split where the names of the photos differ.

    Training may use one of them and validation the other.
    """
    first: dict[bytes, int] = {}
    pairs = {}
    for index, digest in enumerate(check.digests):
        other = first.setdefault(digest, index) if digest else index
        if check.faces.photos[other] != check.faces.photos[index]:
            pairs[check.faces.picture_name(index)] = check.faces.picture_name(other)
    return [(name, duplicate) for duplicate, name in pairs.items()]


def _compare(left_split: str, left: SplitCheck, right_split: str, right: SplitCheck) -> list[tuple[str, str, str]]:
    rows, columns = _unique_patterns(left), _unique_patterns(right)
    matches: dict[tuple[str, str], str] = {}
    column_of = {digest: column for column, digest in enumerate(right.digests) if digest}
    for row, digest in enumerate(left.digests):
        if digest in column_of:
            pair = _format_name(left_split, left, row), _format_name(right_split, right, column_of[digest])
            matches[pair] = "the same file"
    left_signs, right_signs = _unpack_signs(left.patterns[rows]), _unpack_signs(right.patterns[columns])
    for start in range(0, len(rows), 2048):  # a product of signs is 256 less twice the number of different bits
        products = left_signs[start : start + 2048] @ right_signs.T
        for row, column in zip(*np.nonzero(products >= 256 - 2 * SAME_PHOTO_BITS), strict=True):
            pair = _format_name(left_split, left, rows[start + row]), _format_name(right_split, right, columns[column])
            matches.setdefault(pair, "probably the same photo")
    return [(kind, *pair) for pair, kind in matches.items()]


def shared_faces(one: FaceSet, other: FaceSet, *, workers: int = 2) -> list[tuple[float, str, str]]:
    """Return (correlation, picture of `one`, picture of `other`) of the faces that are in both sets.

    Faces are aligned by eyes, nose and corners of the mouth and then compared, so that crop, scale and encoding do not
    matter.

    Raises:
      InputError: a scheme does not contain those five points, or a picture cannot be read.
    """
    scores = _align_faces(one, workers) @ _align_faces(other, workers).T
    indices = np.argwhere(scores >= SAME_FACE_CORRELATION)
    pairs = [(float(scores[row, column]), int(row), int(column)) for row, column in indices]
    return [(value, one.picture_name(row), other.picture_name(column)) for value, row, column in sorted(pairs)[::-1]]


def _align_faces(faces: FaceSet, workers: int) -> Float[np.ndarray, "n pixels"]:
    """Return the gray levels of each aligned face, less their mean, as a vector of length 1."""
    try:
        points = get_conversion(faces.scheme, MTFL_5).points(faces.points)
    except ValueError as error:
        raise InputError(f"{faces.name}: its faces cannot be compared with others: {error}") from error
    transforms = np.asarray(geometry.crop_of_shape(points, ALIGNED_POINTS, size=ALIGNED_SIZE), np.float64)

    def align(index: int) -> Float[np.ndarray, "pixels"]:
        options = {"flags": cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, "borderMode": cv2.BORDER_REPLICATE}
        gray = cv2.cvtColor(faces.picture(index), cv2.COLOR_RGB2GRAY)
        height, width = gray.shape
        if points_fault(faces.points[index], faces.visible[index], width=width, height=height):
            return np.zeros(ALIGNED_SIZE**2 // 4, np.float32)  # the points are not on a face in this picture
        side = float(np.linalg.norm(transforms[index, :, 0]))  # picture pixels per aligned pixel
        gray = cv2.GaussianBlur(gray.astype(np.float32), (0, 0), max(0.3, 1.2 * side))
        aligned = cv2.warpAffine(gray, transforms[index], (ALIGNED_SIZE, ALIGNED_SIZE), **options)[::2, ::2].ravel()
        aligned -= aligned.mean()
        return aligned / max(float(np.linalg.norm(aligned)), 1e-6)

    with ThreadPoolExecutor(workers) as pool:
        return np.stack(list(pool.map(align, range(len(faces)))))


def _unpack_signs(patterns: UInt8[np.ndarray, "n 32"]) -> Float[np.ndarray, "n 256"]:
    return np.unpackbits(patterns, axis=1).astype(np.float32) * 2 - 1


def _unique_patterns(check: SplitCheck) -> list[int]:
    """Return the index of one face for each picture that is not blank."""
    first = {digest: index for index, digest in reversed(list(enumerate(check.digests))) if digest}
    ones = np.unpackbits(check.patterns, axis=1).sum(1)
    return sorted(i for i in first.values() if BLANK_BITS <= ones[i] <= 256 - BLANK_BITS)


def _format_name(split: str, check: SplitCheck, index: int) -> str:
    return f"{split}: {check.faces.picture_name(index)}"


def _inspect(picture: Picture) -> tuple[tuple[int, int], bytes, np.ndarray] | str:
    """Return (width and height, digest of the file, pattern), or the reason why it cannot be read."""
    try:
        if isinstance(picture, Path):
            content = read_bytes(picture)
            image = decode_image(content, name=picture_name(picture))
        else:
            image = load_picture(picture)
            content = image.tobytes()
    except InputError as error:
        return str(error)
    return (image.shape[1], image.shape[0]), hashlib.blake2b(content, digest_size=16).digest(), _hash_appearance(image)


def _hash_appearance(image: Image) -> UInt8[np.ndarray, "32"]:
    """Return 256 bits that say where brightness rises from left to right on a 17 x 16 picture ("difference hash")."""
    small = cv2.resize(image, (17, 16), interpolation=cv2.INTER_AREA).astype(np.int32).sum(-1)
    return np.packbits(small[:, 1:] > small[:, :-1])

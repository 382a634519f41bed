"""Matching of the keypoint names in files to the point names of a scheme.

Two names are the same point if their words describe the same part, position and side, in any order and spelling:
`mouth_left`, `LeftMouthCorner`, `leftmouth` and "left mouth corner"; `nose` and "nose tip"; `l_eye`, `left_pupil` and
"left eye center". `WORDS` and `SHORT` list the synonyms: the spellings of COCO, CelebA, MTCNN, RetinaFace, InsightFace,
MediaPipe and CVAT. A name that differs from a point name of the scheme only in case, `_` and `-` is always that point.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float

from wing_jax.errors import InputError
from wing_jax.schemes import SCHEMES, Scheme
from wing_jax.text import cut, quoted

SIDES, HEIGHTS = ("left", "right"), ("top", "bottom")
WORDS = {  # synonyms: the word that is compared
    "l": "left", "lft": "left", "lf": "left", "r": "right", "rt": "right", "rgt": "right", "rght": "right",
    "eyes": "eye", "eyelid": "eye", "lid": "eye", "canthus": "eye corner", "pupil": "eye center",
    "pupils": "eye center", "iris": "eye center", "eyeball": "eye center",
    "eyebrow": "brow", "eyebrows": "brow", "brows": "brow",
    "lips": "lip", "ears": "ear", "tragion": "", "nostrils": "nostril", "menton": "chin", "pronasale": "nose tip",
    "centre": "center", "middle": "center", "mid": "center", "upper": "top", "lower": "bottom", "outside": "outer",
    "inside": "inner", "lateral": "outer", "medial": "inner", "corners": "corner", "commissure": "corner",
    "edge": "corner", "end": "corner",
    "point": "", "pt": "", "landmark": "", "landmarks": "", "keypoint": "", "kp": "", "kpt": "", "facial": "",
    "face": "", "of": "", "the": "",
}  # fmt: skip
SHORT = {  # complete names
    "le": "left eye", "re": "right eye", "n": "nose", "lm": "left mouth", "rm": "right mouth", "ml": "left mouth",
    "mr": "right mouth", "lmc": "left mouth", "rmc": "right mouth",
}  # fmt: skip
COMPOUND_PARTS = (
    "eyebrow",
    "brow",
    "eye",
    "mouth",
    "lip",
    "nose",
    "ear",
    "cheek",
    "nostril",
)  # leftmouth, mouthleft, nosetip
LONGEST_LIST = 160  # characters of a list of names in a message
Key = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]


def find_point_order(names: Sequence[str], scheme: Scheme, *, location: str, hint: str) -> list[int] | None:
    """Return the index in `names`, the keypoint names of a file, of each point of `scheme`.

    Returns:
      The indices, or None if the names contain no information: those of the file or of the scheme only count the points
      in their order.

    Raises:
      InputError: some names do not match the scheme, or match several of its points; the message ends with `hint`.
    """
    matches = match_names(names, scheme)
    indices = [index for index in matches if index is not None]
    if len(indices) == len(names) == scheme.points:
        return np.argsort(indices).tolist()
    numbers = parse_indices(names)
    if numbers is not None:
        return None if numbers == sorted(numbers) else np.argsort(numbers).tolist()
    if parse_indices(scheme.names) is not None:  # a custom scheme without names, only with a number of points
        return None
    unknown = [name for name, index in zip(names, matches, strict=True) if index is None]
    missing = [name for index, name in enumerate(scheme.names) if index not in matches]
    raise InputError(
        f"{location}: unknown order of keypoints: cannot match its names {format_names(unknown)} to "
        f"{format_names(missing)} of {scheme.name} (all names of the file: {format_names(names)}; of the scheme: "
        f"{format_names(scheme.names)}): {hint}"
    )


def match_names(names: Sequence[str], scheme: Scheme) -> list[int | None]:
    """Return for each of `names` the index of the point of `scheme` that it means, or None if that is ambiguous.

    Each point is matched at most once.
    """
    matches: list[int | None] = [None] * len(names)
    for make_key in (plain_name, _make_key):
        points, positions = _index_unique(scheme.names, make_key), _index_unique(names, make_key)
        for key, position in positions.items():
            if matches[position] is None and points.get(key) not in (None, *matches):
                matches[position] = points[key]
    return matches


def _index_unique(names: Sequence[str], make_key: Callable[[str], object]) -> dict[object, int]:
    """Return the indices of the names with a unique key, by key."""
    keys = [make_key(name) for name in names]
    counts = Counter(keys)
    return {key: index for index, key in enumerate(keys) if counts[key] == 1}


def plain_name(name: str) -> str:
    """Return a name in lower case with single spaces between its words: "left eye" for "Left_eye"."""
    return " ".join(re.split(r"[\s_-]+", unicodedata.normalize("NFC", name).strip().lower()))


def parse_indices(names: Sequence[str]) -> list[int] | None:
    """Return the numbers in `names` if these only count from 0 or 1, in any order, after the same prefix; else None.

    Examples of such names: "kp_0", "point 3", "face-12".
    """
    matches = [re.fullmatch(r"(.*?)0*([0-9]{1,6})", name.strip()) for name in names]
    if not names or not all(matches) or len({match[1].lower() for match in matches if match}) != 1:
        return None
    numbers = [int(match[2]) for match in matches if match]
    return numbers if sorted(numbers) in (list(range(len(names))), list(range(1, len(names) + 1))) else None


def must_match_sides(names: Sequence[str], scheme: Scheme) -> bool:
    """Return whether left and right in the file's `names` must mean the same sides as in `scheme`.

    False if all names are those of a custom scheme, where left may mean the person's left.
    """
    custom = scheme.name not in SCHEMES and {plain_name(name) for name in names} <= {*map(plain_name, scheme.names)}
    return not custom


def reject_swapped_sides(
    points: Float[np.ndarray, "n points 2"],
    visible: Bool[np.ndarray, "n points"],
    scheme: Scheme,
    *,
    location: str,
) -> None:
    """Check that the points of `scheme` with "left" in their names are on the left in the pictures.

    Raises:
      InputError: in more than half of the faces they are on the right: the file's names mean the person's left.
    """
    pairs = [sides for pair in scheme.mirrored if (sides := _sort_sides(scheme, *pair))]
    if not pairs:
        return
    left, right = np.array(pairs).T
    both = visible[:, left] & visible[:, right]
    difference = points[:, left, 0] - points[:, right, 0]
    swapped = np.where(both, np.sign(difference), 0).sum(1)
    counted = both.any(1)
    if (swapped[counted] > 0).sum() > counted.sum() / 2:
        left_name, right_name = (scheme.names[index] for index in pairs[0])
        raise InputError(
            f"{location}: in {(swapped > 0).sum()} of {counted.sum()} faces {quoted(left_name)} is to the right of "
            f"{quoted(right_name)}: its names use the person's left and right, {scheme.name} uses the picture's: "
            "swap left and right in the keypoint names of the file"
        )


def _sort_sides(scheme: Scheme, first: int, second: int) -> tuple[int, int] | None:
    """Return the left and the right point of a mirrored pair by their names; None if these contain no side."""
    sides = [_make_key(scheme.names[index])[1][:1] for index in (first, second)]
    if sides == [("left",), ("right",)]:
        return first, second
    return (second, first) if sides == [("right",), ("left",)] else None


def _make_key(name: str) -> Key:
    """Return the sorted words of a name that identify the point, then its sides and its heights in their order.

    The order matters: the left corner of the right eye is not the right corner of the left eye.
    """
    name = SHORT.get(plain_name(name), name)
    separated = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Za-z])(?=[0-9])|(?<=[0-9])(?=[A-Za-z])", " ", name).lower()
    *positions, part = re.split(r"[\W_]of[\W_]", f" {separated} ")  # "corner of the eye" is "eye corner"
    words = [word for plain in re.split(r"[\W_]+", " ".join([part, *positions])) for word in _split_compound(plain)]
    words = [word for plain in words for word in WORDS.get(plain, plain).split()]
    sides, heights = (tuple(word for word in words if word in group) for group in (SIDES, HEIGHTS))
    rest = [word for word in words if word not in (*SIDES, *HEIGHTS)]
    if "lip" in rest and "corner" in rest and not heights and not {"inner", "outer"} & set(rest):
        rest[rest.index("lip")] = "mouth"
    dropped: tuple[str, ...] = ()
    if "nose" in rest:
        dropped = ("tip", "center")
    elif "chin" in rest:
        dropped, heights = ("tip", "center"), ()
    elif "eye" in rest:
        corner_has_side = bool({"inner", "outer"} & set(rest)) or len(sides) > 1
        dropped = ("center", "corner") if corner_has_side else ("center",)
    elif "brow" in rest or ("mouth" in rest and sides):
        dropped = ("corner",)
    return tuple(sorted(word for word in rest if word not in dropped)), sides, heights


def _split_compound(word: str) -> list[str]:
    """Split words written as one, such as "leftmouth" and "nosetip"."""
    for side in SIDES:
        if word.startswith(side) and len(word) > len(side):
            return [side, *_split_compound(word.removeprefix(side))]
        if word.endswith(side) and len(word) > len(side):
            return [*_split_compound(word.removesuffix(side)), side]
    if word not in WORDS:
        for part in COMPOUND_PARTS:
            if word.startswith(part) and word.removeprefix(part) in ("tip", "corner", "centre", "center"):
                return [part, word.removeprefix(part)]
    return [word] if word else []


def format_names(names: Sequence[str]) -> str:
    """Format names for a message: in quotes, cut to `LONGEST_LIST` characters."""
    return cut(", ".join(quoted(name, length=40) for name in names), length=LONGEST_LIST) if names else "none"

"""The names that files give to keypoints, matched to those of a scheme.

Two names are the same point where the words of both say the same part, place and side, in whatever order and spelling:
`mouth_left`, `LeftMouthCorner`, `leftmouth` and "left mouth corner"; `nose` and "nose tip"; `l_eye`, `left_pupil` and
"left eye center". The words that count as equal are those of `WORDS` and `SHORT`: the spellings of COCO, CelebA,
MTCNN, RetinaFace, InsightFace, MediaPipe and CVAT. A name that is a scheme's own, but for case, `_` and `-`, is always
that point.
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
WORDS = {  # how a word is written otherwise: the word that is compared
    "l": "left", "lft": "left", "lf": "left", "r": "right", "rt": "right", "rgt": "right", "rght": "right",
    "eyes": "eye", "eyelid": "eye", "lid": "eye", "canthus": "eye corner", "pupil": "eye center",
    "pupils": "eye center", "iris": "eye center", "eyeball": "eye center",
    "eyebrow": "brow", "eyebrows": "brow", "brows": "brow",
    "lips": "lip", "ears": "ear", "tragion": "", "nostrils": "nostril", "menton": "chin", "pronasale": "nose tip",
    "center": "center", "middle": "center", "mid": "center", "upper": "top", "lower": "bottom", "outside": "outer",
    "inside": "inner", "lateral": "outer", "medial": "inner", "corners": "corner", "commissure": "corner",
    "edge": "corner", "end": "corner",
    "point": "", "pt": "", "landmark": "", "landmarks": "", "keypoint": "", "kp": "", "kpt": "", "facial": "",
    "face": "", "of": "", "the": "",
}  # fmt: skip
SHORT = {  # whole names
    "le": "left eye", "re": "right eye", "n": "nose", "lm": "left mouth", "rm": "right mouth", "ml": "left mouth",
    "mr": "right mouth", "lmc": "left mouth", "rmc": "right mouth",
}  # fmt: skip
GLUED = ("eyebrow", "brow", "eye", "mouth", "lip", "nose", "ear", "cheek", "nostril")  # leftmouth, mouthleft, nosetip
SHOWN = 160  # characters of a list of names in a message
Key = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]


def order_of_names(names: Sequence[str], scheme: Scheme, *, where: str, hint: str) -> list[int] | None:
    """Where each point of `scheme` stands among `names`, the file's names of as many points; None where names say
    nothing: the file's, or the scheme's own, are numbers that count the points in the file's order.

    Raises:
      InputError: some names are not the scheme's, or may be several of its points; the message ends with `hint`.
    """
    found = match_names(names, scheme)
    known = [index for index in found if index is not None]
    if len(known) == len(names) == scheme.points:
        return np.argsort(known).tolist()
    numbers = indices_of(names)
    if numbers is not None:
        return None if numbers == sorted(numbers) else np.argsort(numbers).tolist()
    if indices_of(scheme.names) is not None:  # one's own scheme of so many points, without names
        return None
    unknown = [name for name, index in zip(names, found, strict=True) if index is None]
    missing = [name for index, name in enumerate(scheme.names) if index not in found]
    raise InputError(
        f"{where}: the order of its keypoints is not sure: it names {_listed(unknown)} where {scheme.name} has "
        f"{_listed(missing)} (the file's names: {_listed(names)}; the scheme's: {_listed(scheme.names)}): {hint}"
    )


def match_names(names: Sequence[str], scheme: Scheme) -> list[int | None]:
    """For each of `names` the index of the point of `scheme` that it surely is, or None. A point is matched once."""
    found: list[int | None] = [None] * len(names)
    for key_of in (plain_name, _key):
        points, places = _unique(scheme.names, key_of), _unique(names, key_of)
        for key, place in places.items():
            if found[place] is None and points.get(key) not in (None, *found):
                found[place] = points[key]
    return found


def _unique(names: Sequence[str], key_of: Callable[[str], object]) -> dict[object, int]:
    """By its key, where each of the names stands whose key no other has."""
    keys = [key_of(name) for name in names]
    counts = Counter(keys)
    return {key: index for index, key in enumerate(keys) if counts[key] == 1}


def plain_name(name: str) -> str:
    """A name in small letters, its words parted by single spaces: "Left_eye" is "left eye"."""
    return " ".join(re.split(r"[\s_-]+", unicodedata.normalize("NFC", name).strip().lower()))


def indices_of(names: Sequence[str]) -> list[int] | None:
    """The numbers of `names`, where these are nothing but numbers 0 ... or 1 ..., in any order, behind words that are
    the same for all ("kp_0", "point 3", "face-12"); else None."""
    found = [re.fullmatch(r"(.*?)0*([0-9]{1,6})", name.strip()) for name in names]
    if not names or not all(found) or len({match[1].lower() for match in found if match}) != 1:
        return None
    numbers = [int(match[2]) for match in found if match]
    return numbers if sorted(numbers) in (list(range(len(names))), list(range(1, len(names) + 1))) else None


def tells_sides(names: Sequence[str], scheme: Scheme) -> bool:
    """Whether left and right in the file's `names` must be those of `scheme`: not where they are, word for word, the
    names of a scheme of one's own, in which left may mean the person's."""
    own = scheme.name not in SCHEMES and {plain_name(name) for name in names} <= {*map(plain_name, scheme.names)}
    return not own


def refuse_exchanged_sides(
    points: Float[np.ndarray, "n points 2"],
    visible: Bool[np.ndarray, "n points"],
    scheme: Scheme,
    *,
    where: str,
) -> None:
    """Look whether the points of `scheme` that are called left lie to the left in the pictures.

    Raises:
      InputError: in more than half of the faces they lie to the right: the file's names mean the person's left.
    """
    pairs = [pair for one, other in scheme.mirrored if (pair := _sided(scheme, one, other))]
    if not pairs:
        return
    left, right = np.array(pairs).T
    both = visible[:, left] & visible[:, right]
    beyond = points[:, left, 0] - points[:, right, 0]
    exchanged = np.where(both, np.sign(beyond), 0).sum(1)
    counted = both.any(1)
    if (exchanged[counted] > 0).sum() > counted.sum() / 2:
        one, other = (scheme.names[index] for index in pairs[0])
        raise InputError(
            f"{where}: in {(exchanged > 0).sum()} of {counted.sum()} faces {quoted(one)} lies to the right of "
            f"{quoted(other)}: its names mean the person's left and right, those of {scheme.name} mean the picture's: "
            "exchange left and right in the file's names of keypoints"
        )


def _sided(scheme: Scheme, one: int, other: int) -> tuple[int, int] | None:
    """(the point that is called left, the one called right) of a mirrored pair; None where names do not say."""
    sides = [_key(scheme.names[index])[1][:1] for index in (one, other)]
    if sides == [("left",), ("right",)]:
        return one, other
    return (other, one) if sides == [("right",), ("left",)] else None


def _key(name: str) -> Key:
    """The words of a name that tell the point, sorted; its sides and its heights, each in their order: the left corner
    of the right eye is not the right corner of the left eye."""
    name = SHORT.get(plain_name(name), name)
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Za-z])(?=[0-9])|(?<=[0-9])(?=[A-Za-z])", " ", name).lower()
    *placed, part = re.split(r"[\W_]of[\W_]", f" {parted} ")  # "corner of the eye" is "eye corner"
    words = [word for plain in re.split(r"[\W_]+", " ".join([part, *placed])) for word in _unglued(plain)]
    words = [word for plain in words for word in WORDS.get(plain, plain).split()]
    sides, heights = (tuple(word for word in words if word in of) for of in (SIDES, HEIGHTS))
    rest = [word for word in words if word not in (*SIDES, *HEIGHTS)]
    if "lip" in rest and "corner" in rest and not heights and not {"inner", "outer"} & set(rest):
        rest[rest.index("lip")] = "mouth"
    dropped: tuple[str, ...] = ()
    if "nose" in rest:
        dropped = ("tip", "center")
    elif "chin" in rest:
        dropped, heights = ("tip", "center"), ()
    elif "eye" in rest:
        placed_corner = bool({"inner", "outer"} & set(rest)) or len(sides) > 1
        dropped = ("center", "corner") if placed_corner else ("center",)
    elif "brow" in rest or ("mouth" in rest and sides):
        dropped = ("corner",)
    return tuple(sorted(word for word in rest if word not in dropped)), sides, heights


def _unglued(word: str) -> list[str]:
    """Words written as one: "leftmouth", "nosetip"."""
    for side in SIDES:
        if word.startswith(side) and len(word) > len(side):
            return [side, *_unglued(word.removeprefix(side))]
        if word.endswith(side) and len(word) > len(side):
            return [*_unglued(word.removesuffix(side)), side]
    if word not in WORDS:
        for part in GLUED:
            if word.startswith(part) and word.removeprefix(part) in ("tip", "corner", "center", "center"):
                return [part, word.removeprefix(part)]
    return [word] if word else []


def _listed(names: Sequence[str]) -> str:
    return cut(", ".join(quoted(name, length=40) for name in names), length=SHOWN) if names else "none"

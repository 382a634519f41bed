"""Landmark schemes: how many points, which swap under a mirror, where the eyes are, what lines to draw."""

import dataclasses

import numpy as np
from jaxtyping import Int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scheme:
    """One way to mark a face. "Left" is the left of the image for a face that looks at the camera."""

    name: str
    points: int
    mirrored: tuple[tuple[int, int], ...]  # pairs that change places under a horizontal flip
    left_eye: tuple[int, ...]  # the points whose mean is taken as the pupil
    right_eye: tuple[int, ...]
    left_outer: int  # outer eye corners; the pupils where a scheme has no corners
    right_outer: int
    lines: tuple[tuple[int, ...], ...]
    about: str

    @property
    def flip(self) -> Int[np.ndarray, "points"]:
        """The permutation `p` for which `flipped_points = mirrored_image_points[p]`."""
        permutation = np.arange(self.points)
        for left, right in self.mirrored:
            permutation[[left, right]] = right, left
        return permutation


def _chain(first: int, last: int, *more: int) -> tuple[int, ...]:
    return (*range(first, last + 1), *more)


IBUG_68 = Scheme(
    name="ibug68",
    points=68,
    mirrored=(
        *((i, 16 - i) for i in range(8)),
        *((17 + i, 26 - i) for i in range(5)),
        (31, 35), (32, 34), (36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46),
        (48, 54), (49, 53), (50, 52), (55, 59), (56, 58), (60, 64), (61, 63), (65, 67),
    ),
    left_eye=_chain(36, 41),
    right_eye=_chain(42, 47),
    left_outer=36,
    right_outer=45,
    lines=(
        _chain(0, 16), _chain(17, 21), _chain(22, 26), _chain(27, 30), _chain(31, 35),
        _chain(36, 41, 36), _chain(42, 47, 42), _chain(48, 59, 48), _chain(60, 67, 60),
    ),
    about="68 points of 300-W, Sagonas et al. 2013, https://ibug.doc.ic.ac.uk/resources/300-W/",
)  # fmt: skip

MTFL_5 = Scheme(
    name="mtfl5",
    points=5,
    mirrored=((0, 1), (3, 4)),
    left_eye=(0,),
    right_eye=(1,),
    left_outer=0,
    right_outer=1,
    lines=((0, 2, 1), (3, 2, 4), (3, 4)),
    about="eye centres, nose tip, mouth corners: MTFL, Zhang et al. 2014, https://mmlab.ie.cuhk.edu.hk/projects/TCDCN.html",
)

AFLW_19 = Scheme(
    name="aflw19",
    points=19,
    mirrored=((0, 5), (1, 4), (2, 3), (6, 11), (7, 10), (8, 9), (12, 14), (15, 17)),
    left_eye=(6, 7, 8),
    right_eye=(9, 10, 11),
    left_outer=6,
    right_outer=11,
    lines=((0, 1, 2), (3, 4, 5), (6, 7, 8), (9, 10, 11), (12, 13, 14), (15, 16, 17)),
    about="AFLW without the ears: Zhu et al., CCL, CVPR 2016; brows, eyes, nose, mouth, chin",
)

AFLW_21 = Scheme(
    name="aflw21",
    points=21,
    mirrored=((0, 5), (1, 4), (2, 3), (6, 11), (7, 10), (8, 9), (12, 16), (13, 15), (17, 19)),
    left_eye=(6, 7, 8),
    right_eye=(9, 10, 11),
    left_outer=6,
    right_outer=11,
    lines=((0, 1, 2), (3, 4, 5), (6, 7, 8), (9, 10, 11), (13, 14, 15), (17, 18, 19)),
    about="AFLW with the ears (points 12 and 16): Koestinger et al. 2011",
)

SCHEMES = {scheme.name: scheme for scheme in (IBUG_68, MTFL_5, AFLW_19, AFLW_21)}


def get_scheme(name: str) -> Scheme:
    """The scheme of that name.

    Raises:
      ValueError: there is none; the message lists those there are.
    """
    if name not in SCHEMES:
        raise ValueError(f"no landmark scheme is called {name!r}: use one of {', '.join(SCHEMES)}")
    return SCHEMES[name]

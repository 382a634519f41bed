"""The schemes of the published data sets."""

from wing_jax.schemes.scheme import SCHEMES, Scheme
from wing_jax.text import quoted


def _chain(first: int, last: int, *more: int) -> tuple[int, ...]:
    return (*range(first, last + 1), *more)


def _expand_names(**parts: int | str) -> tuple[str, ...]:
    """Expand to point names.

    `jaw=2` is "jaw 1", "jaw 2"; `nose="tip, bottom"` is "nose tip", "nose bottom"; `chin=""` is "chin".
    """
    names: list[str] = []
    for part, suffixes in parts.items():
        part = part.replace("_", " ")
        if isinstance(suffixes, int):
            names += [f"{part} {number}" for number in range(1, suffixes + 1)]
        else:
            names += [f"{part} {word}".strip() for word in suffixes.split(", ")]
    return tuple(names)


_EYE_6 = "outer corner, top 1, top 2, inner corner, bottom 1, bottom 2"
_EYE_6_RIGHT = "inner corner, top 1, top 2, outer corner, bottom 1, bottom 2"
_OUTER_LIP = (
    "left corner, top 1, top 2, top middle, top 3, top 4, "
    "right corner, bottom 1, bottom 2, bottom middle, bottom 3, bottom 4"
)
_INNER_LIP = "left corner, top 1, top middle, top 2, right corner, bottom 1, bottom middle, bottom 2"

IBUG_68 = Scheme(
    name="ibug68",
    names=_expand_names(
        jaw=17, left_brow=5, right_brow=5, nose_bridge=4, nostrils=5, left_eye=_EYE_6, right_eye=_EYE_6_RIGHT,
        outer_lip=_OUTER_LIP, inner_lip=_INNER_LIP,
    ),
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
    names=("left eye", "right eye", "nose tip", "left mouth corner", "right mouth corner"),
    mirrored=((0, 1), (3, 4)),
    left_eye=(0,),
    right_eye=(1,),
    left_outer=0,
    right_outer=1,
    lines=((0, 2, 1), (3, 2, 4), (3, 4)),
    about="eye centers, nose tip, mouth corners: MTFL, Zhang et al. 2014, https://mmlab.ie.cuhk.edu.hk/projects/TCDCN.html",
)

AFLW_19 = Scheme(
    name="aflw19",
    names=_expand_names(
        left_brow="left, middle, right", right_brow="left, middle, right", left_eye="left corner, middle, right corner",
        right_eye="left corner, middle, right corner", nose="left, tip, right",
        mouth="left corner, middle, right corner", chin="",
    ),
    mirrored=((0, 5), (1, 4), (2, 3), (6, 11), (7, 10), (8, 9), (12, 14), (15, 17)),
    left_eye=(6, 7, 8),
    right_eye=(9, 10, 11),
    left_outer=6,
    right_outer=11,
    lines=((0, 1, 2), (3, 4, 5), (6, 7, 8), (9, 10, 11), (12, 13, 14), (15, 16, 17)),
    about="AFLW without the ears: Zhu et al., CCL, CVPR 2016; brows, eyes, nose, mouth, chin",
)  # fmt: skip

AFLW_21 = Scheme(
    name="aflw21",
    names=_expand_names(
        left_brow="left, middle, right", right_brow="left, middle, right", left_eye="left corner, middle, right corner",
        right_eye="left corner, middle, right corner", left_ear="", nose="left, tip, right", right_ear="",
        mouth="left corner, middle, right corner", chin="",
    ),
    mirrored=((0, 5), (1, 4), (2, 3), (6, 11), (7, 10), (8, 9), (12, 16), (13, 15), (17, 19)),
    left_eye=(6, 7, 8),
    right_eye=(9, 10, 11),
    left_outer=6,
    right_outer=11,
    lines=((0, 1, 2), (3, 4, 5), (6, 7, 8), (9, 10, 11), (13, 14, 15), (17, 18, 19)),
    about="AFLW with the ears (points 12 and 16): Koestinger et al. 2011",
)  # fmt: skip

COFW_29 = Scheme(
    name="cofw29",
    names=(
        "left brow outer end", "right brow outer end", "left brow inner end", "right brow inner end",
        "left brow top", "left brow bottom", "right brow top", "right brow bottom",
        "left eye outer corner", "right eye outer corner", "left eye inner corner", "right eye inner corner",
        "left eye top", "left eye bottom", "right eye top", "right eye bottom", "left pupil", "right pupil",
        "nose left", "nose right", "nose tip", "nose bottom", "mouth left corner", "mouth right corner",
        "upper lip top", "upper lip bottom", "lower lip top", "lower lip bottom", "chin",
    ),
    mirrored=((0, 1), (2, 3), (4, 6), (5, 7), (8, 9), (10, 11), (12, 14), (13, 15), (16, 17), (18, 19), (22, 23)),
    left_eye=(16,),
    right_eye=(17,),
    left_outer=8,
    right_outer=9,
    lines=(
        (0, 4, 2, 5, 0), (1, 6, 3, 7, 1), (8, 12, 10, 13, 8), (9, 14, 11, 15, 9), (18, 20, 19), (18, 21, 19),
        (22, 24, 23, 27, 22), (22, 25, 23, 26, 22),
    ),
    about="29 points with occlusion: COFW, Burgos-Artizzu et al., ICCV 2013, https://data.caltech.edu/records/bc0bf-nc666",
)  # fmt: skip

WFLW_98 = Scheme(
    name="wflw98",
    names=_expand_names(
        jaw=33, left_brow="top 1, top 2, top 3, top 4, top 5, bottom 1, bottom 2, bottom 3, bottom 4",
        right_brow="top 1, top 2, top 3, top 4, top 5, bottom 1, bottom 2, bottom 3, bottom 4",
        nose_bridge=4, nostrils=5,
        left_eye="outer corner, top 1, top 2, top 3, inner corner, bottom 1, bottom 2, bottom 3",
        right_eye="inner corner, top 1, top 2, top 3, outer corner, bottom 1, bottom 2, bottom 3",
        outer_lip=_OUTER_LIP, inner_lip=_INNER_LIP, left_pupil="", right_pupil="",
    ),
    mirrored=(
        *((i, 32 - i) for i in range(16)),
        *((33 + i, 46 - i) for i in range(5)), *((38 + i, 50 - i) for i in range(4)),
        (55, 59), (56, 58),
        *((60 + i, 72 - i) for i in range(5)), (65, 75), (66, 74), (67, 73),
        (76, 82), (77, 81), (78, 80), (83, 87), (84, 86), (88, 92), (89, 91), (93, 95), (96, 97),
    ),
    left_eye=(96,),
    right_eye=(97,),
    left_outer=60,
    right_outer=72,
    lines=(
        _chain(0, 32), _chain(33, 41, 33), _chain(42, 50, 42), _chain(51, 54), _chain(55, 59),
        _chain(60, 67, 60), _chain(68, 75, 68), _chain(76, 87, 76), _chain(88, 95, 88),
    ),
    about="98 points: WFLW, Wu et al., CVPR 2018, https://wywu.github.io/projects/LAB/WFLW.html",
)  # fmt: skip

LAPA_106 = Scheme(
    name="lapa106",
    names=_expand_names(
        jaw=33, left_brow="top 1, top 2, top 3, top 4, top 5, bottom 1, bottom 2, bottom 3, bottom 4",
        right_brow="top 1, top 2, top 3, top 4, top 5, bottom 1, bottom 2, bottom 3, bottom 4",
        nose_bridge=4, nose=11,
        left_eye="outer corner, top 1, top 2, top 3, inner corner, bottom 1, bottom 2, bottom 3, middle",
        right_eye="inner corner, top 1, top 2, top 3, outer corner, bottom 1, bottom 2, bottom 3, middle",
        outer_lip=_OUTER_LIP, inner_lip=_INNER_LIP, left_pupil="", right_pupil="",
    ),
    mirrored=(
        *((i, 32 - i) for i in range(16)),
        *((33 + i, 46 - i) for i in range(5)), *((38 + i, 50 - i) for i in range(4)),
        *((55 + i, 65 - i) for i in range(5)),
        *((66 + i, 79 - i) for i in range(5)), (71, 82), (72, 81), (73, 80), (74, 83),
        (84, 90), (85, 89), (86, 88), (91, 95), (92, 94), (96, 100), (97, 99), (101, 103), (104, 105),
    ),
    left_eye=(104,),
    right_eye=(105,),
    left_outer=66,
    right_outer=79,
    lines=(
        _chain(0, 32), _chain(33, 41, 33), _chain(42, 50, 42), _chain(51, 54), _chain(55, 65),
        _chain(66, 73, 66), _chain(75, 82, 75), _chain(84, 95, 84), _chain(96, 103, 96),
    ),
    about="106 points: LaPa, Liu et al., AAAI 2020, https://github.com/lucia123/lapa-dataset; JD-landmark has the same",
)  # fmt: skip

FGNET_68 = Scheme(
    name="fgnet68",
    names=_expand_names(
        jaw=15,
        right_brow="outer end, top 2, top 1, inner end, bottom 1, bottom 2",
        left_brow="outer end, top 1, top 2, inner end, bottom 2, bottom 1",
        left_eye="outer corner, top, inner corner, bottom, pupil",
        right_eye="outer corner, top, inner corner, bottom, pupil",
        nose="left bridge, left side, left wing, left bottom, bottom, right bottom, right wing, right side, "
        "right bridge, left nostril, right nostril",
        outer_lip="left corner, top 1, top 2, top middle, top 3, top 4, "
        "right corner, bottom 1, bottom 2, bottom middle, bottom 3, bottom 4",
        inner_lip="bottom 1, bottom middle, bottom 2, top 2, top middle, top 1",
        mouth="middle", nose_tip="",
    ),
    mirrored=(
        *((i, 14 - i) for i in range(7)), *((21 + i, 15 + i) for i in range(6)), *((27 + i, 32 + i) for i in range(5)),
        *((37 + i, 45 - i) for i in range(4)), (46, 47),
        (48, 54), (49, 53), (50, 52), (55, 59), (56, 58), (60, 62), (63, 65),
    ),
    left_eye=(31,),
    right_eye=(36,),
    left_outer=27,
    right_outer=32,
    lines=(
        _chain(0, 14), _chain(15, 20, 15), _chain(21, 26, 21), _chain(27, 30, 27), _chain(32, 35, 32), _chain(37, 45),
        _chain(48, 59, 48), (48, 65, 64, 63, 54), (48, 60, 61, 62, 54),
    ),
    about="68 points of FG-NET in its own order, none of 300-W's: Lanitis et al., PAMI 2002",
)  # fmt: skip

SCUT_86 = Scheme(
    name="scut86",
    names=_expand_names(
        forehead="middle", left_forehead=3, left_temple="", left_jaw=6,
        chin="", right_jaw="6, 5, 4, 3, 2, 1", right_temple="", right_forehead="3, 2, 1",
        left_brow="inner top, top 1, top 2, top 3, outer top, outer bottom, bottom 3, bottom 2, bottom 1, inner bottom",
        right_brow="outer top, top 3, top 2, top 1, inner top, inner bottom, bottom 1, bottom 2, bottom 3, "
        "outer bottom",
        left_eye="inner corner, top 1, top 2, top 3, outer corner, bottom 3, bottom 2, bottom 1",
        right_eye="outer corner, top 3, top 2, top 1, inner corner, bottom 1, bottom 2, bottom 3",
        left_pupil="", right_pupil="",
        nose="left bridge 1, left bridge 2, left side 1, left side 2, left wing, left bottom, bottom, "
        "right bottom, right wing, right side 2, right side 1, right bridge 2, right bridge 1",
        outer_lip="right corner, top 4, top 3, top middle, top 2, top 1, "
        "left corner, bottom 1, bottom 2, bottom 3, bottom 4, bottom 5, bottom 6",
    ),
    mirrored=(
        *((1 + i, 21 - i) for i in range(10)),
        *((22 + i, 36 - i) for i in range(5)), *((27 + i, 41 - i) for i in range(5)),
        *((42 + i, 54 - i) for i in range(5)), *((47 + i, 57 - i) for i in range(3)), (58, 59),
        *((60 + i, 72 - i) for i in range(6)),
        (79, 73), (78, 74), (77, 75), (80, 85), (81, 84), (82, 83),
    ),
    left_eye=(58,),
    right_eye=(59,),
    left_outer=46,
    right_outer=50,
    lines=(
        _chain(0, 21, 0), _chain(22, 31, 22), _chain(32, 41, 32), _chain(42, 49, 42), _chain(50, 57, 50),
        _chain(60, 72), _chain(73, 85, 73),
    ),
    about="86 points of SCUT-FBP5500, the hairline too: Liang et al., ICPR 2018, "
    "https://github.com/HCIILAB/SCUT-FBP5500-Database-Release",
)  # fmt: skip

SCHEMES.update(
    (scheme.name, scheme)
    for scheme in (MTFL_5, AFLW_19, AFLW_21, COFW_29, IBUG_68, WFLW_98, LAPA_106, FGNET_68, SCUT_86)
)


def get_scheme(name: str) -> Scheme:
    """Return the published scheme of that name.

    Raises:
      ValueError: the name is unknown; the message lists the known ones.
    """
    if name not in SCHEMES:
        raise ValueError(f"unknown landmark scheme {quoted(name)}: use one of {', '.join(SCHEMES)}")
    return SCHEMES[name]

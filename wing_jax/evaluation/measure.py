"""A localizer measured on a data set: by normaliser, with given and jittered boxes, by pose and subset."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from wing_jax import balance
from wing_jax.data.chips import MARGIN, Chips, to_picture
from wing_jax.data.face_set import FaceSet
from wing_jax.errors import InputError
from wing_jax.evaluation import evaluation
from wing_jax.inference.localizer import Localizer
from wing_jax.schemes import Conversion

NORMALISATIONS = ("inter-ocular", "inter-pupil", "box diagonal", "box size", "landmark box size")
YAWS = (-90, -60, -30, 30, 60, 90)  # degrees
IN_PROFILES = ("synthetic", "aflw")  # data of full profiles, whose eyes nearly meet: not a length to divide by


def leading_normalisation(data: str) -> str:
    """The normaliser by which figures on the data set of that name are given first."""
    return "box size" if data in IN_PROFILES else NORMALISATIONS[0]


def measure(
    localizer: Localizer,
    faces: FaceSet,
    chips: Chips,
    conversion: Conversion,
    *,
    jitter: float,
    seed: int,
    leading: str = NORMALISATIONS[0],
) -> tuple[list[Float[np.ndarray, "n points 2"]], tuple[evaluation.Evaluation, ...]]:
    """(each stage's points in picture pixels with the given boxes, the evaluations with given and jittered boxes);
    `conversion` leads from the model's points to the faces'."""
    scheme = faces.scheme
    groups: dict[str, Any] = {"subset": faces.subsets, "pose": faces.poses or pose_labels(faces), **faces.groups}
    if faces.attributes:
        groups["attribute"] = faces.attributes
    conditions = {f"{faces.box_convention} boxes": chips.boxes}
    if jitter > 0:
        conditions[f"boxes jittered by {jitter:.0%}"] = jittered(chips.boxes, fraction=jitter, seed=seed)
    given: list[np.ndarray] = []
    evaluations: list[evaluation.Evaluation] = []
    for condition, boxes in conditions.items():
        located = localizer.locate(chips.images, boxes)
        points = [conversion.points(to_picture(chips.frames, found)) for found in located]
        given = given or points
        evaluations += evaluation.evaluate(
            {f"stage {i + 1}": stage for i, stage in enumerate(points)},
            faces.points,
            faces.visible & conversion.told,
            faces.boxes,
            eyes=(scheme.left_eye, scheme.right_eye, scheme.left_outer, scheme.right_outer),
            groups=groups,
            dataset=faces.name,
            condition=condition,
            normalisations=(leading, *(name for name in NORMALISATIONS if name != leading)),
        )
    return given, tuple(evaluations)


def lean(
    found: Float[np.ndarray, "n points 2"], true: Float[np.ndarray, "n points 2"], visible: Bool[np.ndarray, "n points"]
) -> tuple[float, float]:
    """How far right of and below the true points the found ones lie: the mean over a face's visible points, the median
    over the faces, in the units of the points. Errors even out, a shift of the annotation does not: points that count
    from 1 and were read from 0 are a pixel away at every size of face."""
    apart = np.ma.masked_array(found - true, np.broadcast_to(~visible[..., None], found.shape)).mean(1)
    x, y = np.ma.median(apart, axis=0).tolist()
    return x, y


def pose_labels(faces: FaceSet) -> tuple[str, ...]:
    """For faces without annotated pose classes: bins of the annotated yaw, or else of the pose axis found on their own
    true points, where "far" is beyond 1.5 standard deviations and "frontal" within 0.5."""
    if faces.angles is not None:
        return tuple(evaluation.bin_labels(faces.angles[:, 0], YAWS))
    try:
        model = balance.pose_axis(faces.points, faces.visible, flip_permutation=faces.scheme.flip)
    except ValueError:  # too few faces, or too few points
        return ("no axis found",) * len(faces)
    names = ("1 far left", "2 left", "3 frontal", "4 right", "5 far right")
    place = np.searchsorted((-1.5, -0.5, 0.5, 1.5), model.coefficients / model.deviation)
    return tuple(names[i] for i in place)


def jittered(boxes: Float[np.ndarray, "n 4"], *, fraction: float, seed: int) -> Float[np.ndarray, "n 4"]:
    """Boxes whose centre moves by up to `fraction` of their larger side along x and y, and whose size changes by up
    to that fraction; uniform, from `seed`."""
    if fraction > (MARGIN - 1) / 2:
        raise InputError(f"jitter={fraction} would leave the cut-out around the face: use at most {(MARGIN - 1) / 2}")
    random = np.random.default_rng(seed)
    side = (boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 + random.uniform(-fraction, fraction, (len(boxes), 2)) * side
    half = (boxes[:, 2:] - boxes[:, :2]) / 2 * (1 + random.uniform(-fraction, fraction, (len(boxes), 1)))
    return np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)

"""Training on sets with different landmarks: one network predicts the points of all schemes, each with its own head.

The heads are parts of one output layer. A face has the points of all schemes, of which only those of its own set are
visible, so losses and metrics ignore the others.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from wing_jax.data.boxes import ShapeInBox, convert_boxes, shape_in_boxes
from wing_jax.data.face_set import FaceSet
from wing_jax.errors import InputError
from wing_jax.inference.stage import Stage
from wing_jax.schemes import MTFL_5, Scheme
from wing_jax.schemes.conversions import Conversion, get_conversion
from wing_jax.text import quoted
from wing_jax.train.start import with_points


def list_schemes(sets: Sequence[FaceSet]) -> tuple[Scheme, ...]:
    """List the different schemes of `sets`, in the order of their first sets.

    >>> import wing_jax as wj
    >>> faces = wj.load_faces("synthetic", count=2)
    >>> list_schemes([faces, faces])
    (<Scheme ibug68: 68 points>,)
    """
    return tuple({faces.scheme.name: faces.scheme for faces in sets}.values())


def head_columns(schemes: Sequence[Scheme], head: int) -> slice:
    """Return which points of the joined scheme are those of scheme number `head`."""
    start = sum(scheme.points for scheme in schemes[:head])
    return slice(start, start + schemes[head].points)


def join_schemes(schemes: Sequence[Scheme]) -> Scheme:
    """Return the scheme with the points of all `schemes`; the first one has the points that normalize errors."""
    if len(schemes) == 1:
        return schemes[0]
    first, columns = schemes[0], [head_columns(schemes, head) for head in range(len(schemes))]

    def shifted(lists: Sequence[Sequence[Sequence[int]]]) -> Any:
        parts = zip(lists, columns, strict=True)
        return tuple(tuple(column.start + point for point in points) for part, column in parts for points in part)

    return Scheme(
        name=" + ".join(scheme.name for scheme in schemes),
        names=tuple(f"{scheme.name}: {name}" for scheme in schemes for name in scheme.names),
        mirrored=shifted([scheme.mirrored for scheme in schemes]),
        left_eye=first.left_eye,
        right_eye=first.right_eye,
        left_outer=first.left_outer,
        right_outer=first.right_outer,
        lines=shifted([scheme.lines for scheme in schemes]),
        about="the points of several schemes, for training",
    )


def join_sets(sets: Sequence[FaceSet], schemes: Sequence[Scheme]) -> list[FaceSet]:
    """Return `sets` with the points of all `schemes`, and with boxes by the convention of the first set.

    Boxes are converted by the eyes, nose and corners of the mouth, on average over each set. Sets with the scheme of
    the first one must have its convention.

    Raises:
      InputError: a scheme has no conversion to the five points.
    """
    if len(schemes) == 1:
        return list(sets)
    joined, target = join_schemes(schemes), measure_five_points(sets[0])
    names = [scheme.name for scheme in schemes]
    results = []
    for faces in sets:
        columns = head_columns(schemes, names.index(faces.scheme.name))
        points = np.zeros((len(faces), joined.points, 2), np.float32)
        visible = np.zeros((len(faces), joined.points), bool)
        points[:, columns], visible[:, columns] = faces.points, faces.visible
        boxes = faces.boxes
        if faces.scheme.name != names[0]:
            boxes = convert_boxes(boxes, source=measure_five_points(faces), target=target)
        results.append(
            dataclasses.replace(
                faces,
                scheme=joined,
                points=points,
                visible=visible,
                visibility=None,
                boxes=boxes,
                box_convention=sets[0].box_convention,
            )
        )
    return results


def measure_five_points(faces: FaceSet) -> ShapeInBox:
    """Measure the position of eyes, nose and corners of the mouth in the boxes of `faces`.

    Raises:
      InputError: there is no conversion to these points.
    """
    five = _five_points(faces)
    return shape_in_boxes(five.points(faces.points), five.visible(faces.visible), faces.boxes)


def common_points(
    sets: Sequence[FaceSet],
) -> tuple[Float[np.ndarray, "n points 2"], Bool[np.ndarray, "n points"], Scheme]:
    """Return points that all `sets` have, which of them are visible, and their scheme.

    These are the sets' own points, or the eyes, nose and corners of the mouth if the schemes differ.

    Raises:
      InputError: there is no conversion to the five points.
    """
    if len(list_schemes(sets)) == 1:
        points, visible = ([getattr(faces, name) for faces in sets] for name in ("points", "visible"))
        return np.concatenate(points), np.concatenate(visible), sets[0].scheme
    conversions = [_five_points(faces) for faces in sets]
    points = [five.points(faces.points) for five, faces in zip(conversions, sets, strict=True)]
    visible = [five.visible(faces.visible) for five, faces in zip(conversions, sets, strict=True)]
    return np.concatenate(points), np.concatenate(visible), MTFL_5


def select_head(stage: Stage, schemes: Sequence[Scheme], head: int) -> Stage:
    """Return the trained `stage` with the points of scheme number `head` only.

    Raises:
      InputError: its network has no method `select_points`, or no field `points`.
    """
    if len(schemes) == 1:
        return stage
    check_heads(stage.model)
    columns, count = head_columns(schemes, head), schemes[head].points
    index, offset = np.arange(columns.start, columns.stop), np.zeros((count, 2), np.float32)
    variables = stage.model.select_points(stage.variables, index, offset, size=stage.input_size)
    model = with_points(stage.model, trained_points=sum(scheme.points for scheme in schemes), points=count)
    return dataclasses.replace(stage, model=model, variables=variables)


def check_heads(model: Any) -> None:
    """Check that a network can have several heads.

    Raises:
      InputError: it has no method `select_points`.
    """
    if not hasattr(model, "select_points"):
        raise InputError(
            f"the network {quoted(type(model).__name__)} has no method `select_points`, which training on several "
            "schemes needs: use a network of wing_jax.models, or convert the sets to one scheme"
        )


def _five_points(faces: FaceSet) -> Conversion:
    try:
        return get_conversion(faces.scheme, MTFL_5)
    except ValueError as error:
        raise InputError(
            f"{faces.name}: {error}: sets with different landmarks can be trained together only if each scheme has a "
            "conversion to mtfl5"
        ) from error

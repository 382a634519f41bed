"""Groups of faces: by subset, pose, annotated attribute, and by the user's labels."""

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Array, Bool, Float

from wing_jax import balance
from wing_jax.data.face_set import FaceSet
from wing_jax.errors import InputError
from wing_jax.text import quoted

Division: TypeAlias = Mapping[str, Bool[np.ndarray, "faces"]]  # the members of each label, which may overlap
YAWS = (-90, -60, -30, 30, 60, 90)  # degrees


def groups_of(faces: FaceSet, *, more: Mapping[str, Any] | None = None) -> dict[str, Division]:
    """Return the groups that `faces` are annotated with, "pose" included, and those of `more`.

    Args:
      faces: the annotated faces.
      more: groups by name. A group is either one label for each face, e.g. `{"camera": ["left", "top", ...]}`, or the
        members of each label, which may overlap, e.g. `{"state": {"blurred": [True, ...], "dark": [True, ...]}}`.

    Raises:
      InputError: a group does not have one label for each face.
    """
    named: dict[str, Any] = {"subset": faces.subsets, "pose": faces.poses or pose_labels(faces)}
    if faces.attributes:
        named["attribute"] = faces.attributes
    named |= getattr(faces, "groups", None) or {}
    return {name: _members(labels, name, len(faces)) for name, labels in {**named, **(more or {})}.items()}


def pose_labels(faces: FaceSet) -> tuple[str, ...]:
    """Return a pose label for each face, for data without annotated pose classes.

    The labels are bins of the annotated yaw if there is one, otherwise of the pose axis computed from the faces' true
    points: "far" is beyond 1.5 standard deviations, "frontal" within 0.5.
    """
    if faces.angles is not None:
        return tuple(bin_labels(faces.angles[:, 0], YAWS))
    try:
        model = balance.pose_axis(faces.points, faces.visible, flip_permutation=faces.scheme.flip)
    except ValueError:  # too few faces, or too few points
        return ("no axis found",) * len(faces)
    names = ("1 far left", "2 left", "3 frontal", "4 right", "5 far right")
    bins = np.searchsorted((-1.5, -0.5, 0.5, 1.5), model.coefficients / model.deviation)
    return tuple(names[i] for i in bins)


def bin_labels(degrees: Float[Array | np.ndarray, "faces"], edges: Sequence[float | int]) -> list[str]:
    """Return the bin of each angle, named like "-30° to 30°" for [edge, next edge); "other" outside and for NaN.

    >>> bin_labels(np.array([-12.0, 45.0]), [-30, 30, 60])
    ['-30° to 30°', '30° to 60°']

    Raises:
      InputError: the edges do not increase.
    """
    if len(edges) < 2 or (np.diff(edges) <= 0).any():
        raise InputError(f"edges must be two or more increasing numbers, not {list(edges)}")
    inner = [f"{low:g}° to {high:g}°" for low, high in itertools.pairwise(edges)]
    names = ["other", *inner, "other"]  # np.searchsorted puts NaN past the last edge
    return [names[i] for i in np.searchsorted(edges, np.asarray(degrees), side="right")]


def label_order(label: str) -> tuple[float, str]:
    """Return the sort key of a label: labels with a number come first, by that number."""
    number = re.match(r"[^\w-]*(-?\d+(?:\.\d+)?)", label)
    return (float(number[1]) if number else np.inf, label)


def _members(labels: Any, name: str, faces: int) -> Division:
    """Return a mask of the faces for each label."""
    if isinstance(labels, Mapping):
        members = {str(label): np.asarray(mask, bool) for label, mask in labels.items()}
    else:
        column = np.asarray([str(label) for label in labels])
        members = {label: column == label for label in dict.fromkeys(column.tolist())}
    if wrong := [mask.shape for mask in members.values() if mask.shape != (faces,)]:
        raise InputError(
            f"group {quoted(name)} has {' x '.join(map(str, wrong[0]))} labels for {faces} faces: pass one label for "
            "each face"
        )
    return members

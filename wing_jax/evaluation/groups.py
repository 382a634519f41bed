"""Groups of faces: by subset, pose, annotated attribute, and by labels of the user's own."""

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
    """The groups that `faces` are annotated with, "pose" among them, and `more`.

    Args:
      faces: the annotated faces.
      more: groups by name, each a label for every face, e.g. `{"camera": ["left", "top", ...]}`, or the members of each
        label, which may overlap, e.g. `{"state": {"blurred": [True, ...], "dark": [True, ...]}}`.

    Raises:
      InputError: a group has not one label a face.
    """
    named: dict[str, Any] = {"subset": faces.subsets, "pose": faces.poses or pose_labels(faces)}
    if faces.attributes:
        named["attribute"] = faces.attributes
    named |= getattr(faces, "groups", None) or {}
    return {name: _members(labels, name, len(faces)) for name, labels in {**named, **(more or {})}.items()}


def pose_labels(faces: FaceSet) -> tuple[str, ...]:
    """A pose for each face without annotated pose classes.

    These are bins of the annotated yaw, or else of the pose axis found on the faces' own true points, where "far" is
    beyond 1.5 standard deviations and "frontal" within 0.5.
    """
    if faces.angles is not None:
        return tuple(bin_labels(faces.angles[:, 0], YAWS))
    try:
        model = balance.pose_axis(faces.points, faces.visible, flip_permutation=faces.scheme.flip)
    except ValueError:  # too few faces, or too few points
        return ("no axis found",) * len(faces)
    names = ("1 far left", "2 left", "3 frontal", "4 right", "5 far right")
    place = np.searchsorted((-1.5, -0.5, 0.5, 1.5), model.coefficients / model.deviation)
    return tuple(names[i] for i in place)


def bin_labels(degrees: Float[Array | np.ndarray, "faces"], edges: Sequence[float | int]) -> list[str]:
    """Names like "-30° to 30°" of the bins [edge, next edge) of angles; "other" outside them and for NaN.

    >>> bin_labels(np.array([-12.0, 45.0]), [-30, 30, 60])
    ['-30° to 30°', '30° to 60°']

    Raises:
      InputError: the edges do not rise.
    """
    if len(edges) < 2 or (np.diff(edges) <= 0).any():
        raise InputError(f"edges must be two or more rising numbers, not {list(edges)}")
    inner = [f"{low:g}° to {high:g}°" for low, high in itertools.pairwise(edges)]
    names = ["other", *inner, "other"]  # np.searchsorted puts NaN past the last edge
    return [names[i] for i in np.searchsorted(edges, np.asarray(degrees), side="right")]


def label_order(label: str) -> tuple[float, str]:
    """The key that sorts labels with a number by number, then the others."""
    number = re.match(r"[^\w-]*(-?\d+(?:\.\d+)?)", label)
    return (float(number[1]) if number else np.inf, label)


def _members(labels: Any, name: str, faces: int) -> Division:
    """The faces of each label."""
    if isinstance(labels, Mapping):
        members = {str(label): np.asarray(mask, bool) for label, mask in labels.items()}
    else:
        column = np.asarray([str(label) for label in labels])
        members = {label: column == label for label in dict.fromkeys(column.tolist())}
    if wrong := [mask.shape for mask in members.values() if mask.shape != (faces,)]:
        raise InputError(
            f"group {quoted(name)} has {' x '.join(map(str, wrong[0]))} labels for {faces} faces: give one for each"
        )
    return members

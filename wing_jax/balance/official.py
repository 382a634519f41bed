"""The balancing of the authors' own code, `pdb.m`, step by step with its quirks."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from wing_jax.balance.duplication import Coefficients, pose_edges
from wing_jax.balance.pose import Balance, checked_shapes
from wing_jax.procrustes import align, flat


def official_hsm(*, bins: int = 9) -> Balance:
    """HSM as an argument of `wing_jax.fit`, as the authors' own code has it (`official_duplication`).

    Args:
      bins: of |coefficient|.

    Returns:
      A function of the points, which are visible, and the scheme's flip, that answers the copies of each face.

    >>> shapes = np.random.default_rng(0).normal(0, 1, (50, 5, 2))
    >>> official_hsm(bins=3)(shapes, np.ones((50, 5), bool), np.arange(5)).shape
    (50,)
    """

    def copies(points: np.ndarray, visible: np.ndarray, flip: np.ndarray) -> np.ndarray:
        return np.bincount(official_duplication(points, bins=bins).indices, minlength=len(points))

    return copies


class OfficialBalance(NamedTuple):
    """What the official balancing answers.

    Args:
      coefficients: absolute values, in the unit of the shapes.
      ratios: copies of each face of a bin; 0 for an empty bin.
      indices: of the faces of an epoch, `[copies]`.

    >>> OfficialBalance(np.zeros(1), np.array([2]), np.array([0, 0])).indices.tolist()
    [0, 0]
    """

    coefficients: Coefficients
    ratios: Int[np.ndarray, "bins"]
    indices: Int[np.ndarray, "copies"]


def official_duplication(
    shapes: Float[np.ndarray, "faces points 2"],
    *,
    bins: int = 9,
    axis: int | None = None,
    reflection: bool = True,
) -> OfficialBalance:
    """The authors' own balancing, step by step with its quirks: `pdb.m` of github.com/FengZhenhua/Wing-Loss.

    The plain mean of raw shapes is the target of all alignments; a shape is mirrored if it then fits better (Matlab's
    default; `reflection=False` forbids it); the axis is the second for 19 points and else the first (`axis`, from 0,
    chooses another). The fullest bin is counted in bins from min |c| to max |c|, closed on the right; the faces are
    taken from bins that start at 0, closed at both ends, so a face on an edge is in two; copies are
    round(fullest / faces), half away from zero. Empty bins, where `pdb.m` divides by zero, are left out,
    and the largest |c|, which rounding of the last edge drops there at times, is kept.
    `duplication_counts` is the method of the paper's text.

    Args:
      shapes: `[faces, L, 2]`, in any unit, all points visible.
      bins: of |coefficient|.
      axis: which principal axis is pose, from 0; None: as `pdb.m` chooses.
      reflection: whether shapes may be mirrored in the alignment.

    Returns:
      The coefficients, the copies of each bin and the faces of an epoch.

    Raises:
      ValueError: fewer than 3 faces, `bins` below 1, a point is not finite, or a shape is one point.

    >>> shapes = np.random.default_rng(0).normal(0, 1, (50, 5, 2))
    >>> official_duplication(shapes, bins=3).coefficients.shape
    (50,)
    """
    raw, _ = checked_shapes(shapes, None)
    if len(raw) < 3:
        raise ValueError(f"{len(raw)} faces are too few to find the axis of pose: give 3 or more")
    mean = raw.mean(0)
    aligned = align(raw, mean)
    if reflection:
        mirrored = align(np.conj(raw), mean)
        better = np.linalg.norm(mirrored - mean, axis=-1) < np.linalg.norm(aligned - mean, axis=-1)
        aligned = np.where(better[:, None], mirrored, aligned)
    deviations = flat(aligned - aligned.mean(0))
    chosen = int(raw.shape[1] == 19) if axis is None else axis
    eigenvectors = np.linalg.eigh(deviations.T @ deviations)[1][:, ::-1]
    coefficients = np.abs(deviations @ eigenvectors[:, chosen])
    inner = pose_edges(coefficients, bins=bins)[1:-1]
    fullest = np.bincount(np.searchsorted(inner, coefficients, side="left"), minlength=bins).max()
    low = np.arange(bins) * coefficients.max() / bins
    high = np.append(low[1:], coefficients.max())
    members = [np.flatnonzero((coefficients >= a) & (coefficients <= b)) for a, b in zip(low, high, strict=True)]
    ratios = np.array([int(fullest / len(faces) + 0.5) if len(faces) else 0 for faces in members])
    indices = np.concatenate([np.tile(faces, ratio) for faces, ratio in zip(members, ratios, strict=True)])
    return OfficialBalance(coefficients, ratios, indices)

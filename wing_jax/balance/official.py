"""The balancing of the authors' code, `pdb.m`, reproduced step by step with its quirks."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from wing_jax.balance.duplication import Coefficients, pose_edges
from wing_jax.balance.pose import Balance, check_shapes
from wing_jax.procrustes import align, flat


def official_hsm(*, bins: int = 9) -> Balance:
    """Return HSM as the authors' code computes it (`official_duplication`), for `wing_jax.fit(balance=...)`.

    Args:
      bins: number of bins of |coefficient|.

    Returns:
      A function `(points, visible, flip) -> copies of each face`; `flip` is the scheme's permutation.

    >>> shapes = np.random.default_rng(0).normal(0, 1, (50, 5, 2))
    >>> official_hsm(bins=3)(shapes, np.ones((50, 5), bool), np.arange(5)).shape
    (50,)
    """

    def copies(points: np.ndarray, visible: np.ndarray, flip: np.ndarray) -> np.ndarray:
        return np.bincount(official_duplication(points, bins=bins).indices, minlength=len(points))

    return copies


class OfficialBalance(NamedTuple):
    """The result of the official balancing.

    Args:
      coefficients: absolute pose coefficients `[faces]`, in the unit of the shapes.
      ratios: copies of each face in each bin, `[bins]`; 0 for an empty bin.
      indices: indices of the faces of an epoch, `[copies]`.

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
    """Balance as the authors' code does, with its quirks: `pdb.m` of github.com/FengZhenhua/Wing-Loss.

    All shapes are aligned to the plain mean of the raw shapes. A shape is mirrored if it then fits better (Matlab's
    default; `reflection=False` forbids it). The axis is the second one for 19 points, else the first (`axis`, from 0,
    overrides this). The fullest bin is found with bins from min |c| to max |c|, closed on the right. The faces are
    assigned to bins that start at 0 and are closed at both ends, so a face on an edge is in two bins. Each face of a
    bin is repeated round(fullest / faces) times, with halves rounded away from zero. Two things differ from `pdb.m`:
    empty bins, for which it divides by zero, are skipped, and the face with the largest |c|, which `pdb.m` sometimes
    drops because the last edge is rounded, is included. `duplication_counts` is the method of the paper's text.

    Args:
      shapes: `[faces, L, 2]`, in any unit; all points are visible.
      bins: number of bins of |coefficient|.
      axis: index of the principal axis that represents pose, from 0; None: the choice of `pdb.m`.
      reflection: whether the alignment may mirror shapes.

    Returns:
      The coefficients, the number of copies for each bin and the faces of an epoch.

    Raises:
      ValueError: there are fewer than 3 faces, `bins` is below 1, a point is not finite, or a shape's points coincide.

    >>> shapes = np.random.default_rng(0).normal(0, 1, (50, 5, 2))
    >>> official_duplication(shapes, bins=3).coefficients.shape
    (50,)
    """
    raw, _ = check_shapes(shapes, None)
    if len(raw) < 3:
        raise ValueError(f"{len(raw)} faces are too few to find the pose axis: pass 3 or more")
    mean = raw.mean(0)
    aligned = align(raw, mean)
    if reflection:
        mirrored = align(np.conj(raw), mean)
        better = np.linalg.norm(mirrored - mean, axis=-1) < np.linalg.norm(aligned - mean, axis=-1)
        aligned = np.where(better[:, None], mirrored, aligned)
    deviations = flat(aligned - aligned.mean(0))
    axis_index = int(raw.shape[1] == 19) if axis is None else axis
    eigenvectors = np.linalg.eigh(deviations.T @ deviations)[1][:, ::-1]
    coefficients = np.abs(deviations @ eigenvectors[:, axis_index])
    inner = pose_edges(coefficients, bins=bins)[1:-1]
    fullest = np.bincount(np.searchsorted(inner, coefficients, side="left"), minlength=bins).max()
    low = np.arange(bins) * coefficients.max() / bins
    high = np.append(low[1:], coefficients.max())
    members = [np.flatnonzero((coefficients >= a) & (coefficients <= b)) for a, b in zip(low, high, strict=True)]
    ratios = np.array([int(fullest / len(faces) + 0.5) if len(faces) else 0 for faces in members])
    indices = np.concatenate([np.tile(faces, ratio) for faces, ratio in zip(members, ratios, strict=True)])
    return OfficialBalance(coefficients, ratios, indices)

"""How often each face comes in an epoch, so that all bins of the pose coefficient hold as many faces."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

Coefficients = Float[np.ndarray, "faces"]


def duplication_counts(
    coefficients: Coefficients, *, bins: int, cap: int = 20, seed: int = 0
) -> Int[np.ndarray, "faces"]:
    """How often each face is to appear, `[faces]`, 1 to `cap`, so that all bins hold as many as the fullest.

    `bins` of equal width span the coefficients. A bin of n faces that must grow to N gives each face N // n copies
    and one more to N % n of them, drawn by `seed`; so bins match exactly, except those that `cap` keeps smaller
    (the paper names no cap; without one a lone extreme face could fill a bin). Empty bins stay empty.

    Args:
      coefficients: `[faces]`.
      bins: of equal width.
      cap: the most copies of one face.
      seed: draws the faces that have one copy more.

    Returns:
      `[faces]`, each 1 to `cap`.

    Raises:
      ValueError: `bins` or `cap` is below 1, or a coefficient is not finite.

    >>> duplication_counts(np.array([0.0, 0.1, 0.1, 0.9]), bins=2).tolist()
    [1, 1, 1, 3]
    """
    if cap < 1:
        raise ValueError(f"cap = {cap}: a face cannot appear less than once")
    members = _bin_of(coefficients, pose_edges(coefficients, bins=bins))
    sizes = np.bincount(members, minlength=bins)
    whole, rest = np.divmod(sizes.max(), np.maximum(sizes, 1))
    order = np.random.default_rng(seed).permutation(len(coefficients))
    order = order[np.argsort(members[order], kind="stable")]
    place = np.empty_like(order)
    place[order] = np.arange(len(order)) - (np.cumsum(sizes) - sizes)[members[order]]
    return np.minimum(whole[members] + (place < rest[members]), cap)


def duplicated_indices(counts: Int[np.ndarray, "faces"]) -> Int[np.ndarray, "copies"]:
    """Face i, `counts[i]` times over, in the order of the faces.

    Args:
      counts: `[faces]`, of `duplication_counts`.

    Returns:
      The faces of an epoch, `[copies]`.

    >>> duplicated_indices(np.array([1, 3])).tolist()
    [0, 1, 1, 1]
    """
    return np.repeat(np.arange(len(counts)), counts)


def pose_edges(coefficients: Coefficients, *, bins: int) -> Float[np.ndarray, "edges"]:
    """The `bins + 1` edges of bins of equal width from the smallest to the largest coefficient.

    Args:
      coefficients: `[faces]`.
      bins: of equal width.

    Returns:
      `[bins + 1]`, rising.

    Raises:
      ValueError: `bins` is below 1, or there is no coefficient, or one is not finite.

    >>> pose_edges(np.array([0.0, 1.0]), bins=2).tolist()
    [0.0, 0.5, 1.0]
    """
    if bins < 1:
        raise ValueError(f"bins = {bins}: pose balancing needs at least 1 bin")
    if not len(coefficients) or not np.isfinite(coefficients).all():
        raise ValueError("pose coefficients must be finite numbers, at least one: take them from pose_axis")
    return np.linspace(coefficients.min(), coefficients.max(), bins + 1)


class PoseHistogram(NamedTuple):
    """Faces in each bin of the pose coefficient, without and with their copies.

    Args:
      edges: of the bins, `[bins + 1]`.
      before: faces in each bin.
      after: faces with their copies.

    >>> PoseHistogram(np.array([0.0, 1.0]), np.array([2]), np.array([5])).table().splitlines()[-1]
    '| all | 2 | 5 |'
    """

    edges: Float[np.ndarray, "edges"]
    before: Int[np.ndarray, "bins"]
    after: Int[np.ndarray, "bins"]

    def table(self) -> str:
        """The histogram as a Markdown table."""
        rows = zip(self.edges[:-1], self.edges[1:], self.before, self.after, strict=True)
        lines = [f"| {low:+.3f} to {high:+.3f} | {n} | {m} |" for low, high, n, m in rows]
        total = f"| all | {self.before.sum()} | {self.after.sum()} |"
        return "\n".join(["| coefficient | faces | after HSM |", "|---|---:|---:|", *lines, total])


def pose_histogram(coefficients: Coefficients, counts: Int[np.ndarray, "faces"], *, bins: int) -> PoseHistogram:
    """The histogram before and after each face is repeated `counts` times; bins as in `duplication_counts`.

    Args:
      coefficients: `[faces]`.
      counts: `[faces]`, copies of each.
      bins: of equal width.

    Returns:
      The edges and the faces of each bin.

    >>> coefficients = np.array([0.0, 0.1, 0.1, 0.9])
    >>> pose_histogram(coefficients, duplication_counts(coefficients, bins=2), bins=2).after.tolist()
    [3, 3]
    """
    edges = pose_edges(coefficients, bins=bins)
    members = _bin_of(coefficients, edges)
    after = np.bincount(members, weights=counts, minlength=bins).astype(np.int64)
    return PoseHistogram(edges, np.bincount(members, minlength=bins), after)


def _bin_of(coefficients: Coefficients, edges: Float[np.ndarray, "edges"]) -> Int[np.ndarray, "faces"]:
    return np.searchsorted(edges[1:-1], coefficients, side="right")

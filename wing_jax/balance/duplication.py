"""Compute how often each face appears in an epoch.

All bins of the pose coefficient then hold the same number of faces.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

Coefficients = Float[np.ndarray, "faces"]


def duplication_counts(
    coefficients: Coefficients, *, bins: int, cap: int = 20, seed: int = 0
) -> Int[np.ndarray, "faces"]:
    """Compute how often each face appears in an epoch, so that every bin holds as many faces as the fullest.

    `bins` bins of equal width span the coefficients. To grow a bin from n to N faces, each face gets N // n copies, and
    N % n of them, chosen at random with `seed`, get one more. So bins match exactly, except where `cap` limits them
    (the paper has no cap; without one, a single extreme face could fill a bin). Empty bins stay empty.

    Args:
      coefficients: `[faces]`.
      bins: number of bins of equal width.
      cap: largest number of copies of a face.
      seed: seed of the random choice of faces that get one more copy.

    Returns:
      `[faces]`, each 1 to `cap`.

    Raises:
      ValueError: `bins` or `cap` is below 1, or a coefficient is not finite.

    >>> duplication_counts(np.array([0.0, 0.1, 0.1, 0.9]), bins=2).tolist()
    [1, 1, 1, 3]
    """
    if cap < 1:
        raise ValueError(f"cap = {cap}: pass at least 1")
    bin_index = _bin_index(coefficients, pose_edges(coefficients, bins=bins))
    sizes = np.bincount(bin_index, minlength=bins)
    base_copies, extra_copies = np.divmod(sizes.max(), np.maximum(sizes, 1))
    order = np.random.default_rng(seed).permutation(len(coefficients))
    order = order[np.argsort(bin_index[order], kind="stable")]
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order)) - (np.cumsum(sizes) - sizes)[bin_index[order]]
    return np.minimum(base_copies[bin_index] + (rank < extra_copies[bin_index]), cap)


def duplicated_indices(counts: Int[np.ndarray, "faces"]) -> Int[np.ndarray, "copies"]:
    """Repeat the index of face i `counts[i]` times, in the order of the faces.

    Args:
      counts: `[faces]`, from `duplication_counts`.

    Returns:
      The indices of the faces of an epoch, `[copies]`.

    >>> duplicated_indices(np.array([1, 3])).tolist()
    [0, 1, 1, 1]
    """
    return np.repeat(np.arange(len(counts)), counts)


def pose_edges(coefficients: Coefficients, *, bins: int) -> Float[np.ndarray, "edges"]:
    """Return the `bins + 1` edges of bins of equal width from the smallest to the largest coefficient.

    Args:
      coefficients: `[faces]`.
      bins: number of bins of equal width.

    Returns:
      `[bins + 1]`, increasing.

    Raises:
      ValueError: `bins` is below 1, or there is no coefficient, or one is not finite.

    >>> pose_edges(np.array([0.0, 1.0]), bins=2).tolist()
    [0.0, 0.5, 1.0]
    """
    if bins < 1:
        raise ValueError(f"bins = {bins}: pass at least 1")
    if not len(coefficients) or not np.isfinite(coefficients).all():
        raise ValueError("pose coefficients must be one or more finite numbers: compute them with pose_axis")
    return np.linspace(coefficients.min(), coefficients.max(), bins + 1)


class PoseHistogram(NamedTuple):
    """The number of faces in each bin of the pose coefficient, without and with copies.

    Args:
      edges: edges of the bins, `[bins + 1]`.
      before: faces in each bin, without copies, `[bins]`.
      after: faces in each bin, with copies, `[bins]`.

    >>> PoseHistogram(np.array([0.0, 1.0]), np.array([2]), np.array([5])).table().splitlines()[-1]
    '| all | 2 | 5 |'
    """

    edges: Float[np.ndarray, "edges"]
    before: Int[np.ndarray, "bins"]
    after: Int[np.ndarray, "bins"]

    def table(self) -> str:
        """Format the histogram as a Markdown table."""
        rows = zip(self.edges[:-1], self.edges[1:], self.before, self.after, strict=True)
        lines = [f"| {low:+.3f} to {high:+.3f} | {n} | {m} |" for low, high, n, m in rows]
        total = f"| all | {self.before.sum()} | {self.after.sum()} |"
        return "\n".join(["| coefficient | faces | after HSM |", "|---|---:|---:|", *lines, total])


def pose_histogram(coefficients: Coefficients, counts: Int[np.ndarray, "faces"], *, bins: int) -> PoseHistogram:
    """Count the faces of each bin before and after each face is repeated `counts` times.

    The bins are those of `duplication_counts`.

    Args:
      coefficients: `[faces]`.
      counts: `[faces]`, copies of each face.
      bins: number of bins of equal width.

    Returns:
      The edges and the number of faces of each bin.

    >>> coefficients = np.array([0.0, 0.1, 0.1, 0.9])
    >>> pose_histogram(coefficients, duplication_counts(coefficients, bins=2), bins=2).after.tolist()
    [3, 3]
    """
    edges = pose_edges(coefficients, bins=bins)
    bin_index = _bin_index(coefficients, edges)
    after = np.bincount(bin_index, weights=counts, minlength=bins).astype(np.int64)
    return PoseHistogram(edges, np.bincount(bin_index, minlength=bins), after)


def _bin_index(coefficients: Coefficients, edges: Float[np.ndarray, "edges"]) -> Int[np.ndarray, "faces"]:
    return np.searchsorted(edges[1:-1], coefficients, side="right")

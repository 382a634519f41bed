"""Split faces into batches of few sizes, so that few programs are compiled, and fill the batches on the host."""

import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Int


def clip_squares(squares: Int[np.ndarray, "n 3"], sizes: Int[np.ndarray, "n 2"]) -> tuple[np.ndarray, np.ndarray]:
    """Clip squares to photos of `sizes` (width, height): (left and top, width and height); at least one pixel each."""
    corner, side = squares[:, :2], squares[:, 2:]
    clipped = np.clip(corner, 0, sizes - 1)
    return clipped, np.maximum(np.minimum(corner + side, sizes) - clipped, 1)


def round_up(side: int, *, unit: int) -> int:
    """Round `side` up to `unit` times 1, 1.5, 2, 3, 4, 6 ..., so that new photo sizes seldom need a compilation."""
    return next(s for k in itertools.count() for s in (unit << k, (3 * unit << k) // 2) if s >= side)


def batch_ranges(count: int, *, largest: int, bucket: int = 0) -> Iterator[tuple[range, int]]:
    """Split `count` faces into batches: yield (faces, bucket).

    Buckets are powers of two up to `largest`, itself a power of two; at most a quarter of each is padding. With
    `bucket` above 0 all are of this size, or of `largest` if that is smaller.
    """
    if bucket:
        bucket = min(bucket, largest)
        yield from ((range(start, min(start + bucket, count)), bucket) for start in range(0, count, bucket))
        return
    start = 0
    while start < count:
        remaining = count - start
        bucket = min(largest, 1 << (remaining - 1).bit_length())
        bucket = bucket // 2 if 4 * remaining < 3 * bucket else bucket
        stop = min(start + bucket, count)
        yield range(start, stop), bucket
        start = stop


def pad_rows(values: np.ndarray, faces: range, bucket: int) -> np.ndarray:
    """Return the values of `faces`, padded to `bucket` rows by repeating the first."""
    if bucket == len(faces):
        return values[faces.start : faces.stop]
    return values[np.pad(faces, (0, bucket - len(faces)), constant_values=faces[0])]


def run_parallel(work: Callable[[int], None], count: int) -> None:
    """Call `work(0)` to `work(count - 1)` in threads: OpenCV and NumPy's copies release the GIL."""
    workers = min(count, os.cpu_count() or 1)

    def run_share(first: int) -> None:
        for index in range(first, count, workers):
            work(index)

    if workers == 1:
        run_share(0)
        return
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(run_share, range(workers)))

"""Seconds until the faces lie in memory as training takes them: as published, and packed as JPEG and raw.

    python benchmarks/start.py mtfl runs/packed-mtfl runs/raw-mtfl --size 157 [--rounds 5]

The first argument is the data set's name, the others are folders that `wing-jax data pack` wrote of it. All are read
in turn, round by round, by `load_faces` and `crop_faces`, which is what a training does before its first step; the
median of the rounds is printed, and how often it goes into the first. The files are in the page cache from the second
round on.
"""

import argparse
import statistics
import time

from wing_jax.data.face_crops import crop_faces
from wing_jax.data.load import load_faces


def seconds(name: str, root: str, size: int) -> float:
    """To read the training faces and cut their face crops of `size` pixels."""
    start = time.perf_counter()
    crop_faces(load_faces(name, "train", root=root), size=size)
    return time.perf_counter() - start


def main() -> None:
    """Time all sources in turn and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("packed", nargs="+")
    parser.add_argument("--root", default="")
    parser.add_argument("--size", type=int, default=157, help="pixels of a face crop (that of configs/mtfl.py)")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    sources = [(options.data, options.root), *(("packed", folder) for folder in options.packed)]
    taken: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        for name, root in sources:
            taken.setdefault(root or name, []).append(seconds(name, root, options.size))
    medians = {source: statistics.median(values) for source, values in taken.items()}
    first = next(iter(medians.values()))
    for source, median in medians.items():
        span = f"{min(taken[source]):.2f} to {max(taken[source]):.2f}"
        print(f"{source:30} {median:6.2f} s   {first / median:5.1f} x   of {span}")


if __name__ == "__main__":
    main()

"""Measure the seconds to load the training faces into memory: as published, and packed as JPEG and raw.

    python benchmarks/start.py mtfl runs/packed-mtfl runs/raw-mtfl --size 157 [--rounds 5]

The first argument is the name of the data set, the others are folders that `wing-jax data pack` wrote from it. All are
read in turn, round by round, by `load_faces` and `crop_faces`, as in a training before its first step. The median of
the rounds is printed, and the ratio of the first to it. From the second round on, the files are in the page cache.
"""

import argparse
import statistics
import time

from wing_jax.data.face_crops import crop_faces
from wing_jax.data.load import load_faces


def seconds(name: str, root: str, size: int) -> float:
    """Return the seconds to read the training faces and cut their face crops of `size` pixels."""
    start = time.perf_counter()
    crop_faces(load_faces(name, "train", root=root), size=size)
    return time.perf_counter() - start


def main() -> None:
    """Measure all sources in turn and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("packed", nargs="+")
    parser.add_argument("--root", default="")
    parser.add_argument("--size", type=int, default=157, help="pixels of a face crop (that of configs/mtfl.py)")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    sources = [(options.data, options.root), *(("packed", folder) for folder in options.packed)]
    times: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        for name, root in sources:
            times.setdefault(root or name, []).append(seconds(name, root, options.size))
    medians = {source: statistics.median(values) for source, values in times.items()}
    first = next(iter(medians.values()))
    for source, median in medians.items():
        span = f"{min(times[source]):.2f} to {max(times[source]):.2f}"
        print(f"{source:30} {median:6.2f} s   {first / median:5.1f} x   of {span}")


if __name__ == "__main__":
    main()

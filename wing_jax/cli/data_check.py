"""The command `wing-jax data check PATH`: find the faults of a data set."""

import dataclasses
import sys
from collections import Counter
from collections.abc import Sequence

import numpy as np
from rich.console import Console

from wing_jax.balance import pose_axis
from wing_jax.cli.data_source import PathOptions
from wing_jax.cli.options import parse
from wing_jax.data.check import SplitCheck, check_split, duplicates, find_renamed_duplicates, shared_faces
from wing_jax.data.face_set import FaceSet
from wing_jax.report.tables import Grid, rich_table
from wing_jax.runtime.console import make_console, say
from wing_jax.runtime.parameters import check_range

MIN_POSE_FACES = 20  # with fewer faces, a pose axis means nothing


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckOptions(PathOptions):
    """Read all faces of PATH and report counts, picture sizes, faults, duplicates across splits, and poses.

    The exit status is 1 if a file is missing or broken.
    """

    max_listed: int = 10  # list at most this many faults and duplicates of each kind; the table still counts all
    against: str = ""  # folder or file of another data set: list the faces that are in both
    workers: int = 2  # number of threads


def check(arguments: list[str]) -> None:
    """Read all splits and print the tables; exit with status 1 if anything is missing or broken."""
    options = parse(CheckOptions, arguments, command="data check")
    check_range(options, max_listed=(0, 10**9), workers=(1, 256))
    checks: dict[str, SplitCheck] = {}
    broken: list[str] = []
    for split, faces, faults in options.splits(broken=broken):
        checks[split] = check_split(faces, faults, workers=options.workers)
    pairs = duplicates(checks)
    console = make_console(width=120)
    faces = next(iter(checks.values())).faces
    say(console, f"{faces.name}: {faces.scheme.points} points ({faces.scheme.name}), {faces.box_convention!r} boxes")
    console.print(rich_table(_overview(checks, pairs)))
    for split, check in checks.items():
        say(console, f"poses, {split}: {_poses(check.faces)}", soft_wrap=True)
    faults = broken + [f"{split}: {fault}" for split, check in checks.items() for fault in check.faults]
    outside = [f"{split}: {name}" for split, check in checks.items() for name in _names(check, check.outside)]
    cut = [f"{split}: {name}" for split, check in checks.items() for name in _names(check, check.cut)]
    across_splits = [f"{kind}: {first} = {second}" for kind, first, second in pairs]
    misfits = [f"{split}: {line}" for split, check in checks.items() for line in check.misfits]
    renamed = [
        f"{split}: {first} = {second}"
        for split, check in checks.items()
        for first, second in find_renamed_duplicates(check)
    ]
    for title, lines in (
        ("missing or broken", faults),
        ("annotations that do not fit their pictures", misfits),
        ("pictures with points outside", outside),
        ("faces with points outside their box", cut),
        ("pictures in two splits", across_splits),
        ("one picture under two names: training may use one and validation the other", renamed),
    ):
        _list(console, title, lines, options.max_listed)
    if options.against:
        _compare(console, options, checks)
    if faults or misfits:
        sys.exit(1)


def _compare(console: Console, options: CheckOptions, checks: dict[str, SplitCheck]) -> None:
    """Print which faces are also in the other data set, for each pair of splits."""
    for other_split, other, _ in PathOptions(path=options.against).splits():
        for split, check in checks.items():
            pairs = shared_faces(check.faces, other, workers=options.workers)
            console.print()
            say(console, f"{split} and {other.name}, {other_split}: {len(pairs)} faces in both", soft_wrap=True)
            for correlation, first, second in pairs[: options.max_listed]:
                say(console, f"  {correlation:.3f}: {first} = {second}", soft_wrap=True)


def _overview(checks: dict[str, SplitCheck], pairs: Sequence[tuple[str, str, str]]) -> Grid:
    """Return a table with a row for each split, and for each of its subsets if there are several."""
    rows = []
    for split, check in checks.items():
        subsets = Counter(check.faces.subsets)
        rows.append(
            _row(
                split,
                check,
                np.ones(len(check.faces), bool),
                str(len(check.faults) + len(check.misfits)),
                str(_count_pairs(pairs, split)),
            )
        )
        for subset in sorted(subsets) if 1 < len(subsets) <= 12 else ():
            rows.append(_row(f"  {subset}", check, np.array(check.faces.subsets) == subset, "", ""))
    header = ("split", "faces", "photos", "widths", "heights", "broken", "outside", "outside box", "in two splits")
    return Grid(title="", header=header, rows=tuple(rows), words=1)


def _row(name: str, check: SplitCheck, chosen: np.ndarray, broken: str, in_two_splits: str) -> tuple[str, ...]:
    sizes = check.sizes[chosen & (check.sizes[:, 0] > 0)]
    photos = len({photo for photo, selected in zip(check.faces.photos, chosen, strict=True) if selected})
    spans = ("-", "-") if not len(sizes) else (_span(sizes[:, 0]), _span(sizes[:, 1]))
    outside, cut = int(check.outside[chosen].sum()), int(check.cut[chosen].sum())
    return (name, str(int(chosen.sum())), str(photos), *spans, broken, str(outside), str(cut), in_two_splits)


def _span(values: np.ndarray) -> str:
    low, middle, high = values.min(), np.median(values), values.max()
    return f"{low}" if low == high else f"{low}..{middle:.0f}..{high}"


def _count_pairs(pairs: Sequence[tuple[str, str, str]], split: str) -> int:
    return sum(first.startswith(f"{split}: ") or second.startswith(f"{split}: ") for _, first, second in pairs)


def _poses(faces: FaceSet) -> str:
    """Return a histogram in one line: of the annotated classes, or of the pose axis in standard deviations."""
    if faces.poses is not None:
        counts = Counter(faces.poses)
        return ", ".join(f"{pose} {counts[pose]}" for pose in sorted(counts))
    if len(faces) < MIN_POSE_FACES:
        return f"not computed, because there are fewer than {MIN_POSE_FACES} faces"
    if not faces.scheme.mirrored:
        return f"no pose axis: the scheme {faces.scheme.name} has no pairs that swap in a mirror image (mirrored)"
    try:
        model = pose_axis(faces.points, faces.visible, flip_permutation=faces.scheme.flip)
    except ValueError as error:
        return f"no pose axis found ({error})"
    edges = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    counts = np.bincount(np.searchsorted(edges, model.coefficients / model.deviation), minlength=7)
    blocks = "".join("▁▂▃▄▅▆▇█"[min(7, int(8 * count / max(counts.max(), 1)))] for count in counts)
    return f"{blocks}  {' '.join(map(str, counts))} from nose left to nose right, in steps of one standard deviation"


def _names(check: SplitCheck, chosen: np.ndarray) -> list[str]:
    faces = Counter(check.faces.picture_name(index) for index in np.flatnonzero(chosen).tolist())
    return [name if count == 1 else f"{name} ({count} faces)" for name, count in faces.items()]


def _list(console: Console, title: str, lines: Sequence[str], max_listed: int) -> None:
    if lines:
        console.print(f"\n{title}: {len(lines)}")
        for line in lines[:max_listed]:
            say(console, f"  {line}", soft_wrap=True)
        if len(lines) > max_listed:
            console.print(f"  and {len(lines) - max_listed} more (--max_listed {len(lines)} lists all)")

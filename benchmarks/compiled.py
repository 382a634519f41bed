"""Read a program that XLA compiled: its operations, the bytes they move, and the compiler's estimate of their cycles.

XLA prints an `estimated_cycles` for most operations of a TPU program, but none for gathers, scatters and collectives,
and none in a GPU program.
"""

import collections
import dataclasses
import re
from collections.abc import Iterator

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f32": 4, "s32": 4, "u32": 4}
FREE = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all")  # no kernel runs for these
PARTS = ("input", "forward", "backward", "update", "other")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Operation:
    """An operation that runs `times` times per call of the program.

    Args:
      kind: XLA's name of the operation, such as "fusion" or "all-reduce".
      shape: its result as XLA prints it.
      name: the JAX operation it comes from, such as "jit(program)/while/body/jvp(Model)/dot_general".
      cycles: the compiler's estimate for one time; None: it has none.
      times: how often the operation runs.
      in_loop: whether it is in the loop over the steps; else it runs once per call.
      slices: how many slices or elements it gathers or scatters, 0 for other operations.
      rare: whether it is in a branch of a conditional in the scope "fallback", which seldom runs.
      read: bytes of its arguments; of an argument that it only gathers or slices from, those that it takes.
    """

    kind: str
    shape: str
    name: str
    cycles: int | None
    times: int
    in_loop: bool
    slices: int = 0
    rare: bool = False
    read: int = 0

    @property
    def part(self) -> str:
        """The part of a training step that it belongs to: one of `PARTS`, or "fallback" if it runs in rare cases."""
        if self.rare:
            return "fallback"
        if "transpose(jvp(" in self.name:
            return "backward"
        if "jvp(" in self.name:
            return "forward"
        return next((part for part in ("input", "update") if f"/{part}/" in self.name), "other")

    @property
    def size(self) -> int:
        """Bytes of its results."""
        return _size(self.shape)

    @property
    def moved(self) -> int:
        """Bytes that it reads and writes, without the workspace of a library's function, a second result."""
        written = self.shape.strip("(").partition("}")[0] if self.kind == "custom-call" else self.shape
        return self.read + _size(written)


def read_operations(text: str) -> list[Operation]:
    """Return the operations of a compiled program (`compiled.as_text()`) that run on their own, in fusions as one."""
    return list(_walk(_computations(text), "ENTRY", times=1, in_loop=False))


def cycles_by_part(operations: list[Operation], *, steps: int) -> dict[str, float]:
    """Return the estimated cycles of each part of a step, and "once per call" those before and after the loop."""
    totals: dict[str, float] = collections.Counter()
    for operation in operations:
        if operation.in_loop:
            totals[operation.part] += (operation.cycles or 0) * operation.times / steps
        else:
            totals["once per call"] += (operation.cycles or 0) * operation.times
    return dict(totals)


def gathered_slices(operations: list[Operation], *, steps: int) -> int:
    """Return how many slices or elements a step gathers or scatters by operations without an estimate."""
    counted = (o for o in operations if o.in_loop and o.cycles is None and o.part != "fallback")
    return sum(o.times * o.slices // steps for o in counted)


def collective_bytes(operations: list[Operation], *, steps: int) -> int:
    """Return the bytes of the results of the collectives of a step."""
    return sum(
        operation.times * operation.size // steps
        for operation in operations
        if operation.in_loop and operation.kind.removesuffix("-start") in COLLECTIVES
    )


def _computations(text: str) -> dict[str, list[str]]:
    """Return the lines of each computation of the program, by its name."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if not line.startswith(" ") and (match := re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line)):
            lines = found.setdefault("ENTRY" if match[1] else match[2], [])
        elif line.startswith(" "):
            lines.append(line)
    return found


def _size(shape: str) -> int:
    """Return the bytes of an array, or of all arrays of a tuple, as XLA prints its shape."""
    return sum(BYTES.get(dtype, 4) * _product(lengths) for dtype, lengths in re.findall(r"(\w+)\[([\d,]*)\]", shape))


def _walk(
    computations: dict[str, list[str]], name: str, *, times: int, in_loop: bool, rare: bool = False
) -> Iterator[Operation]:
    sizes: dict[str, int] = {}  # of the results so far
    for line in computations[name]:
        match = re.match(r"\s+(?:ROOT )?%([\w.\-]+) = (.*?) ([a-z][\w\-]*)\(([^)]*)", line)
        if match is None:
            continue
        result, shape, kind, inputs = match.groups()
        sizes[result] = _size(shape)
        label, cycles = re.search(r'op_name="([^"]*)"', line), re.search(r'"estimated_cycles":"(\d+)"', line)
        if kind == "while":
            body = re.search(r"body=%([\w.\-]+)", line)
            trips = times * _trips(computations, line)
            yield from _walk(computations, body[1], times=trips, in_loop=True, rare=rare)
        elif kind == "conditional":
            branches = re.search(r"branch_computations=\{([^}]*)\}", line)[1].split(",")
            for branch in (branch.strip().lstrip("%") for branch in branches):
                seldom = rare or any("/fallback/" in inner for inner in computations[branch])
                yield from _walk(computations, branch, times=times, in_loop=in_loop, rare=seldom)
        else:
            yield Operation(
                kind=kind,
                shape=shape,
                name=label[1] if label else "",
                cycles=int(cycles[1]) if cycles else None,
                times=times,
                in_loop=in_loop,
                slices=_count_slices(computations, line),
                rare=rare,
                read=_count_read(computations, line, [sizes.get(n, 0) for n in re.findall(r"%([\w.\-]+)", inputs)]),
            )


def _count_slices(computations: dict[str, list[str]], line: str) -> int:
    """Return how many slices the gathers, and how many elements the scatters, of a line or of its fusion move."""
    called = re.search(r"calls=%([\w.\-]+)", line)
    count = 0
    for inner in computations.get(called[1], []) if called else [line]:
        if match := re.search(r"= \w+\[([\d,]*)\]\S* (gather|scatter|select-and-scatter)\(", inner):
            slices = re.search(r"slice_sizes=\{([\d,]*)\}", inner)
            count += _product(match[1]) // (_product(slices[1]) if slices else 1)
    return count


def _count_read(computations: dict[str, list[str]], line: str, sizes: list[int]) -> int:
    """Return the bytes that an operation reads of its arguments of these sizes."""
    called = re.search(r"calls=%([\w.\-]+)", line)
    lines = computations.get(called[1], []) if called else []
    for inner in lines:
        if match := re.search(r"%([\w.\-]+) = .* parameter\((\d+)\)", inner):
            name, index = match[1], int(match[2])
            users = [user for user in lines if re.search(rf"[(, ]%{re.escape(name)}[,)]", user)]
            taken = [re.search(rf"= (\S+) (?:gather|dynamic-slice)\([^%]*%{re.escape(name)}[,)]", u) for u in users]
            if users and all(taken) and index < len(sizes):
                sizes[index] = min(sizes[index], sum(_size(take[1]) for take in taken))
    return sum(sizes)


def _trips(computations: dict[str, list[str]], line: str) -> int:
    """Return how often a loop runs: the largest constant of its condition."""
    condition = re.search(r"condition=%([\w.\-]+)", line)[1]
    lines = list(computations[condition])
    for called in [found for inner in lines for found in re.findall(r"calls=%([\w.\-]+)", inner)]:
        lines += computations[called]
    return max((int(number) for inner in lines for number in re.findall(r"constant\((\d+)\)", inner)), default=1)


def _product(shape: str) -> int:
    result = 1
    for length in filter(None, shape.split(",")):
        result *= int(length)
    return result

"""What the C library's allocator costs a training on CPUs, and which of its settings mend that.

    python benchmarks/allocator.py [--config configs/w300.py] [--stages stage1 stage2] [--turn 10]

The same training steps, on synthetic faces, in processes that differ in their environment alone; all take turns.
`wing-jax train` gives itself the last of them (`wing_jax.runtime.allocator`).
"""

from pathlib import Path

from comparison import Baseline, Outcome, run, speeds, spread
from report import arguments, publish, table

from wing_jax.config import load_config
from wing_jax.runtime.allocator import LARGE_PAGES, SETTINGS

ROOT = Path(__file__).parents[1]
NONE: dict[str, str | None] = dict.fromkeys(SETTINGS)
PAGES, KEPT = {"GLIBC_TUNABLES": LARGE_PAGES}, {n: v for n, v in SETTINGS.items() if "MALLOC" in n}
WAYS = {
    "as the C library has it": NONE,
    "nothing given back to the system": NONE | KEPT,
    "large pages": NONE | PAGES,
    "both": NONE | KEPT | PAGES,
    "both, and few arenas": NONE | SETTINGS,
}


def main() -> None:
    """A comparison for each stage."""
    parser = arguments(__doc__)
    parser.add_argument("--config", default=str(ROOT / "configs" / "w300.py"))
    parser.add_argument("--stages", nargs="+", default=["stage1", "stage2"])
    parser.add_argument("--turn", type=float, default=10.0, help="seconds of a baseline's turn")
    options = parser.parse_args()
    config, rows, versions = load_config(options.config), [], {}
    for stage in options.stages:
        outcome = run([entered(way, options.config, stage) for way in WAYS], rounds=options.rounds, turn=options.turn)
        versions |= outcome.versions
        rows += [row(outcome, way, stage, getattr(config, stage).batch_size) for way in WAYS]
    head = ("stage", "allocator", "faces/s", "times the first")
    publish("allocator", f"The allocator, {config.name}", table(head, rows), versions=versions, options=options)


def entered(way: str, config: str, stage: str) -> Baseline:
    """The steps of a stage in a way's environment."""
    settings = {"config": config, "stage": stage}
    return Baseline(name=way, script="step_of_config.py", settings=settings, environment=WAYS[way])


def row(outcome: Outcome, way: str, stage: str, batch: int) -> tuple[str, ...]:
    """A line of the table."""
    return stage, way, speeds(outcome, way, batch), spread(outcome.ratios(way, next(iter(WAYS))))


if __name__ == "__main__":
    main()

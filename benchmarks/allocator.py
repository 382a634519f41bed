"""Measure the cost of the C library's allocator in training on CPUs, and the effect of its settings.

    python benchmarks/allocator.py [--config configs/w300.py] [--stages stage1 stage2] [--turn 10]

The same training steps run on synthetic faces in processes that differ only in their environment; all take turns.
`wing-jax train` uses the last setting (`wing_jax.runtime.allocator`).
"""

from pathlib import Path

from comparison import Baseline, Outcome, run, speeds, spread
from report import arguments, publish, table

from wing_jax.config_files import load_config
from wing_jax.runtime.allocator import LARGE_PAGES, SETTINGS

ROOT = Path(__file__).parents[1]
NONE: dict[str, str | None] = dict.fromkeys(SETTINGS)
PAGES, KEPT = {"GLIBC_TUNABLES": LARGE_PAGES}, {n: v for n, v in SETTINGS.items() if "MALLOC" in n}
VARIANTS = {
    "as the C library has it": NONE,
    "nothing given back to the system": NONE | KEPT,
    "large pages": NONE | PAGES,
    "both": NONE | KEPT | PAGES,
    "both, and few arenas": NONE | SETTINGS,
}


def main() -> None:
    """Run a comparison for each stage and publish the table."""
    parser = arguments(__doc__)
    parser.add_argument("--config", default=str(ROOT / "configs" / "w300.py"))
    parser.add_argument("--stages", nargs="+", default=["stage1", "stage2"])
    parser.add_argument("--turn", type=float, default=10.0, help="seconds of a baseline's turn")
    options = parser.parse_args()
    config, rows, versions = load_config(options.config), [], {}
    for stage in options.stages:
        outcome = run(
            [make_baseline(variant, options.config, stage) for variant in VARIANTS],
            rounds=options.rounds,
            turn=options.turn,
        )
        versions |= outcome.versions
        rows += [row(outcome, variant, stage, getattr(config, stage).batch_size) for variant in VARIANTS]
    head = ("stage", "allocator", "faces/s", "times the first")
    publish("allocator", f"The allocator, {config.name}", table(head, rows), versions=versions, options=options)


def make_baseline(variant: str, config: str, stage: str) -> Baseline:
    """Return the baseline of a stage's steps with an allocator setting."""
    settings = {"config": config, "stage": stage}
    return Baseline(name=variant, script="step_of_config.py", settings=settings, environment=VARIANTS[variant])


def row(outcome: Outcome, variant: str, stage: str, batch: int) -> tuple[str, ...]:
    """Return a row of the table."""
    return stage, variant, speeds(outcome, variant, batch), spread(outcome.ratios(variant, next(iter(VARIANTS))))


if __name__ == "__main__":
    main()

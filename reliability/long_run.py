"""Measure memory, compilations, the log and throughput of a training of several hours.

    python reliability/long_run.py CONFIG [--minutes 120] [--warm 10] [--field value ...]

The config's first stage trains until the time is over and is then ended by SIGTERM, as a scheduler would. Memory (the
process's resident pages) is read every 5 seconds. The table has the slope of a line through the means of blocks of five
minutes (because consecutive readings are correlated) and its standard error, after the first `--warm` minutes and in
the second half of the run. The readings are saved in the run's folder as `memory.csv`. Compilations are counted by
JAX's events.
"""

import dataclasses
import json
import math
import os
import resource
import signal
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
from shared import arguments, publish, table

from wing_jax.cli.options import parse_config
from wing_jax.config import Config
from wing_jax.errors import TrainingInterrupted
from wing_jax.from_config.train import train
from wing_jax.runtime import allocator, devices, termination

EVERY, BLOCK = 5.0, 300.0  # seconds
COMPILED = "/jax/core/compile/backend_compile_duration"


class Watch(threading.Thread):
    """Reads memory until the time is over, then ends the training."""

    def __init__(self, minutes: float):
        super().__init__(daemon=True)
        self.seconds, self.readings, self.compiled = 60 * minutes, [], []
        jax.monitoring.register_event_duration_secs_listener(self._count_compilation)

    def _count_compilation(self, event: str, _: float, **__: object) -> None:
        if event == COMPILED:
            self.compiled.append(time.time())

    def run(self) -> None:
        """Read the memory every `EVERY` seconds."""
        page, start = resource.getpagesize(), time.time()
        while time.time() < start + self.seconds:
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * page
            self.readings.append((time.time(), resident / 2**20))
            time.sleep(EVERY)
        os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Train, plot and publish the results."""
    parser = arguments(__doc__)
    parser.add_argument("config", metavar="CONFIG")
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--warm", type=float, default=10)
    options, config_options = parser.parse_known_args()
    devices.prepare_xla()
    loaded = parse_config(Config, [options.config, *config_options], command="train", usage="")
    stage = dataclasses.replace(loaded.stage1, steps=100_000_000)
    config = dataclasses.replace(loaded, stage1=stage, stage2=None, name=f"{loaded.name}-long")
    if config.folder.exists():
        sys.exit(f"{config.folder}: already exists: delete it to start a new run")
    watch = Watch(options.minutes)
    watch.start()
    try:
        with termination.handle_sigterm():
            train(config)
    except TrainingInterrupted as stopped:
        print(stopped)
    log = config.folder / "stage1" / "metrics.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    if not any("faces_per_second" in line for line in lines):
        sys.exit(f"{options.minutes:g} minutes ended before the speed was logged: pass more --minutes")
    readings = [(when - watch.readings[0][0], resident) for when, resident in watch.readings]
    np.savetxt(config.folder / "memory.csv", readings, "%.1f", ",", header="seconds,MiB", comments="")
    figure = Path(__file__).parents[1] / "docs" / f"long-{loaded.name}.png"
    body = summary(watch, lines, warm=60 * options.warm, every=stage.evaluate_every)
    body += ["", f"![Memory and throughput](../docs/{figure.name})"]
    publish(
        f"long-{loaded.name}", f"A long run: {loaded.name}", body, versions={"jax": version("jax")}, options=options
    )
    if not options.print_only:
        plot(watch, lines, figure)


def summary(watch: Watch, lines: list[dict], *, warm: float, every: int) -> list[str]:
    """Return the table of results."""
    times, memory = (np.array(values) for values in zip(*watch.readings, strict=True))
    after_warmup = times > times[0] + warm
    late_half = times > (times[0] + times[-1]) / 2
    steps = [line["step"] for line in lines]
    gaps = {after - before for before, after in zip([0, *steps], steps, strict=False)}
    speed = np.array([line["faces_per_second"] for line in lines if "faces_per_second" in line])
    parts = np.array_split(speed[len(speed) // 20 :], 10)
    tenths = [float(np.median(part)) for part in parts if len(part)]
    late = [when for when in watch.compiled if when > times[0] + warm]
    rows = [
        ("minutes, steps", f"{(times[-1] - times[0]) / 60:.0f}, {steps[-1]:,}"),
        ("memory after the warm-up, its slope a hour", memory_of(times[after_warmup], memory[after_warmup])),
        ("memory in the second half, its slope a hour", memory_of(times[late_half], memory[late_half])),
        (
            "compilations after the warm-up; the last of all",
            f"{len(late)} of {len(watch.compiled)}; after {(max(watch.compiled) - times[0]) / 60:.1f} minutes",
        ),
        ("lines of the log, steps between two", f"{len(lines):,}, {min(gaps)} to {max(gaps)}"),
        ("faces a second, medians of tenths of the run", f"{min(tenths):.0f} to {max(tenths):.0f}"),
        ("checkpoints", f"every {every:,} steps, {steps[-1] // every:,} in all"),
    ]
    return table(("what", "figure"), rows)


def memory_of(times: np.ndarray, memory: np.ndarray) -> str:
    """Format the mean of the memory, its slope, and the standard error of the slope."""
    if not len(times):
        return "no reading: pass more --minutes"
    slope, error = slope_of((times - times[0]) / 3600, memory)
    if math.isnan(slope):
        return f"{memory.mean():.0f} MiB; too short for a slope"
    return f"{memory.mean():.0f} MiB, {slope:+.1f} +- {error:.1f} MiB"


def slope_of(hours: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Return the least-squares slope of the means of blocks of five minutes, and its standard error."""
    block = (hours * 3600 // BLOCK).astype(int)
    if block[0] == block[-1]:  # no slope through one point
        return math.nan, math.nan
    x, y = (np.array([series[block == b].mean() for b in np.unique(block)]) for series in (hours, values))
    design = np.stack([x, np.ones_like(x)], axis=1)
    (slope, _), _, _, _ = np.linalg.lstsq(design, y)
    residuals = y - design @ np.linalg.lstsq(design, y)[0]
    spread = np.sqrt((residuals**2).sum() / max(len(x) - 2, 1) / ((x - x.mean()) ** 2).sum())
    return float(slope), float(spread)


def plot(watch: Watch, lines: list[dict], path: Path) -> None:
    """Plot memory and throughput over the run."""
    times, memory = (np.array(values) for values in zip(*watch.readings, strict=True))
    speed = [line["faces_per_second"] for line in lines if "faces_per_second" in line]
    figure, (above, below) = plt.subplots(2, 1, figsize=(8, 5), layout="constrained")
    above.plot((times - times[0]) / 60, memory, color="#3b6ea8")
    above.set(xlabel="minutes", ylabel="resident memory, MiB", ylim=(0, None))
    below.plot(speed, ".", markersize=1.5, color="#3b6ea8", alpha=0.5)
    below.set(xlabel="lines of the log", ylabel="faces a second", ylim=(0, None))
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    allocator.reexec_with_malloc_env()
    main()

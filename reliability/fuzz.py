"""Test every reader of data, pictures, models, configs and schemes with corrupted and hostile files.

    python reliability/fuzz.py [--cases 100000] [--seed 0] [--workers 2] [--targets NAME ...] [--case NUMBER]

Each case takes a valid set of files (`tests/support/hostile.py`), corrupts one to three of them (bits, cuts, splices,
numbers, words, paths and links to other places), and reads it as a user would, including the pictures. Valid outcomes
are a result or an InputError of one line. Failures are: any other exception, the end of the process, more than 20
seconds, more than 3 GiB of memory in addition to that at the start, a file opened outside of the folder, or a file
opened for writing (by Python's audit events). A failure is reported with the number of its case, with which it can be
repeated.

Other cases are situations (`tests/support/situations.py`): valid sets with unusual names, with hidden files, with bytes
after the ends of pictures, or in another order, which must be read like the original set; sizes up to 1e30 times too
large; videos of any frame rate, whose frames must have the right times; any object as a Python argument; folders of
valid and invalid pictures to predict, where each valid picture must have its result.
"""

import collections
import functools
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from shared import arguments, publish, table

ROOT = str(Path(__file__).parents[1])
SECONDS, MEMORY = 20, 3 << 30
QUIET = ("TF_CPP_MIN_LOG_LEVEL", "OPENCV_LOG_LEVEL", "OPENCV_FFMPEG_LOGLEVEL")


def main() -> None:
    """Distribute the cases to workers, restart those that end, and publish the counts."""
    parser = arguments(__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--targets", nargs="*", default=[])
    parser.add_argument("--case", type=int, help="repeat only this case, in this process, and show what happens")
    options = parser.parse_args()
    if options.case is not None:
        sys.path.insert(0, ROOT)
        print(Cases(options.seed, options.targets).run(options.case, show=True))
        return
    start, counts, failures = time.perf_counter(), collections.Counter(), []
    context = multiprocessing.get_context("spawn")
    workers = [Worker(context, options, number) for number in range(options.workers)]
    while workers:
        for worker in list(workers):
            if worker.receive(counts, failures):
                workers.remove(worker)
    names = sorted({name for name, _ in counts})
    kinds = ("read", "rejected", "failed")
    rows = [(name, *(f"{counts[name, kind]:,}" for kind in kinds)) for name in names]
    rows.append(("all", *(f"{sum(counts[name, kind] for name in names):,}" for kind in kinds)))
    body = [*table(("files of", "read all the same", "rejected in one line", "failures"), rows), ""]
    body += [f"- case {number}, {name}: {message}" for number, name, message in failures[:50]]
    body += [f"{time.perf_counter() - start:.0f} s with {options.workers} workers."]
    versions = {name: version(name) for name in ("numpy", "opencv-python", "pillow", "scipy", "h5py")}
    publish("fuzz", "Hostile files", body, versions=versions, options=options)
    sys.exit(1 if failures else 0)


class Worker:
    """A process that runs every n-th case; if it ends, a new one continues after the case that ended it."""

    def __init__(self, context, options, number: int):
        self._context, self._options, self._next = context, options, number
        self._start()

    def _start(self) -> None:
        self._ours, theirs = self._context.Pipe(duplex=False)
        options = self._options
        numbers = range(self._next, options.cases, options.workers)
        self._process = self._context.Process(
            target=work, args=(theirs, options.seed, options.targets, numbers), daemon=True
        )
        self._process.start()
        theirs.close()
        self._current, self._last_message = (self._next, "?"), time.monotonic() + 120  # imports

    def receive(self, counts: collections.Counter, failures: list[tuple[int, str, str]]) -> bool:
        """Receive a message from the process; return whether all its cases are complete."""
        try:
            if not self._ours.poll(0.2):
                if time.monotonic() - self._last_message < SECONDS + 10:
                    return False
                self._process.kill()  # a library that holds the interpreter blocks the alarm
                raise EOFError
            kind, number, name, message = self._ours.recv()
        except (EOFError, OSError):
            self._process.join()
            number, name = self._current
            if name == "?":
                sys.exit("a worker ended before its first case: run with --case 0 to see why")
            if number >= self._options.cases:
                return True
            counts[name, "failed"] += 1
            failures.append((number, name, f"the process ended with {self._process.exitcode}"))
            print(failures[-1], flush=True)
            self._next = number + self._options.workers
            self._start()
            return False
        self._last_message = time.monotonic()
        if kind == "begins":
            self._current = number, name
        elif kind == "ends":
            self._process.join()
            return True
        else:
            counts[name, kind] += 1
            if kind == "failed":
                failures.append((number, name, message))
                print(failures[-1], flush=True)
            done = sum(counts.values())
            if done % 5000 == 0:
                print(f"{done:,} cases", flush=True)
        return False


def work(connection, seed: int, targets: list[str], numbers: range) -> None:
    """Run the cases `numbers`; report each before it starts."""
    os.environ.update({"TF_CPP_MIN_LOG_LEVEL": "3", "OPENCV_LOG_LEVEL": "SILENT", "OPENCV_FFMPEG_LOGLEVEL": "-8"})
    sys.path.insert(0, ROOT)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # decoders print every fault there
    cases = Cases(seed, targets)
    for number in numbers:
        connection.send(("begins", number, cases.name_of(number), ""))
        connection.send(cases.run(number))
    connection.send(("ends", 0, "", ""))


class Cases:
    """The cases of one seed; each depends only on its number."""

    def __init__(self, seed: int, targets: list[str]):
        from tests.support.hostile import TARGETS, Watch
        from tests.support.situations import SITUATIONS

        self._targets, self._situations, self._seed, self._watch = TARGETS, SITUATIONS, seed, Watch()
        shares = {name: target.share for name, target in TARGETS.items()}
        shares |= {name: share for name, (_, share) in SITUATIONS.items()}
        self._names = [name for name in targets or shares for _ in range(shares[name])]
        self._folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        self._valid_files = {}
        for name in dict.fromkeys(self._names):
            (self._folder / "sound").mkdir()
            if name in SITUATIONS:  # run once, so that everything is imported
                self._judge(SITUATIONS[name][0](self._folder / "sound", random.Random(0)))
                shutil.rmtree(self._folder / "sound")
                continue
            self._valid_files[name] = TARGETS[name].sound(self._folder / "sound")
            self._read(name, self._folder / "sound")  # so that everything is imported
            shutil.rmtree(self._folder / "sound")
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGALRM, _raise_timeout)

    def __del__(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def name_of(self, number: int) -> str:
        """Return the kind of files of a case."""
        return random.Random(f"{self._seed} {number}").choice(self._names)

    def run(self, number: int, *, show: bool = False) -> tuple[str, int, str, str]:
        """Run a case; return "read", "rejected" or "failed", its number, its target, and a message."""
        from tests.support.hostile import corrupt, write_files

        rng = random.Random(f"{self._seed} {number}")
        name = rng.choice(self._names)
        folder = self._folder / "case"
        folder.mkdir()
        if name in self._situations:
            return self._situation(name, folder, rng, number, show=show)
        files, links = corrupt(self._valid_files[name], rng)
        write_files(folder, files, links)
        if show:
            changed = [file for file, content in files.items() if content != self._valid_files[name].get(file)]
            deleted = sorted(self._valid_files[name].keys() - files.keys() - links.keys())
            print(f"{name}: changed {changed}, deleted {deleted}, links {links}")
        signal.alarm(SECONDS)
        try:
            with self._watch.within(folder) as opened:
                kind, message = self._read(name, folder, show=show)
        except BaseException as error:
            kind, message = "failed", f"{type(error).__name__}: {error}"
        finally:
            signal.alarm(0)
            shutil.rmtree(folder)
        named = self._targets[name].named
        opened = [path for path in opened if not (path.startswith(str(folder)) and path.endswith(named))]
        if kind != "failed" and opened:
            kind, message = "failed", f"opened {opened[0]}"
        return kind, number, name, message

    def _situation(
        self, name: str, folder: Path, rng: random.Random, number: int, *, show: bool
    ) -> tuple[str, int, str, str]:
        """Run a situation, like `run`; it may write to the folder `results`."""
        try:
            signal.alarm(SECONDS)
            judge = self._situations[name][0](folder, rng)
            if show:
                print(f"{name}: {sorted(str(path.relative_to(folder)) for path in folder.rglob('*'))}")
            with self._watch.within(folder) as opened:
                kind, message = self._judge(judge, show=show)
        except BaseException as error:
            kind, message, opened = "failed", f"{type(error).__name__}: {error}", []
        finally:
            signal.alarm(0)
            shutil.rmtree(folder)
        results = f"{folder / 'results'}{os.sep}"
        opened = [path for path in opened if not path.startswith((results, f"{folder} to read"))]
        if kind != "failed" and opened:
            kind, message = "failed", f"opened {opened[0]}"
        return kind, number, name, message

    def _read(self, name: str, folder: Path, *, show: bool = False) -> tuple[str, str]:
        return self._judge(functools.partial(self._targets[name].read, folder), show=show)

    def _judge(self, judge: Callable[[], object], *, show: bool = False) -> tuple[str, str]:
        from wing_jax.errors import InputError

        try:
            judge()
        except InputError as error:
            if show:
                print(error)
            return ("failed", "a message of several lines") if "\n" in str(error) else ("rejected", "")
        except MemoryError:
            return "failed", "more memory than the limit"
        except Exception as error:
            if show:
                traceback.print_exc()
            last, text = traceback.extract_tb(error.__traceback__)[-1], " ".join(str(error).split())[:160]
            return "failed", f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}: {text}"
        return "read", ""


def _raise_timeout(*_) -> None:
    raise TimeoutError(f"more than {SECONDS} seconds")


if __name__ == "__main__":
    main()

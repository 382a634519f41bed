"""What every benchmark writes: Markdown tables, the facts of the machine, and its own section of RESULTS.md."""

import argparse
import datetime
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "RESULTS.md"
HEAD = """# Measured

Each section is written by the command that it names, and replaced when that command is run again (README.md). Figures
are medians of interleaved rounds; what stands in brackets is the smallest and the largest round. Absolute figures
drift with the machine; ratios are taken round by round.
"""
FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")  # of processors, as Linux calls them


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--print-only", action="store_true", help="leave RESULTS.md as it is")
    return parser


def publish(key: str, title: str, body: Sequence[str], *, versions: Mapping[str, str], options) -> None:
    """Print the section and, unless told otherwise, put it in RESULTS.md in place of the one called `key`."""
    section = "\n".join([f"## {title}", "", *body, "", *facts(versions), ""])
    print(section)
    if not options.print_only:
        RESULTS.write_text(replaced(RESULTS.read_text() if RESULTS.exists() else HEAD, key, section))


def replaced(document: str, key: str, section: str) -> str:
    """`document` with the section between the markers of `key` replaced, or appended where there is none."""
    begin, end = f"<!-- begin {key} -->", f"<!-- end {key} -->"
    whole = f"{begin}\n{section}\n{end}"
    if begin in document:
        return re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: whole, document, flags=re.DOTALL)
    return f"{document.rstrip()}\n\n{whole}\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table, numbers to the right."""
    return [_row(header), _row(["---", *["---:"] * (len(header) - 1)]), *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def facts(versions: Mapping[str, str]) -> list[str]:
    """Where, with what, when and by which command, as a Markdown list."""
    packages = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    return [
        f"- Command: `python {shlex.join(sys.argv)}`",
        f"- Machine: {_machine()}; load average before the run {_LOAD:.1f}",
        f"- Versions: Python {platform.python_version()}, {packages}",
        f"- Commit: {_commit()}; {datetime.datetime.now().astimezone().strftime('%Y-%m-%d')}",
    ]


_LOAD = os.getloadavg()[0]


def _machine() -> str:
    said = dict(re.findall(r"^(model name|flags)\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE))
    features = [name for name in FEATURES if name in said.get("flags", "").split()]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    name = " ".join(said.get("model name", platform.processor()).split())
    return f"{name} ({', '.join(features)}), {os.cpu_count()} cores, {memory:.0f} GiB of memory"


def _commit() -> str:
    """The commit, and whether tracked files other than the results differ from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=FOLDER, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/", f":(exclude,top){RESULTS.name}")
    changed = [line for line in changed.splitlines() if not line.endswith(f"{FOLDER.name}/{RESULTS.name}")]
    return f"{git('rev-parse', '--short', 'HEAD') or 'unknown'}{', with uncommitted changes' if changed else ''}"

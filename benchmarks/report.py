"""Write the results of a benchmark: Markdown tables, facts about the machine, and a section of RESULTS.md."""

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

Each section is written by the command that it names, and replaced when that command runs again (README.md). Numbers
are medians of interleaved rounds, with the smallest and the largest round in brackets. Absolute numbers vary with the
load of the machine; ratios are computed within each round.
"""
FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")  # of processors, as Linux calls them


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--print-only", action="store_true", help="do not change RESULTS.md")
    return parser


def publish(key: str, title: str, body: Sequence[str], *, versions: Mapping[str, str], options) -> None:
    """Print the section and, without --print-only, replace the section `key` in RESULTS.md."""
    section = "\n".join([f"## {title}", "", *body, "", *facts(versions), ""])
    print(section)
    if not options.print_only:
        RESULTS.write_text(replace_section(RESULTS.read_text() if RESULTS.exists() else HEAD, key, section))


def replace_section(document: str, key: str, section: str) -> str:
    """Replace the section between the markers of `key` in `document`, or append it."""
    begin, end = f"<!-- begin {key} -->", f"<!-- end {key} -->"
    marked = f"{begin}\n{section}\n{end}"
    if begin in document:
        return re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: marked, document, flags=re.DOTALL)
    return f"{document.rstrip()}\n\n{marked}\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table, with all columns but the first aligned right."""
    return [_row(header), _row(["---", *["---:"] * (len(header) - 1)]), *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def facts(versions: Mapping[str, str]) -> list[str]:
    """Return a Markdown list of the command, the machine, the versions, the commit and the date."""
    packages = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    return [
        f"- Command: `python {shlex.join(sys.argv)}`",
        f"- Machine: {_machine()}; load average before the run {_LOAD:.1f}",
        f"- Versions: Python {platform.python_version()}, {packages}",
        f"- Commit: {_commit()}; {datetime.datetime.now().astimezone().strftime('%Y-%m-%d')}",
    ]


_LOAD = os.getloadavg()[0]


def _machine() -> str:
    fields = dict(re.findall(r"^(model name|flags)\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE))
    features = [name for name in FEATURES if name in fields.get("flags", "").split()]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    name = " ".join(fields.get("model name", platform.processor()).split())
    return f"{name} ({', '.join(features)}), {os.cpu_count()} cores, {memory:.0f} GiB of memory"


def _commit() -> str:
    """Return the commit, and whether tracked files other than the results have changed."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=FOLDER, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/", f":(exclude,top){RESULTS.name}")
    changed = [line for line in changed.splitlines() if not line.endswith(f"{FOLDER.name}/{RESULTS.name}")]
    return f"{git('rev-parse', '--short', 'HEAD') or 'unknown'}{', with uncommitted changes' if changed else ''}"

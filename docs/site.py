"""Hooks of the site: RESULTS.md and benchmarks/RESULTS.md become pages, and the reference of the commands is written.

The reference of the commands comes from their own help text, so that it cannot differ from it.
"""

import os
import re
import sys
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS))

from commands import commands_page  # noqa: E402  (a module of this folder)

MEASURED = {ROOT / "RESULTS.md": "results/index.md", ROOT / "benchmarks" / "RESULTS.md": "results/speed.md"}
LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")


def on_files(files, config):
    """Add the pages that have no file in docs/."""
    for path, page in MEASURED.items():
        files.append(File.generated(config, page, content=_relinked(path.read_text(encoding="utf-8"), path, page)))
    files.append(File.generated(config, "reference/commands.md", content=commands_page()))
    return files


def on_page_markdown(markdown, page, config, files):
    """Point links to RESULTS.md and benchmarks/RESULTS.md at their pages."""
    return _relinked(markdown, DOCS / page.file.src_uri, page.file.src_uri)


def _relinked(text: str, source: Path, page: str) -> str:
    """`text` of the file `source`, with links as seen from `page`; links to other places are kept."""

    def relink(match: re.Match) -> str:
        if re.match("[a-z]+:", match[2]):
            return match[0]
        target = (source.parent / match[2]).resolve()
        if target in MEASURED:
            inside = MEASURED[target]
        elif target.is_relative_to(DOCS) and source in MEASURED:
            inside = target.relative_to(DOCS).as_posix()
        else:
            return match[0]
        return f"{match[1]}{Path(os.path.relpath(inside, Path(page).parent)).as_posix()}{match[3]}"

    return LINK.sub(relink, text)

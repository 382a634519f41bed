"""Hooks of the site: the two files of measured results, which lie outside of docs/, become pages of it."""

import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
MEASURED = {"results.md": ROOT / "RESULTS.md", "speed.md": ROOT / "benchmarks" / "RESULTS.md"}
MOVED = {"../RESULTS.md": "results.md", "../benchmarks/RESULTS.md": "speed.md"}


def on_files(files, config):
    """Add them, their links as seen from docs/."""
    for name, path in MEASURED.items():
        text = path.read_text(encoding="utf-8")
        text = re.sub(r"\]\((?:\.\./)?docs/", "](", text).replace("](benchmarks/RESULTS.md", "](speed.md")
        text = text.replace("](README.md)", "](scaling.md)")
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Links that lead out of docs/ lead to those pages."""
    for outside, inside in MOVED.items():
        markdown = markdown.replace(f"]({outside})", f"]({inside})").replace(f"]({outside}#", f"]({inside}#")
    return markdown

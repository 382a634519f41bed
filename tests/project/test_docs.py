"""README.md and docs/: all names, commands, options, links and pictures on the pages exist, and so do the commands that
the scripts of the repository run."""

import ast
import dataclasses
import pkgutil
import re
import shlex
import types
import typing
from pathlib import Path

import pytest

from tests.support.paths import DOCS, ROOT
from wing_jax import presets
from wing_jax.augment import AUGMENTATIONS
from wing_jax.cli import (
    analyze,
    calibrate,
    compare,
    data,
    data_check,
    data_stats,
    evaluate,
    export,
    predict,
    replay,
    reproduce,
)
from wing_jax.cli.main import COMMANDS
from wing_jax.cli.named_config import SHORT_OPTIONS
from wing_jax.config import Config, SweepConfig
from wing_jax.data import boxes
from wing_jax.data.registry import READERS
from wing_jax.evaluation.metrics import METRICS
from wing_jax.export import EXPORTS
from wing_jax.inference.detectors import DETECTORS
from wing_jax.losses import LOSSES
from wing_jax.models import MODELS
from wing_jax.schemes import SCHEMES

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "RESULTS.md")),
    *(page for page in sorted(DOCS.rglob("*.md")) if "history" not in page.parts),  # it is kept as it was written
]
GENERATED = {DOCS / "reference" / "commands.md"}  # by docs/site.py
FENCED = re.compile(r"^ *```(?P<kind>\w*)\n(?P<text>.*?)^ *```$", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"^ *(?:\$ )?(?:[A-Z_]+=\S+ )*(?:\S*/)?(wing-jax(?: .*)?)$", re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
OPTIONS = {
    ("evaluate",): evaluate.EvaluateOptions,
    ("predict",): predict.PredictOptions,
    ("compare",): compare.CompareOptions,
    ("devices",): None,
    ("config",): None,
    ("replay",): replay.Options,
    ("export",): export.ExportOptions,
    ("train",): Config,
    ("sweep",): SweepConfig,
    ("calibrate",): calibrate.CalibrateOptions,
    ("reproduce",): reproduce.ReproduceOptions,
    ("analyze", "losses"): analyze.LossesOptions,
    ("analyze", "model"): analyze.ModelOptions,
    ("analyze", "training"): analyze.FollowedConfig,
    ("data", "check"): data_check.CheckOptions,
    ("data", "show"): data.ShowOptions,
    ("data", "stats"): data_stats.StatsOptions,
    ("data", "detect"): data.DetectOptions,
    ("data", "label"): data.LabelOptions,
    ("data", "pack"): data.PackOptions,
    ("data", "render"): data.RenderOptions,
    ("data", "formats"): None,
    ("data", "schemes"): data.SchemesOptions,
}

KINDS = (AUGMENTATIONS, DETECTORS, EXPORTS, LOSSES, METRICS, MODELS, READERS)
GROUPS = {kind.group for kind in KINDS}
PARAMETERS = {name for kind in (LOSSES, MODELS) for entry in kind.values() for name in entry.parameters}


def page_name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def commands(text: str) -> list[list[str]]:
    """Return the words after `wing-jax` of each command line in the fenced blocks of a page."""
    blocks = "\n".join(block["text"] for block in FENCED.finditer(text) if block["kind"] != "python")
    lines = COMMAND.findall(re.sub(r"\\\n *", " ", blocks))
    return [shlex.split(line, comments=True)[1:] for line in lines]


def commands_of_script(path: Path) -> list[list[str]]:
    """Return the same for the lists and tuples of a script that begin with "wing-jax"; only the literal strings."""
    lines = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Tuple | ast.List):
            words = [word.value if isinstance(word, ast.Constant) else None for word in node.elts]
            if words[:1] == ["wing-jax"]:
                lines.append([word for word in words[1:] if isinstance(word, str)])
    return lines


def options(kind: type | None, prefix: str = "") -> dict[str, object]:
    """Return --name: type for all fields of a dataclass; fields of nested dataclasses have dotted names."""
    types_by_name: dict[str, object] = {}
    for name, hint in typing.get_type_hints(kind).items() if kind else ():
        members = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        inner = next((member for member in members if dataclasses.is_dataclass(member)), None)
        types_by_name |= options(inner, f"{prefix}{name}.") if inner else {f"--{prefix}{name}": hint}
    return types_by_name


def faults(words: list[str]) -> list[str]:
    """List the faults of a command line; words in capitals, such as DIR, match anything."""
    if not words or words[0] not in COMMANDS:
        return [f"no such command: {words[:1]}"]
    depth = 2 if words[0] in ("data", "analyze") else 1
    if depth == 2 and words[1:2] and tuple(words[:2]) not in OPTIONS:
        return [f"no such action: {words[1]}"]
    kind = OPTIONS[tuple(words[:depth])]
    known = options(kind)
    if kind is not None and issubclass(kind, Config):
        known |= {f"--{name}": known[f"--data.{name}"] for name in SHORT_OPTIONS} | {"--data": known["--data.name"]}
    wrong = []
    for word, value in zip(words[depth:], [*words[depth + 1 :], ""], strict=False):  # a command may have no arguments
        name = "--" + word[2:].split("=")[0].replace("-", "_")  # tyro accepts both
        plain = re.sub(r"^--(.*\.)?no_", r"--\1", name)
        switch = plain != name and known.get(plain) is bool
        table, _, param = name.rpartition(".")
        parameter = table.endswith(".params") and table in known and param in PARAMETERS
        if word.startswith("--") and name != "--help" and not (name in known or switch or parameter):
            wrong.append(f"no such option: {name}")
        if name in ("--data", "--data.name") and value.islower():
            wrong += [] if value in READERS else [f"no such data set: {value}"]
    if words[0] in ("train", "sweep") and words[1:] and not words[1].isupper() and not _is_config(words[1]):
        wrong.append(f"no such config: {words[1]}")
    return wrong


def _is_config(name: str) -> bool:
    return name in presets.names() or (ROOT / name).is_file()


def slugs(page: Path) -> set[str]:
    """Return GitHub's anchors of the headings of a page."""
    text = FENCED.sub("", page.read_text())
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_command_and_action_is_known_here():
    assert {words[0] for words in OPTIONS} == set(COMMANDS)
    assert {words[1] for words in OPTIONS if words[0] == "data"} == set(data.ACTIONS)


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("reference/data-sets.md", [name for name, reader in READERS.items() if reader.splits]),
        ("reference/formats.md", [name for name, reader in READERS.items() if not reader.splits]),
        ("concepts/boxes.md", [*boxes.RULES]),
        ("concepts/schemes.md", [*SCHEMES]),
    ],
)
def test_a_reference_page_names_all_there_is(page, names):
    text = (DOCS / page).read_text()
    assert [name for name in names if f"`{name}`" not in text] == []


def test_every_scheme_is_drawn():
    text = (DOCS / "concepts" / "schemes.md").read_text()
    assert [name for name in SCHEMES if f"![{name}](../schemes/{name}." not in text] == []


def test_every_action_on_data_is_described():
    text = (DOCS / "how-to" / "check-data.md").read_text()
    assert [name for name in data.ACTIONS if f"wing-jax data {name}" not in text] == []


def test_every_environment_variable_is_described():
    text = (DOCS / "reference" / "environment.md").read_text()
    sources = [path.read_text() for path in [*(ROOT / "wing_jax").rglob("*.py"), ROOT / "hatch_build.py"]]
    names = set(re.findall(r"\bWING_JAX_[A-Z_]+[A-Z]\b", "\n".join(sources))) - {"WING_JAX_SET"}  # a macro of C++
    assert len(names) >= 4
    assert sorted(name for name in names if f"`{name}`" not in text) == []


def test_the_glossary_is_short():
    rows = re.findall(r"^\| (?!term|---)", (DOCS / "reference" / "glossary.md").read_text(), re.MULTILINE)
    assert 10 <= len(rows) <= 20


def test_every_command_that_a_script_runs_exists():
    lines_by_script = {path.name: commands_of_script(path) for path in sorted((ROOT / "reliability").glob("*.py"))}
    assert len(lines_by_script["core_install.py"]) > 8
    assert len(lines_by_script["supply.py"]) > 2
    wrong = {(name, *words): faults(words) for name, lines in lines_by_script.items() for words in lines}
    distinct = {fault for script_faults in wrong.values() for fault in script_faults}
    assert distinct <= {"no such config: mine.py"}, wrong  # core_install.py writes this file


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_command_on_a_page_exists(page):
    lines = commands(page.read_text())
    assert [(words, wrong) for words in lines if (wrong := faults(words))] == []


def exists(name: str) -> bool:
    """Return whether a dotted name of the package is a module, a name in a module, or a group of entry points."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return name in GROUPS
    return True


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_name_of_the_package_on_a_page_exists(page):
    names = set(re.findall(r"wing_jax(?:\.\w+)+", page.read_text(encoding="utf-8")))
    assert sorted(name for name in names if not exists(name)) == []


def test_invalid_names_are_found():
    assert not exists("wing_jax.train.run.train")
    assert not exists("wing_jax.losses.wing")
    assert exists("wing_jax.exports")


@pytest.mark.parametrize("name", ["train-dataset", "check-data", "own-faces"])
def test_a_page_has_commands(name):
    assert len(commands((DOCS / "how-to" / f"{name}.md").read_text())) >= 3


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_relative_link_and_picture_exists(page):
    broken = []
    for link in LINK.findall(FENCED.sub("", page.read_text())):
        place, _, anchor = link.partition("#")
        if re.match("[a-z]+:", link):
            continue
        target = page.parent / place if place else page
        if target.resolve() in GENERATED:
            continue
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in slugs(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("wing-jax fly", "no such command"),
        ("wing-jax data fly 300w", "no such action"),
        ("wing-jax data check 300w --nosuch 3", "no such option: --nosuch"),
        ("wing-jax data check 300w --no-max_listed", "no such option: --no_max_listed"),
        ("wing-jax data formats --max_listed 3", "no such option: --max_listed"),
        ("wing-jax train configs/w300.py --stage2.loss.breadth 3", "no such option: --stage2.loss.breadth"),
        (
            "wing-jax train configs/w300.py --stage2.loss.params.breadth 3",
            "no such option: --stage2.loss.params.breadth",
        ),
        ("wing-jax train configs/nowhere.py", "no such config"),
        ("wing-jax train w301 --root 300w", "no such config"),
        ("wing-jax train w300 --bins 3", "no such option: --bins"),
        ("wing-jax evaluate MODEL --data w301", "no such data set: w301"),
    ],
)
def test_invalid_lines_are_found(line, wrong):
    (words,) = commands(f"text\n```bash\n{line}\n```\n")
    assert wrong in faults(words)[0]


def test_valid_lines_have_no_faults():
    line = "WING_JAX_DATA=/data .venv/bin/wing-jax train configs/w300.py \\\n  --stage2.steps=4 --name x  # a comment"
    assert [faults(words) for words in commands(f"```\n{line}\n```\n")] == [[]]
    assert faults(["train", "w300", "--data", "w300", "--root", "300w"]) == []
    assert faults(["data", "show", "300w", "--no-numbers"]) == []

"""Consoles print text unchanged: no markup, emoji or coloring in file names."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
from rich.console import Console

from wing_jax.cli import main
from wing_jax.data.images import write_image
from wing_jax.report.tables import Grid, markdown, rich_table
from wing_jax.runtime.console import make_console, say
from wing_jax.train.logs import TrainingLog

NAMES = ("clip [dQw4w9WgXcQ]", "x[/b]", ":dog:", "[bold red]1[/bold red]", "a\\[b]")


@pytest.mark.parametrize("name", NAMES)
def test_names_are_printed_unchanged(name, capsys):
    say(make_console(), f"{name} 1 'a' http://x")
    say(make_console(width=40), name, style="yellow", soft_wrap=True)
    assert capsys.readouterr().out == f"{name} 1 'a' http://x\n{name}\n"


def test_control_characters_and_bytes_that_cannot_be_encoded_are_escaped(capsys):
    say(make_console(), os.fsdecode(b"m\xfcller") + " a\nb\x1b[31m 日本")
    assert capsys.readouterr().out == "m\\xfcller a\\nb\\x1b[31m 日本\n"


def test_lines_are_not_wrapped(capsys):
    say(make_console(), "x" * 500)
    assert capsys.readouterr().out == "x" * 500 + "\n"


@pytest.mark.parametrize("name", NAMES)
def test_cells_headers_titles_and_notes_are_not_markup(name):
    grid = Grid(title=f"By {name}", header=(name, "NME"), rows=((name, "1.00"),), words=1, note=f"note {name}")
    file = io.StringIO()
    Console(file=file, width=120).print(rich_table(grid))
    assert file.getvalue().count(name) == 4


def test_a_table_without_a_title_has_none():
    table = rich_table(Grid(title="", header=("a",), rows=(), words=1))
    assert (table.title, table.caption) == (None, None)


def test_markdown_escapes_names():
    grid = Grid(title="By [x](y)", header=("a|b",), rows=(("<script>",), ("new\nline *x* `y`",)), words=1)
    text = markdown(grid)
    assert "**By \\[x\\](y)**" in text
    assert "| a\\|b |" in text
    assert "| \\<script> |" in text
    assert "| new\\\\nline \\*x\\* \\`y\\` |" in text


def test_a_training_with_any_title_is_logged(tmp_path, capsys):
    with TrainingLog(tmp_path, title="sweep [/b] :dog:", first_step=0, steps=3, batch_size=1) as log:
        log._bar.disable = False
        assert "sweep [/b] :dog:" in "".join(str(cell) for cell in _render_description(log))
        log._bar.disable = True
        log.write(1, loss=0.1, validation_nme=0.2)
    assert "sweep [/b] :dog: 1/3" in capsys.readouterr().err


def _render_description(log):
    return [column(log._bar.tasks[0]) for column in log._bar.columns[:1]]


@pytest.mark.parametrize("width", [0, 80])
def test_printing_to_a_closed_stream_does_nothing(monkeypatch, width):
    """Streams are None after `>&-` and `2>&-`, and on Windows for a program without a console."""
    monkeypatch.setattr("sys.stdout", None)
    monkeypatch.setattr("sys.stderr", None)
    for stderr in (False, True):
        say(make_console(stderr=stderr, width=width), "into nothing")


@pytest.mark.slow
def test_a_training_and_a_prediction_work_without_streams(monkeypatch, tmp_path):
    picture = tmp_path / "face.png"
    write_image(picture, np.full((99, 99, 3), 127, np.uint8))
    monkeypatch.setattr("sys.stdout", None)
    monkeypatch.setattr("sys.stderr", None)
    with TrainingLog(tmp_path / "log", title="stage 1", first_step=0, steps=3, batch_size=1):
        pass
    main(["predict", "mtfl", str(picture), "--box", "9", "9", "80", "80", "--output", str(tmp_path / "out")])
    assert (tmp_path / "out" / "face.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("command", ["config", "data formats"])
def test_a_closed_pipe_ends_a_command_without_a_traceback(command):
    code = "from wing_jax.cli import main; main()"
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", code, *command.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
    ) as process:
        process.stdout.close()
        errors = process.stderr.read()
    assert errors == ""
    assert process.returncode != 0

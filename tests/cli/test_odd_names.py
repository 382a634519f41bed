"""Names of folders, runs and groups with characters that are special to a library.

Patterns of TensorStore, TFDS and glob, markup of rich, mathematics of Matplotlib, bytes that are not UTF-8.
"""

import dataclasses
import html
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from tests.support.paths import ROOT
from wing_jax.cli import main
from wing_jax.config import AugmentConfig, Config, DataConfig, LossConfig, ModelConfig, OptimizerConfig, StageConfig
from wing_jax.data.load import load_faces
from wing_jax.errors import InputError
from wing_jax.inference.localizer import Localizer
from wing_jax.runtime import devices
from wing_jax.text import printable

ODD = ("x [v2] %d {a} é#", "a\\b*?", os.fsdecode(b"m\xfcller [b] :dog:"), "a:b\nc $x$ <b>&")
SMALL = Config(
    name="r.1 [a]",
    data=DataConfig(name="synthetic", train_faces=12, validation=0.3),
    stage1=StageConfig(
        input_size=16,
        margin=1.3,
        model=ModelConfig(params={"channels": (4, 8), "hidden": 8, "norm": "none"}, output_bias="mean_shape"),
        loss=LossConfig(reduction="mean"),
        augment=AugmentConfig(rotation=5.0, translation=0.02, scale=0.02),
        optimizer=OptimizerConfig(
            name="sgd", learning_rate=1e-2, final_learning_rate=1e-3, decay="cosine", weight_decay=0.0
        ),
        batch_size=4,
        steps=4,
        evaluate_every=2,
    ),
    devices=1,
)
RUN_FILES = {"config.json", "model/model.json", "model/weights.npz", "stage1/metrics.jsonl"}


def files_below(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("odd", ODD, ids=ascii)
def test_a_run_in_a_folder_of_any_name_finishes_resumes_and_is_evaluated(tmp_path, odd, capsys, monkeypatch):
    folder = tmp_path / "top" / odd
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    config = f"my [config] {odd}.py"
    text = f"from wing_jax.config import *\nconfig = {SMALL!r}\n"
    Path(config).write_text(text, encoding="utf-8")
    main(["train", config, "--stage1.steps", "2"])
    Path("runs", "r.1 [a]", "config.json").unlink()  # otherwise the number of steps could not change
    main(["train", config])
    output = capsys.readouterr()
    assert "damaged" not in output.err
    assert "corrupt" not in output.err
    assert output.out.splitlines()[-2] == "model: runs/r.1 [a]/model"
    assert output.out.splitlines()[-1] == "next:  wing-jax evaluate 'runs/r.1 [a]/model' --data synthetic"
    run = folder / "runs" / "r.1 [a]"
    assert [json.loads(line)["step"] for line in (run / "stage1" / "metrics.jsonl").read_text().splitlines()] == [2, 4]
    others = {name for name in files_below(run) if not name.startswith("stage1/checkpoints/")} - RUN_FILES
    assert all(name.startswith("stage1/events.out.tfevents") for name in others), others
    assert sorted(path.name for path in (run / "stage1" / "checkpoints").iterdir()) == ["2", "4"]
    main(["evaluate", str(run), "--data", "synthetic", "--faces", "4", "--output", f"out {odd}"])
    assert f"report: out {printable(odd)}/index.html" in capsys.readouterr().out
    assert html.escape(printable(odd)) in Path(f"out {odd}", "index.html").read_text(encoding="utf-8")
    assert {path.name for path in folder.iterdir()} == {config, "runs", f"out {odd}"}
    assert [path.name for path in folder.parent.iterdir()] == [odd]


@pytest.mark.slow
@pytest.mark.parametrize("odd", ODD[1:3], ids=ascii)
def test_a_sweep_and_a_packed_set_are_written_to_the_given_folders(tmp_path, odd, capsys, monkeypatch):
    folder = tmp_path / "top" / odd
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    Path("small.py").write_text(f"from wing_jax.config import *\nconfig = {SMALL!r}\n", encoding="utf-8")
    main(["sweep", "small.py", "--grid.seeds", "0", "1", "--name", "s[b]", "--stage1.steps", "2"])
    assert "models: runs/s[b]/trials" in capsys.readouterr().out
    trials = Path("runs", "s[b]", "trials")
    for trial in trials.iterdir():
        assert Localizer.load(trial / "model").metadata.name.startswith("s[b] ")
    faces = load_faces("synthetic", "train", count=4)
    from wing_jax.data.packed import pack, read_packed

    pack({"train": faces}, f"packed {odd}", size=32, quality=80, source=odd)
    assert len(read_packed(f"packed {odd}", "train")) == 4
    main(["data", "check", f"packed {odd}"])
    assert {path.name for path in folder.iterdir()} == {"small.py", "runs", f"packed {odd}"}
    assert [path.name for path in folder.parent.iterdir()] == [odd]


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/../../x", "/x", "a\0b"])
def test_a_run_cannot_be_outside_of_its_output_folder(name):
    with pytest.raises(InputError, match="the folder of the run is output/name"):
        dataclasses.replace(SMALL, name=name)
    assert dataclasses.replace(SMALL, name="a/b.c").folder == Path("runs/a/b.c")


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["train", "small.py", "--name", "x" * 300],
        ["train", "small.py", "--output", "small.py/x"],
        ["data", "stats", "--data", "synthetic", "--faces", "40", "--output", "x" * 300],
        ["data", "show", "faces", "--output", f"{'x' * 300}.png"],
    ],
)
def test_a_name_that_the_file_system_rejects_is_one_line(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("small.py").write_text(f"from wing_jax.config import *\nconfig = {SMALL!r}\n", encoding="utf-8")
    if words[0] == "data":
        from wing_jax.data.packed import pack

        pack({"train": load_faces("synthetic", "train", count=4)}, "faces", size=32, quality=80, source="")
    with pytest.raises(SystemExit) as exit_error:
        main(words)
    assert exit_error.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("wing-jax: ")
    assert "File name too long" in lines[0] or "Not a directory" in lines[0]


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_names_are_printed_in_every_terminal_encoding(tmp_path, encoding):
    folder = tmp_path / os.fsdecode(b"m\xfcller \xe6\x97\xa5 [id]")
    folder.mkdir()
    code = "from wing_jax.cli import main; main()"
    words = [sys.executable, "-c", code, "data", "check", str(folder)]
    run = subprocess.run(words, capture_output=True, env=os.environ | {"PYTHONIOENCODING": encoding}, check=False)
    assert run.returncode == 2
    (line,) = run.stderr.decode(encoding).splitlines()
    assert "m\\xfcller" in line
    assert "[id]" in line


@pytest.mark.slow
def test_files_are_utf_8_in_every_locale(tmp_path):
    """Python's default encoding of text files is that of the locale: in this test ASCII."""
    code = """
import sys
from pathlib import Path
from wing_jax.inference.bundle import read_bundle, write_bundle
from wing_jax import pretrained
from wing_jax.runtime import files
pretrained.card("w300")
files.write_atomic(Path("whole.txt"), "日本")
assert files.read_text("whole.txt") == "日本"
write_bundle("bundle", {"name": "日本"}, {"a": 1})
assert read_bundle("bundle")[0] == {"name": "日本"}
"""
    python = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)}
    env = os.environ | python | {"LC_ALL": "C"}
    script = tmp_path / "script.py"
    script.write_text(code, encoding="utf-8")
    run = subprocess.run([sys.executable, str(script)], cwd=tmp_path, env=env, capture_output=True, check=False)
    assert run.returncode == 0, run.stderr.decode()


def test_a_compile_cache_in_a_folder_that_is_not_utf_8_is_disabled():
    before = jax.config.values["jax_compilation_cache_dir"]
    try:
        jax.config.update("jax_compilation_cache_dir", os.fsdecode(b"/cache/m\xfcller"))
        devices.keep_utf8_cache_only()
        assert jax.config.values["jax_compilation_cache_dir"] is None
        jax.config.update("jax_compilation_cache_dir", "/cache/[é] %d")
        devices.keep_utf8_cache_only()
        assert jax.config.values["jax_compilation_cache_dir"] == "/cache/[é] %d"
    finally:
        jax.config.update("jax_compilation_cache_dir", before)

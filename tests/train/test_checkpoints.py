"""Checkpoints: which are kept, which is best, what is refused."""

import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from tests.support.checkpoints import make_state, write
from tests.support.paths import ROOT
from wing_jax.errors import InputError
from wing_jax.train.checkpoints import Checkpoints


def steps_in(folder):
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def test_new_folder_holds_none(tmp_path):
    with Checkpoints(tmp_path / "new") as checkpoints:
        assert checkpoints.newest is None
        assert checkpoints.best is None


@pytest.mark.parametrize(
    ("nmes", "best", "kept"),
    [
        ([0.3, 0.1, 0.2, 0.4, 0.5], 20, [20, 40, 50]),
        ([0.5, 0.4, 0.3, 0.2, 0.1], 50, [40, 50]),
        ([0.1, 0.2, 0.3, 0.4, 0.5], 10, [10, 40, 50]),
    ],
)
def test_the_newest_two_and_the_best_are_kept(tmp_path, nmes, best, kept):
    write(tmp_path, nmes)
    assert steps_in(tmp_path) == kept
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.newest == 50
        assert checkpoints.best == best


@pytest.mark.parametrize("average", [True, False])
def test_restored_state_equals_the_saved_one(tmp_path, average):
    write(tmp_path, [0.2, 0.1], average=average)
    with Checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore(20, make_state(average=average))
    expected = make_state(value=2.0, step=20, average=average)
    assert jax.tree.structure(restored) == jax.tree.structure(expected)
    for ours, theirs in zip(jax.tree.leaves(restored), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype


def test_checkpoint_of_another_scheme_is_refused_in_one_line(tmp_path):
    write(tmp_path, [0.2])
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(InputError) as refused:
        checkpoints.restore(10, make_state(points=68))
    message = str(refused.value)
    assert "\n" not in message
    for said in (str(tmp_path / "10"), "params/output/", "10", "136", "--name"):
        assert said in message


def test_save_writes_the_values_of_its_moment(tmp_path):
    """The write goes on in the background while training donates the very arrays it was given."""
    spoil = jax.jit(lambda state: jax.tree.map(lambda x: x * 0 - 1, state), donate_argnums=0)
    state = make_state(value=7.0, step=10)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(10, state, validation_nme=0.1)
        jax.block_until_ready(spoil(state))
        restored = checkpoints.restore(10, make_state())
    for ours, theirs in zip(jax.tree.leaves(restored), jax.tree.leaves(make_state(value=7.0, step=10)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_checkpoint_that_a_kill_left_half_written_is_passed_over(tmp_path):
    write(tmp_path, [0.3, 0.2])
    half = tmp_path / "30.orbax-checkpoint-tmp-0"
    half.mkdir()
    (half / "metadata").write_text("{")
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.newest == 20
        np.testing.assert_array_equal(checkpoints.restore(20, make_state()).step, 20)


def files_of(checkpoint):
    return sorted(path.relative_to(checkpoint).as_posix() for path in checkpoint.rglob("*") if path.is_file())


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-3])


@pytest.mark.parametrize("damage", [flip, cut, Path.unlink], ids=["flip", "cut", "gone"])
def test_damage_to_any_file_is_told_in_one_line_and_the_one_before_serves(tmp_path, damage, capsys):
    write(tmp_path / "whole", [0.3, 0.1, 0.2])
    files = files_of(tmp_path / "whole" / "30")
    assert "metrics/metrics" in files
    assert "seal.json" in files
    for number, file in enumerate(files):
        folder = tmp_path / str(number) / "checkpoints"
        shutil.copytree(tmp_path / "whole", folder)
        damage(folder / "30" / file)
        with Checkpoints(folder) as checkpoints:
            state, step = checkpoints.restore_newest(make_state())
        said = capsys.readouterr().err.splitlines()
        if (damage, file) == (Path.unlink, "seal.json"):  # all the rest is whole
            assert (step, said) == (30, [])
            continue
        assert step == 20
        np.testing.assert_array_equal(state.variables["params"]["output"]["kernel"], 2)
        assert len(said) == 1
        assert str(folder / "30") in said[0]
        assert file in said[0] or file == "seal.json"
        assert files_of(tmp_path / str(number) / "damaged" / "30")  # kept, for whoever can mend it
        with Checkpoints(folder) as checkpoints:
            checkpoints.save(30, make_state(value=3.0, step=30), validation_nme=0.2)  # there is room for a new one
            assert checkpoints.restore_newest(make_state())[1] == 30


def test_the_best_that_is_whole_serves(tmp_path, capsys):
    write(tmp_path / "checkpoints", [0.1, 0.3, 0.2])
    damaged = tmp_path / "checkpoints" / "10"
    flip(damaged / "state" / "_METADATA")
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        best = checkpoints.restore_best(make_state())
    np.testing.assert_array_equal(best.step, 30)
    assert str(damaged) in capsys.readouterr().err


def test_unsealed_damage_is_found_when_it_is_read(tmp_path, capsys):
    """A kill may come between a checkpoint and its seal."""
    write(tmp_path / "checkpoints", [0.3, 0.2])
    (tmp_path / "checkpoints" / "20" / "seal.json").unlink()
    (tmp_path / "checkpoints" / "20" / "state" / "_METADATA").unlink()
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        _, step = checkpoints.restore_newest(make_state())
    assert step == 10
    assert "20 is damaged" in capsys.readouterr().err


def test_where_none_is_whole_it_begins_anew_and_none_is_best(tmp_path):
    write(tmp_path / "checkpoints", [0.3])
    cut(tmp_path / "checkpoints" / "10" / "metrics" / "metrics")
    like = make_state(value=5.0)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        state, step = checkpoints.restore_newest(like)
        assert (state, step) == (like, 0)
        with pytest.raises(InputError, match="no checkpoint in it is whole"):
            checkpoints.restore_best(like)


def test_a_checkpoint_without_a_measurement_is_gone_on_from_but_never_best(tmp_path):
    write(tmp_path, [0.3, 0.2])
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(25, make_state(value=9.0, step=25))
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore_newest(make_state())[1] == 25
        assert checkpoints.best == 20


def test_late_calls_of_a_failed_write_are_not_told_but_all_else_is(tmp_path, monkeypatch):
    """TensorStore's threads call a loop that is gone by then, and not always: here by hand."""
    heard = []
    monkeypatch.setattr(sys, "unraisablehook", heard.append)
    ours = sys.unraisablehook
    late, other = (SimpleNamespace(exc_value=RuntimeError(said)) for said in ("Event loop is closed", "else"))
    with Checkpoints(tmp_path):
        sys.unraisablehook(late)
        sys.unraisablehook(other)
    assert heard == [other]
    assert sys.unraisablehook is ours

    class NoRoom(Checkpoints):
        def _read_back(self, *_):
            raise OSError("no room")

    with NoRoom(tmp_path) as checkpoints:
        checkpoints.save(10, make_state(), validation_nme=0.1)
        with pytest.raises(InputError, match=r"no room.*make room"):
            checkpoints.wait()
    sys.unraisablehook(late)  # they come after the end as well
    assert heard == [other]


def test_a_full_disk_is_told_in_one_line_and_loses_nothing(tmp_path):
    """A file-size limit stands in for the full disk; it holds for a whole process."""
    script = """
import resource, sys
sys.path.insert(0, sys.argv[2])
from tests.support.checkpoints import make_state
from wing_jax.train.checkpoints import Checkpoints
from wing_jax.errors import InputError
try:
    with Checkpoints(sys.argv[1]) as checkpoints:
        checkpoints.save(10, make_state(value=1.0, step=10), validation_nme=0.1)
        checkpoints.wait()
        resource.setrlimit(resource.RLIMIT_FSIZE, (400, 400))
        checkpoints.save(20, make_state(value=2.0, step=20), validation_nme=0.05)
except InputError as error:
    print(f"told: {error}")
"""
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "checkpoints"), str(ROOT)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    told = [line for line in run.stdout.splitlines() if line.startswith("told: ")]
    assert len(told) == 1, run.stderr[-2000:]
    assert str(tmp_path / "checkpoints") in told[0]
    assert "make room" in told[0]
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.restore_newest(make_state())[1] == 10
        assert checkpoints.best == 10


ODD = (
    "exp [v2]", "a\\b", "*", "?", "{x}", "%d", "#", "a:b", "new\nline", os.fsdecode(b"m\xfcller"), "\U0001f600",
    "trailing  ", "~",
)  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=ascii)
def test_a_folder_of_any_name_holds_checkpoints_and_nothing_lies_beside_it(tmp_path, odd, capsys, monkeypatch):
    links = tmp_path / "links"
    links.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(links))
    folder = tmp_path / "runs" / odd / "checkpoints"
    write(folder, [0.2, 0.1, 0.3, 0.4])
    (folder / "50.orbax-checkpoint-tmp-0").mkdir()
    flip(folder / "40" / "state" / "_METADATA")
    with Checkpoints(folder) as checkpoints:
        state, step = checkpoints.restore_newest(make_state())
        assert step == 30
        np.testing.assert_array_equal(state.variables["params"]["output"]["kernel"], 3)
        checkpoints.save(50, make_state(value=5.0, step=50), validation_nme=0.5)
        assert checkpoints.best == 20
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [odd]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["checkpoints", "damaged"]
    assert sorted(path.name for path in folder.iterdir()) == ["20", "30", "50"]
    assert all((folder / name / "seal.json").exists() for name in ("20", "30", "50"))
    assert not list(links.iterdir())


def saved_badly(folder, spoil):
    """Save a good one and, with `spoil` between the writing and the reading, a better one; what is raised."""

    class Spoilt(Checkpoints):
        def _read_back(self, step, saved, metrics):
            saved, metrics = spoil(self.folder / str(step), saved, metrics) or (saved, metrics)
            super()._read_back(step, saved, metrics)

    with Checkpoints(folder, keep=1) as checkpoints:
        checkpoints.save(10, make_state(value=1.0, step=10), validation_nme=0.2)
    with Spoilt(folder, keep=1) as checkpoints:
        checkpoints.save(20, make_state(value=2.0, step=20), validation_nme=0.1)
        with pytest.raises(InputError, match="written but cannot be read back") as refused:
            checkpoints.wait()
        assert (checkpoints.newest, checkpoints.best) == (10, 10)
    return str(refused.value)


def lose_the_arrays(checkpoint, saved, metrics):
    shutil.rmtree(checkpoint / "state")


def flip_all_arrays(checkpoint, saved, metrics):
    for path in checkpoint.glob("state/**/d/*"):
        flip(path)


def flip_one_bit(checkpoint, saved, metrics):
    kernel = np.array(saved.averaged["params"]["output"]["kernel"])
    kernel.view(np.uint32)[0, 0] ^= 1
    saved.averaged["params"]["output"]["kernel"] = kernel
    return saved, metrics


def turn_zeros_negative(checkpoint, saved, metrics):
    saved.variables["params"]["output"]["bias"] = -saved.variables["params"]["output"]["bias"]
    return saved, metrics


def lose_the_metrics(checkpoint, saved, metrics):
    (checkpoint / "metrics" / "metrics").unlink()


def change_the_metrics(checkpoint, saved, metrics):
    return saved, {"validation_nme": 0.05}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lose_the_arrays, ""),
        (flip_all_arrays, ""),
        (flip_one_bit, "averaged/params/output/kernel is another"),
        (turn_zeros_negative, "variables/params/output/bias is another"),
        (lose_the_metrics, "FileNotFoundError"),
        (change_the_metrics, "0.1} was read"),
    ],
)
def test_a_checkpoint_that_cannot_be_read_back_does_not_count_and_those_before_it_stay(tmp_path, spoil, said):
    message = saved_badly(tmp_path / "checkpoints", spoil)
    assert said in message
    assert str(tmp_path / "damaged" / "20") in message
    assert (tmp_path / "damaged" / "20").exists()
    assert steps_in(tmp_path / "checkpoints") == [10]
    with Checkpoints(tmp_path / "checkpoints", keep=1) as checkpoints:
        assert checkpoints.restore_newest(make_state())[1] == 10
        checkpoints.save(20, make_state(value=2.0, step=20), validation_nme=0.1)
    assert steps_in(tmp_path / "checkpoints") == [20]


def test_what_is_no_number_is_read_back_as_it_was_saved(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(10, make_state(value=np.nan, step=10), validation_nme=0.1)
        checkpoints.wait()
        restored = checkpoints.restore(10, make_state())
    assert np.isnan(restored.variables["params"]["output"]["kernel"]).all()


def test_unsealed_metrics_that_are_broken_are_told_too(tmp_path, capsys):
    write(tmp_path / "checkpoints", [0.3, 0.2])
    (tmp_path / "checkpoints" / "20" / "seal.json").unlink()
    cut(tmp_path / "checkpoints" / "20" / "metrics" / "metrics")
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.restore_newest(make_state())[1] == 10
    assert "20 is damaged (metrics/metrics cannot be read)" in capsys.readouterr().err


def test_loggers_are_as_they_were_after_the_import_and_after_a_session(tmp_path):
    script = """
import logging, sys
def settings():
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio", None)]
    return [(logger.level, list(logger.filters)) for logger in loggers]
import absl.logging
before = settings()
import wing_jax.train.checkpoints
assert settings() == before
sys.path.insert(0, sys.argv[2])
from tests.support.checkpoints import write
write(sys.argv[1], [0.2, 0.1])
assert settings() == before
absl.logging.error("of another library")
"""
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "checkpoints"), str(ROOT)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "of another library" in run.stderr


def test_what_orbax_logs_is_not_shown_and_what_others_log_is(tmp_path, caplog):
    absl = logging.getLogger("absl")
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.newest is None
        checkpoints.save(1, make_state(), validation_nme=0.1)
        path = str(Path("site-packages", "orbax", "checkpoint", "x.py"))
        absl.handle(absl.makeRecord("absl", logging.ERROR, path, 1, "of Orbax", (), None))
        absl.handle(absl.makeRecord("absl", logging.ERROR, "other.py", 1, "of another", (), None))
    assert [record.message for record in caplog.records] == ["of another"]

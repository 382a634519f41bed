"""Checkpoints: which are kept and which is best, verification, corruption, and errors."""

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


def test_a_new_folder_has_no_checkpoints(tmp_path):
    with Checkpoints(tmp_path / "new") as checkpoints:
        assert checkpoints.newest is None
        assert checkpoints.best is None


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("average", [True, False])
def test_restored_state_equals_the_saved_one(tmp_path, average):
    write(tmp_path, [0.2, 0.1], average=average)
    with Checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore(20, make_state(average=average))
    expected = make_state(value=2.0, step=20, average=average)
    assert jax.tree.structure(restored) == jax.tree.structure(expected)
    for restored_leaf, leaf in zip(jax.tree.leaves(restored), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(restored_leaf, leaf)
        assert restored_leaf.dtype == leaf.dtype


def test_a_checkpoint_of_a_different_scheme_is_refused_in_one_line(tmp_path):
    write(tmp_path, [0.2])
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(InputError) as error:
        checkpoints.restore(10, make_state(points=68))
    message = str(error.value)
    assert "\n" not in message
    for part in (str(tmp_path / "10"), "params/output/", "10", "136", "--name"):
        assert part in message


def test_save_writes_the_values_at_the_time_of_the_call(tmp_path):
    """The write continues in the background while the next step donates the saved arrays."""
    overwrite = jax.jit(lambda state: jax.tree.map(lambda x: x * 0 - 1, state), donate_argnums=0)
    state = make_state(value=7.0, step=10)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(10, state, validation_nme=0.1)
        jax.block_until_ready(overwrite(state))
        restored = checkpoints.restore(10, make_state())
    expected = make_state(value=7.0, step=10)
    for restored_leaf, leaf in zip(jax.tree.leaves(restored), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(restored_leaf, leaf)


@pytest.mark.slow
def test_an_incomplete_checkpoint_of_a_killed_process_is_ignored(tmp_path):
    write(tmp_path, [0.3, 0.2])
    incomplete = tmp_path / "30.orbax-checkpoint-tmp-0"
    incomplete.mkdir()
    (incomplete / "metadata").write_text("{")
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.newest == 20
        np.testing.assert_array_equal(checkpoints.restore(20, make_state()).step, 20)


def files_of(checkpoint):
    return sorted(path.relative_to(checkpoint).as_posix() for path in checkpoint.rglob("*") if path.is_file())


def flip_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-3])


@pytest.mark.slow
@pytest.mark.parametrize("corrupt", [flip_bit, truncate, Path.unlink], ids=["flip_bit", "truncate", "delete"])
def test_corruption_of_any_file_is_reported_and_the_previous_checkpoint_used(tmp_path, corrupt, capsys):
    write(tmp_path / "original", [0.3, 0.1, 0.2])
    files = files_of(tmp_path / "original" / "30")
    assert "metrics/metrics" in files
    assert "checksums.json" in files
    for number, file in enumerate(files):
        folder = tmp_path / str(number) / "checkpoints"
        shutil.copytree(tmp_path / "original", folder)
        corrupt(folder / "30" / file)
        with Checkpoints(folder) as checkpoints:
            state, step = checkpoints.restore_newest(make_state())
        messages = capsys.readouterr().err.splitlines()
        if (corrupt, file) == (Path.unlink, "checksums.json"):  # the checkpoint itself is valid
            assert (step, messages) == (30, [])
            continue
        assert step == 20
        np.testing.assert_array_equal(state.variables["params"]["output"]["kernel"], 2)
        assert len(messages) == 1
        assert str(folder / "30") in messages[0]
        assert file in messages[0] or file == "checksums.json"
        assert files_of(tmp_path / str(number) / "damaged" / "30")  # quarantined, not deleted
        if number:
            continue
        with Checkpoints(folder) as checkpoints:
            checkpoints.save(30, make_state(value=3.0, step=30), validation_nme=0.2)  # the step number is free again
            assert checkpoints.restore_newest(make_state())[1] == 30


@pytest.mark.slow
def test_the_best_valid_checkpoint_is_restored(tmp_path, capsys):
    write(tmp_path / "checkpoints", [0.1, 0.3, 0.2])
    corrupt_checkpoint = tmp_path / "checkpoints" / "10"
    flip_bit(corrupt_checkpoint / "state" / "_METADATA")
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        best = checkpoints.restore_best(make_state())
    np.testing.assert_array_equal(best.step, 30)
    assert str(corrupt_checkpoint) in capsys.readouterr().err


@pytest.mark.slow
def test_corruption_without_checksums_is_found_on_reading(tmp_path, capsys):
    """The process may be killed after writing a checkpoint and before writing its checksums."""
    write(tmp_path / "checkpoints", [0.3, 0.2])
    (tmp_path / "checkpoints" / "20" / "checksums.json").unlink()
    (tmp_path / "checkpoints" / "20" / "state" / "_METADATA").unlink()
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        _, step = checkpoints.restore_newest(make_state())
    assert step == 10
    assert "20 is corrupt" in capsys.readouterr().err


def test_without_a_valid_checkpoint_training_starts_from_scratch_and_none_is_best(tmp_path):
    write(tmp_path / "checkpoints", [0.3])
    truncate(tmp_path / "checkpoints" / "10" / "metrics" / "metrics")
    like = make_state(value=5.0)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        state, step = checkpoints.restore_newest(like)
        assert (state, step) == (like, 0)
        with pytest.raises(InputError, match="no valid checkpoint in it"):
            checkpoints.restore_best(like)


@pytest.mark.slow
def test_a_checkpoint_without_a_validation_is_resumed_from_but_never_best(tmp_path):
    write(tmp_path, [0.3, 0.2])
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(25, make_state(value=9.0, step=25))
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore_newest(make_state())[1] == 25
        assert checkpoints.best == 20


def test_late_calls_of_a_failed_write_are_ignored_and_other_unraisable_errors_are_not(tmp_path, monkeypatch):
    """TensorStore's threads sometimes call an event loop that is closed; the test makes these calls itself."""
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", reported.append)
    hook = sys.unraisablehook
    late, other = (SimpleNamespace(exc_value=RuntimeError(text)) for text in ("Event loop is closed", "else"))
    with Checkpoints(tmp_path):
        sys.unraisablehook(late)
        sys.unraisablehook(other)
    assert reported == [other]
    assert sys.unraisablehook is hook

    class NoRoom(Checkpoints):
        def _read_back(self, *_):
            raise OSError("no room")

    with NoRoom(tmp_path) as checkpoints:
        checkpoints.save(10, make_state(), validation_nme=0.1)
        with pytest.raises(InputError, match=r"no room.*free disk space"):
            checkpoints.wait()
    sys.unraisablehook(late)  # these calls may come after the end too
    assert reported == [other]


@pytest.mark.slow
def test_a_full_disk_is_reported_in_one_line_and_loses_nothing(tmp_path):
    """A file-size limit simulates the full disk. It applies to a process, hence the subprocess."""
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
    print(f"error: {error}")
"""
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "checkpoints"), str(ROOT)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    errors = [line for line in run.stdout.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, run.stderr[-2000:]
    assert str(tmp_path / "checkpoints") in errors[0]
    assert "free disk space" in errors[0]
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.restore_newest(make_state())[1] == 10
        assert checkpoints.best == 10


ODD_NAMES = (
    "exp [v2] {x} %d #", "*", "~", "a\\b:c?\nline", os.fsdecode(b"m\xfcller"), "\U0001f600 trailing  ",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_the_folder_can_have_any_name_and_no_other_files_are_left(tmp_path, name, capsys, monkeypatch):
    links = tmp_path / "links"
    links.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(links))
    folder = tmp_path / "runs" / name / "checkpoints"
    write(folder, [0.2, 0.1, 0.3, 0.4])
    (folder / "50.orbax-checkpoint-tmp-0").mkdir()
    flip_bit(folder / "40" / "state" / "_METADATA")
    with Checkpoints(folder) as checkpoints:
        state, step = checkpoints.restore_newest(make_state())
        assert step == 30
        np.testing.assert_array_equal(state.variables["params"]["output"]["kernel"], 3)
        checkpoints.save(50, make_state(value=5.0, step=50), validation_nme=0.5)
        assert checkpoints.best == 20
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [name]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["checkpoints", "damaged"]
    assert sorted(path.name for path in folder.iterdir()) == ["20", "30", "50"]
    assert all((folder / step_name / "checksums.json").exists() for step_name in ("20", "30", "50"))
    assert not list(links.iterdir())


def save_corrupted(folder, corrupt):
    """Save a valid checkpoint and a better one, which `corrupt` changes before its verification. Return the error."""

    class CorruptedCheckpoints(Checkpoints):
        def _read_back(self, step, saved, metrics):
            saved, metrics = corrupt(self.folder / str(step), saved, metrics) or (saved, metrics)
            super()._read_back(step, saved, metrics)

    with Checkpoints(folder, keep=1) as checkpoints:
        checkpoints.save(10, make_state(value=1.0, step=10), validation_nme=0.2)
    with CorruptedCheckpoints(folder, keep=1) as checkpoints:
        checkpoints.save(20, make_state(value=2.0, step=20), validation_nme=0.1)
        with pytest.raises(InputError, match="written, but reading it back failed") as error:
            checkpoints.wait()
        assert (checkpoints.newest, checkpoints.best) == (10, 10)
    return str(error.value)


def delete_arrays(checkpoint, saved, metrics):
    shutil.rmtree(checkpoint / "state")


def flip_all_arrays(checkpoint, saved, metrics):
    for path in checkpoint.glob("state/**/d/*"):
        flip_bit(path)


def change_one_value(checkpoint, saved, metrics):
    kernel = np.array(saved.averaged["params"]["output"]["kernel"])
    kernel.view(np.uint32)[0, 0] ^= 1
    saved.averaged["params"]["output"]["kernel"] = kernel
    return saved, metrics


def negate_zeros(checkpoint, saved, metrics):
    saved.variables["params"]["output"]["bias"] = -saved.variables["params"]["output"]["bias"]
    return saved, metrics


def delete_metrics(checkpoint, saved, metrics):
    (checkpoint / "metrics" / "metrics").unlink()


def change_metrics(checkpoint, saved, metrics):
    return saved, {"validation_nme": 0.05}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("corrupt", "reason"),
    [
        (delete_arrays, ""),
        (flip_all_arrays, ""),
        (change_one_value, "averaged/params/output/kernel differs"),
        (negate_zeros, "variables/params/output/bias differs"),
        (delete_metrics, "FileNotFoundError"),
        (change_metrics, "read {'validation_nme': 0.1}"),
    ],
)
def test_a_checkpoint_that_fails_verification_is_quarantined_and_earlier_ones_are_kept(tmp_path, corrupt, reason):
    message = save_corrupted(tmp_path / "checkpoints", corrupt)
    assert reason in message
    assert str(tmp_path / "damaged" / "20") in message
    assert (tmp_path / "damaged" / "20").exists()
    assert steps_in(tmp_path / "checkpoints") == [10]
    with Checkpoints(tmp_path / "checkpoints", keep=1) as checkpoints:
        assert checkpoints.restore_newest(make_state())[1] == 10
        checkpoints.save(20, make_state(value=2.0, step=20), validation_nme=0.1)
    assert steps_in(tmp_path / "checkpoints") == [20]


def test_nan_is_restored_as_nan(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(10, make_state(value=np.nan, step=10), validation_nme=0.1)
        checkpoints.wait()
        restored = checkpoints.restore(10, make_state())
    assert np.isnan(restored.variables["params"]["output"]["kernel"]).all()


def test_corrupt_metrics_without_checksums_are_reported(tmp_path, capsys):
    write(tmp_path / "checkpoints", [0.3, 0.2])
    (tmp_path / "checkpoints" / "20" / "checksums.json").unlink()
    truncate(tmp_path / "checkpoints" / "20" / "metrics" / "metrics")
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.restore_newest(make_state())[1] == 10
    assert "20 is corrupt (metrics/metrics cannot be read)" in capsys.readouterr().err


@pytest.mark.slow
def test_loggers_are_unchanged_after_the_import_and_after_a_session(tmp_path):
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


def test_orbax_log_messages_are_hidden_and_those_of_others_are_not(tmp_path, caplog):
    absl = logging.getLogger("absl")
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.newest is None
        checkpoints.save(1, make_state(), validation_nme=0.1)
        path = str(Path("site-packages", "orbax", "checkpoint", "x.py"))
        absl.handle(absl.makeRecord("absl", logging.ERROR, path, 1, "of Orbax", (), None))
        absl.handle(absl.makeRecord("absl", logging.ERROR, "other.py", 1, "of another", (), None))
    assert [record.message for record in caplog.records] == ["of another"]

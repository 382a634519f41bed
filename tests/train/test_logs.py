"""The log of a training: every step once, whatever ended the run before, and a full disk is one line."""

import errno
import json
import os

import pytest
import tensorflow as tf
from tensorboardX.proto.event_pb2 import Event, SessionLog

from wing_jax.errors import InputError
from wing_jax.train.logs import TrainingLog


def log_of(folder, first_step=0):
    return TrainingLog(folder, title="stage 1", first_step=first_step, steps=100, batch_size=4)


def fill(folder, *, first_step, last_step):
    with log_of(folder, first_step) as log:
        for step in range(first_step + 20, last_step + 1, 20):
            log.write(step, loss=1 / step, **({"validation_nme": 0.5 / step} if step % 40 == 0 else {}))


def logged(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def events(folder):
    """By TensorFlow, file by file."""
    for path in sorted(folder.glob("events.out.tfevents.*"), key=lambda path: int(path.suffix[1:])):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            yield Event.FromString(record)


def test_a_run_that_goes_on_logs_every_step_once(tmp_path):
    fill(tmp_path, first_step=0, last_step=80)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 100, "lo')  # killed
    fill(tmp_path, first_step=40, last_step=100)
    assert [line["step"] for line in logged(tmp_path)] == [20, 40, 60, 80, 100]
    assert [path.name for path in tmp_path.glob("metrics*")] == ["metrics.jsonl"]


def test_tensorboard_gets_what_the_lines_say(tmp_path):
    fill(tmp_path, first_step=0, last_step=80)
    fill(tmp_path, first_step=40, last_step=100)
    found = list(events(tmp_path))
    assert found[0].file_version == "brain.Event:2"
    starts = [event.step for event in found if event.session_log.status == SessionLog.START]
    assert starts == [1, 41]  # what was logged at that step and after is forgotten
    values = {(event.step, value.tag): value.simple_value for event in found for value in event.summary.value}
    for line in logged(tmp_path):
        for name in line.keys() - {"step"}:
            assert values[line["step"], name] == pytest.approx(line[name], rel=1e-5, abs=1e-6)


class FullDisk:
    """In place of an open file: what is written stays in its buffer, which no disk takes."""

    def __init__(self, *_: str):
        pass

    def write(self, text: str | bytes) -> int:
        return len(text)

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    close = flush


TOLD = r"^[^\n]*: the log cannot be written \(No space left on device\): make room"


def test_a_full_disk_is_one_line(tmp_path):
    fill(tmp_path, first_step=0, last_step=80)
    log = log_of(tmp_path, first_step=80)
    log._file.close()
    log._file = FullDisk()
    with pytest.raises(InputError, match=TOLD), log:
        log.write(100, loss=1.0)
    assert [line["step"] for line in logged(tmp_path)] == [20, 40, 60, 80]


def test_a_disk_that_is_full_for_tensorboard_does_not_wait_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr("tensorboardX.record_writer.open_file", FullDisk)
    with pytest.raises(InputError, match=TOLD):
        fill(tmp_path, first_step=0, last_step=2000)
    assert [line["step"] for line in logged(tmp_path)] == [20, 40]  # told at the first validation
    with pytest.raises(InputError, match=TOLD), log_of(tmp_path) as log:
        log.write(20, loss=1.0)  # and at the end at the latest


def test_a_full_disk_at_the_start_leaves_the_log_as_it_was(tmp_path, monkeypatch):
    fill(tmp_path, first_step=0, last_step=80)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    (tmp_path / "metrics.jsonl.new").symlink_to("/dev/full")
    with pytest.raises(InputError, match="the log cannot be written"):
        log_of(tmp_path, first_step=40)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before

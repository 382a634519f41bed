"""The log of a training: each step is logged once, however earlier runs ended; a full disk is reported in one line."""

import errno
import json
import os
import time

import pytest
import tensorflow as tf
from tensorboardX.proto.event_pb2 import Event, SessionLog

from wing_jax.errors import InputError
from wing_jax.train.logs import TrainingLog


def make_log(folder, first_step=0):
    return TrainingLog(folder, title="stage 1", first_step=first_step, steps=100, batch_size=4)


def fill(folder, *, first_step, last_step):
    with make_log(folder, first_step) as log:
        for step in range(first_step + 20, last_step + 1, 20):
            log.write(step, loss=1 / step, **({"validation_nme": 0.5 / step} if step % 40 == 0 else {}))


def read_log(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def read_events(folder):
    """Read the events of all files with TensorFlow."""
    for path in sorted(folder.glob("events.out.tfevents.*"), key=lambda path: int(path.suffix[1:])):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            yield Event.FromString(record)


def test_a_resumed_run_logs_every_step_once(tmp_path):
    fill(tmp_path, first_step=0, last_step=80)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 100, "lo')  # the line of a killed run
    fill(tmp_path, first_step=40, last_step=100)
    assert [line["step"] for line in read_log(tmp_path)] == [20, 40, 60, 80, 100]
    assert [path.name for path in tmp_path.glob("metrics*")] == ["metrics.jsonl"]


def test_tensorboard_gets_the_values_of_the_lines(tmp_path):
    fill(tmp_path, first_step=0, last_step=80)
    fill(tmp_path, first_step=40, last_step=100)
    events = list(read_events(tmp_path))
    assert events[0].file_version == "brain.Event:2"
    starts = [event.step for event in events if event.session_log.status == SessionLog.START]
    assert starts == [1, 41]  # TensorBoard drops what was logged at these steps and after
    values = {(event.step, value.tag): value.simple_value for event in events for value in event.summary.value}
    for line in read_log(tmp_path):
        for name in line.keys() - {"step"}:
            assert values[line["step"], name] == pytest.approx(line[name], rel=1e-5, abs=1e-6)


def test_faces_per_second_leave_out_validations(tmp_path, monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    with make_log(tmp_path) as log:
        now += 2
        with log.paused():
            now += 30
        log.write(20, loss=1.0, validation_nme=0.5)
        now += 4
        log.write(40, loss=1.0)
    assert [line["faces_per_second"] for line in read_log(tmp_path)] == [40, 20]  # 20 steps of 4 faces in 2 and 4 s


class FullDisk:
    """A file on a full disk: `write` fills the buffer, and flushing it fails."""

    def __init__(self, *_: str):
        pass

    def write(self, text: str | bytes) -> int:
        return len(text)

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    close = flush


MESSAGE = r"^[^\n]*: the log cannot be written \(No space left on device\): free disk space"


def test_a_full_disk_is_reported_in_one_line(tmp_path):
    fill(tmp_path, first_step=0, last_step=80)
    log = make_log(tmp_path, first_step=80)
    log._file.close()
    log._file = FullDisk()
    with pytest.raises(InputError, match=MESSAGE), log:
        log.write(100, loss=1.0)
    assert [line["step"] for line in read_log(tmp_path)] == [20, 40, 60, 80]


def test_a_disk_full_while_writing_tensorboard_events_does_not_block_forever(tmp_path, monkeypatch):
    monkeypatch.setattr("tensorboardX.record_writer.open_file", FullDisk)
    with pytest.raises(InputError, match=MESSAGE):
        fill(tmp_path, first_step=0, last_step=2000)
    assert [line["step"] for line in read_log(tmp_path)] == [20, 40]  # reported at the first validation
    with pytest.raises(InputError, match=MESSAGE), make_log(tmp_path) as log:
        log.write(20, loss=1.0)  # reported at the end if there was no validation


def test_a_full_disk_at_the_start_leaves_the_log_unchanged(tmp_path, monkeypatch):
    fill(tmp_path, first_step=0, last_step=80)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    (tmp_path / "metrics.jsonl.new").symlink_to("/dev/full")
    with pytest.raises(InputError, match="the log cannot be written"):
        make_log(tmp_path, first_step=40)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before

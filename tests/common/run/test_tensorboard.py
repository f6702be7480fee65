"""The event files of --tensorboard, read by the format that TensorBoard documents, hold the log's numbers."""

import json
import math
import struct
from pathlib import Path

import pytest

from common.errors import UserError
from common.run import tensorboard, training
from common.run.tensorboard import PREFIX, Events, check_tensorboard
from common.run.training import run_training
from tests.common.run.made_up_steps import made_up_steps


def crc32c(data):
    """Castagnoli's checksum, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 & -(crc & 1))
    return crc ^ 0xFFFFFFFF


def masked(data):
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def read_events(path):
    """Returns the events of a file: length, its checksum, the event, its checksum, and so on."""
    from tensorboardX.proto.event_pb2 import Event

    content, events = path.read_bytes(), []
    while content:
        length, = struct.unpack("<Q", content[:8])
        event = content[12:12 + length]
        assert struct.unpack("<I", content[8:12]) == (masked(content[:8]),)
        assert struct.unpack("<I", content[12 + length:16 + length]) == (masked(event),)
        events.append(Event.FromString(event))
        content = content[16 + length:]
    return events


def event_files(folder):
    return sorted(Path(folder).glob(PREFIX + "*"))


def scalars(folder):
    """Returns ``{(name, step): number}`` as TensorBoard shows them: a later start takes back what is beyond it."""
    found = {}
    for path in event_files(folder):
        for event in read_events(path):
            if event.HasField("session_log"):
                found = {(name, step): number for (name, step), number in found.items() if step < event.step}
            found |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
    return found


def records_of(folder):
    return [json.loads(line) for line in Path(folder, "train_log.jsonl").read_text().splitlines()]


def assert_same_numbers(folder):
    records, found = records_of(folder), scalars(folder)
    for record in records:
        names = {"train": ("loss", "avg_loss", "lr", "step_ms"), "validation": ("loss",)}[record["kind"]]
        start = {"train": "train", "validation": "valid"}[record["kind"]]
        for name in names:
            assert found.pop((f"{start}/{name}", record["step"])) == pytest.approx(record[name], rel=1e-6)
    assert not found and len(records) > 4


def test_checksums_by_their_published_value():
    assert crc32c(b"123456789") == 0xE3069283


def test_the_numbers_are_those_of_the_log(arguments):
    arguments.tensorboard = True
    run_training(arguments, made_up_steps([]))
    assert_same_numbers(arguments.work_dir)


def test_without_the_flag_there_is_no_file(arguments):
    run_training(arguments, made_up_steps([]))
    assert event_files(arguments.work_dir) == []


class CutOff(Exception):
    """What stands for a kill."""


def test_a_run_that_goes_on_takes_back_what_it_repeats(arguments):
    vars(arguments).update(tensorboard=True, resume=True, state_minutes=1e-9, log_interval=1)

    def losses(step):
        if step == 6:
            raise CutOff
        return 2.0 - step / 10

    with pytest.raises(CutOff):
        run_training(arguments, made_up_steps([], losses))
    event_files(arguments.work_dir)[0].rename(Path(arguments.work_dir, PREFIX + "1.a"))
    # One record more than the state knows of, as a kill behind the log line leaves it.
    events = Events(arguments.work_dir, steps_done=5)
    events.add({"kind": "train", "step": 6, "loss": 9.0, "avg_loss": 9.0, "lr": 9.0, "step_ms": 9.0})
    event_files(arguments.work_dir)[1].rename(Path(arguments.work_dir, PREFIX + "1.b"))
    run_training(arguments, made_up_steps([]))
    assert len(event_files(arguments.work_dir)) == 3
    assert_same_numbers(arguments.work_dir)


def test_a_run_that_begins_removes_the_files_of_the_one_before(arguments):
    vars(arguments).update(tensorboard=True, overwrite=True)
    run_training(arguments, made_up_steps([]))
    event_files(arguments.work_dir)[0].rename(Path(arguments.work_dir, PREFIX + "1"))
    run_training(arguments, made_up_steps([]))
    assert len(event_files(arguments.work_dir)) == 1
    assert_same_numbers(arguments.work_dir)


def test_scores_are_written_too(tmp_path):
    events = Events(str(tmp_path))
    events.add({"kind": "validation", "step": 4, "loss": 0.5,
                "scores": {"classification": {"precision": 1.0, "recall": 0.5, "f1": 2 / 3}}})
    assert scalars(tmp_path) == {("valid/loss", 4): 0.5, ("valid/classification", 4): pytest.approx(2 / 3)}
    assert math.isclose(read_events(event_files(tmp_path)[0])[1].wall_time, event_files(tmp_path)[0].stat().st_mtime,
                        abs_tol=60)


def test_a_missing_library_is_said_before_anything_else(arguments, monkeypatch):
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    arguments.tensorboard = True
    for start in (check_tensorboard, lambda: training.run_training(arguments, made_up_steps([]))):
        with pytest.raises(UserError, match="^--tensorboard: tensorboardX.* not installed here: run `bash scripts"):
            start()
    assert not Path(arguments.work_dir).exists()

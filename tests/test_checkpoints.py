"""Checkpoints come back bit for bit, or not at all."""

import logging
import os

import pytest
import safetensors.torch
import torch

from elf.artifacts.checkpoints import Checkpoint
from elf.errors import ElfError
from elf.machine.randomness import generator


def some_state() -> dict[str, torch.Tensor]:
    return {
        "weight": torch.randn(3, 4, 2, 2, generator=generator(0)).to(memory_format=torch.channels_last),
        "double": torch.randn(5, generator=generator(1), dtype=torch.float64),
        "stream": generator(2).get_state(),
        "next_pass": torch.tensor(7),
    }


def assert_same(ours: dict[str, torch.Tensor] | None, other: dict[str, torch.Tensor]) -> None:
    assert ours is not None
    assert ours.keys() == other.keys()
    for name in ours:
        assert ours[name].dtype == other[name].dtype
        assert torch.equal(ours[name], other[name])


def test_what_was_saved_is_loaded(tmp_path):
    path = tmp_path / "new folder" / "job [1].safetensors"
    Checkpoint(path, "key").save_now(some_state)
    assert_same(Checkpoint(path, "key").load(), some_state())
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_nothing_is_loaded_where_there_is_nothing(tmp_path):
    assert Checkpoint(tmp_path / "absent", "key").load() is None
    assert Checkpoint(tmp_path, "key").load() is None


def test_another_key_is_ignored_with_a_line(tmp_path, caplog):
    Checkpoint(tmp_path / "job", "old code").save_now(some_state)
    assert Checkpoint(tmp_path / "job", "new code").load() is None
    assert "belongs to other settings or code" in caplog.text


def test_every_truncation_and_every_altered_byte_is_noticed(tmp_path, caplog):
    path = tmp_path / "job"
    checkpoint = Checkpoint(path, "key")
    checkpoint.save_now(lambda: {"a": torch.arange(3.0), "b": torch.tensor([True, False])})
    intact = path.read_bytes()
    with caplog.at_level(logging.CRITICAL):
        for length in range(len(intact)):
            path.write_bytes(intact[:length])
            assert checkpoint.load() is None
        for position in range(len(intact)):
            altered = bytearray(intact)
            altered[position] ^= 0b100
            path.write_bytes(altered)
            state = checkpoint.load()
            # An altered byte between the fields of the header may mean nothing.
            assert state is None or torch.equal(state["a"], torch.arange(3.0))
            assert state is None or state["b"].tolist() == [True, False]


def test_a_foreign_file_is_ignored_with_a_line(tmp_path, caplog):
    safetensors.torch.save_file({"a": torch.zeros(2)}, tmp_path / "foreign")
    assert Checkpoint(tmp_path / "foreign", "key").load() is None
    assert str(tmp_path / "foreign") in caplog.text


def test_saves_only_when_the_interval_is_over(tmp_path, monkeypatch):
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    checkpoint = Checkpoint(tmp_path / "job", "key", interval_seconds=300)
    saved_at = []

    def make_state():
        saved_at.append(now)
        return some_state()

    for seconds in range(0, 1000, 50):
        now = 1000.0 + seconds
        checkpoint.save_if_due(make_state)
    assert saved_at == [1300, 1600, 1900]


def test_a_failed_write_keeps_the_former_file_and_says_where(tmp_path, monkeypatch):
    path = tmp_path / "job"
    checkpoint = Checkpoint(path, "key")
    checkpoint.save_now(some_state)

    def full_disk(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(ElfError, match=str(path)):
        checkpoint.save_now(lambda: {"a": torch.zeros(2)})
    assert_same(checkpoint.load(), some_state())
    assert list(tmp_path.iterdir()) == [path]


def test_remove_takes_leftovers_of_killed_jobs_along_and_nothing_else(tmp_path):
    path, neighbour = tmp_path / "job", tmp_path / "job2"
    checkpoint = Checkpoint(path, "key")
    checkpoint.save_now(some_state)
    neighbour.write_bytes(b"kept")
    (tmp_path / ".job.x1y2.part").write_bytes(b"half")
    checkpoint.remove()
    checkpoint.remove()
    assert list(tmp_path.iterdir()) == [neighbour]

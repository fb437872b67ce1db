"""A job knows when it will be killed, and stops before that with its state saved."""

import os

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from elf.artifacts.checkpoints import Checkpoint
from elf.errors import ElfError
from elf.machine import time_limit as module
from elf.machine.time_limit import TimeLimit, seconds_of, time_limit


class Clock:
    """A monotonic clock that tests move."""

    def __init__(self) -> None:
        self.now = 5000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.monotonic", clock)
    return clock


@pytest.fixture
def squeue(other_processes, tmp_path, monkeypatch):
    """Function that puts a squeue on the PATH which answers with a text, and notes how it was asked."""

    def answer(text: str, status: int = 0):
        program = tmp_path / "squeue"
        program.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/asked\necho "{text}"\nexit {status}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        return tmp_path / "asked"

    return answer


@given(st.integers(0, 400), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_durations_of_slurm(days, hours, minutes, seconds):
    total = 86400 * days + 3600 * hours + 60 * minutes + seconds
    forms = [f"{days}-{hours:02}:{minutes:02}:{seconds:02}"]
    if not days:
        forms.append(f"{hours}:{minutes:02}:{seconds:02}")
    if not days and not hours:
        forms.append(f"{minutes}:{seconds:02}")
    assert [seconds_of(form) for form in forms] == [total] * len(forms)


@pytest.mark.parametrize("text", ["UNLIMITED", "NOT_SET", "INVALID", ""])
def test_no_limit(text):
    assert seconds_of(text) is None


@pytest.mark.parametrize("text", ["soon", "1:2:3:4", "-1:00", "12"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="is no duration"):
        seconds_of(text)


def test_a_slurm_job_asks_the_controller(squeue, clock):
    asked = squeue("1-00:00:30")
    assert time_limit({"SLURM_JOB_ID": "77"}).ends == clock.now + 86430
    assert asked.read_text().split() == ["--noheader", "--jobs", "77", "--format", "%L"]


def test_a_controller_that_is_away_costs_a_line(squeue, caplog):
    squeue("slurm_load_jobs error: Unable to contact slurm controller", status=1)
    assert time_limit({"SLURM_JOB_ID": "77"}).ends is None
    assert "does not say the time limit of job 77" in caplog.text


def test_without_a_scheduler_there_is_no_limit():
    assert time_limit({}).ends is None
    assert not TimeLimit(None).is_near(1e9)


def test_other_schedulers_say_it_in_the_environment(clock):
    assert time_limit({"ELF_JOB_MINUTES": "1.5", "SLURM_JOB_ID": "77"}).ends == clock.now + 90


@pytest.mark.parametrize("text", ["soon", "0", "-3", "nan"])
def test_nonsense_in_the_environment_is_refused(text):
    with pytest.raises(ElfError, match="ELF_JOB_MINUTES: found"):
        time_limit({"ELF_JOB_MINUTES": text})


@pytest.mark.parametrize(("limit", "margin"), [(3600, module.MARGIN_SECONDS), (100, 25)])
def test_stops_when_two_more_steps_might_not_fit(tmp_path, clock, limit, margin):
    checkpoint = Checkpoint(tmp_path / "job", "key", interval_seconds=1e9, time_limit=TimeLimit(limit))
    steps = 0
    with pytest.raises(ElfError, match="before the job's time limit, with everything saved in"):
        while True:
            clock.now += 7
            steps += 1
            checkpoint.save_if_due(lambda steps=steps: {"steps": torch.tensor(steps)})
    # The first step after which less than two steps and the margin are left.
    assert steps == next(n for n in range(1000) if limit - 7 * n <= 14 + margin)
    assert checkpoint.load()["steps"] == steps


def test_the_longest_step_counts(tmp_path, clock):
    checkpoint = Checkpoint(tmp_path / "job", "key", time_limit=TimeLimit(3600))
    for seconds in (10, 800, 10):
        clock.now += seconds
        checkpoint.save_if_due(lambda: {"a": torch.zeros(1)})
    clock.now += 1200
    with pytest.raises(ElfError, match="stopped 1580 s before"):
        checkpoint.save_if_due(lambda: {"a": torch.zeros(1)})

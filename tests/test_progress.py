"""Progress is shown seldom, and reads the loss only then."""

import io

import pytest
import torch

from elf.machine import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


class UnreadLoss:
    def __float__(self):
        raise AssertionError("the loss was read although nothing is shown")


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_progress_reads_the_loss_only_where_it_shows_it(stream, monkeypatch):
    now = 0.0
    monkeypatch.setattr("elf.machine.progress.time.monotonic", lambda: now)
    report = progress.reporter("teacher", 1000, stream=stream)
    report(501, 1000, torch.tensor(2.5))
    now = 0.01
    for finished in range(502, 1000):
        report(finished, 1000, UnreadLoss())
    report(1000, 1000, torch.tensor(0.125))
    text = stream.getvalue()
    assert "loss 2.5" in text
    assert "loss 0.125" in text
    assert "1000/1000" in text


def test_log_lines_are_ten_seconds_apart(monkeypatch):
    now, stream = 0.0, io.StringIO()
    monkeypatch.setattr("elf.machine.progress.time.monotonic", lambda: now)
    report = progress.reporter("evaluation", 100, stream=stream)
    for finished in range(1, 101):
        now = 0.3 * finished
        report(finished, 100, None)
    shown = [int(line.split(": ")[1].split("/")[0]) for line in stream.getvalue().splitlines()]
    assert shown == [1, 35, 69, 100]

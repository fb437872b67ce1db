"""The choice of the device, and what is measured on it."""

import pytest
import torch

from elf import device
from elf.errors import ElfError


def test_the_device_is_chosen_by_argument_then_environment(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("ELF_DEVICE", "cpu")
    assert device.pick_device().type == "cpu"
    assert device.pick_device("cuda").type == "cuda"
    assert device.pick_device("auto").type == "cuda"
    monkeypatch.delenv("ELF_DEVICE")
    assert device.pick_device().type == "cuda"


def test_a_device_that_is_not_there_is_one_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device.pick_device("auto").type == "cpu"
    with pytest.raises(ElfError, match="finds no GPU"):
        device.pick_device("cuda")
    monkeypatch.setenv("ELF_DEVICE", "tpu")
    with pytest.raises(ElfError, match=r"'tpu'.*allowed: auto, cpu, cuda"):
        device.pick_device()


def test_peak_memory_counts_bytes():
    megabytes = device.peak_memory_bytes(torch.device("cpu")) / 2**20
    # A process that has imported PyTorch holds between some tens of megabytes and a few gigabytes.
    assert 50 < megabytes < 20_000

"""The choice of the device, and what is measured on it."""

import platform
import subprocess
import sys

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


FAULTS = """
import resource, sys, torch
from elf import device
if sys.argv[1] == "prepared":
    device.prepare(1, torch.device("cpu"))
for _ in range(20):
    torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is told to keep memory")
def test_memory_that_is_freed_is_used_again():
    def page_faults(mode):
        command = [sys.executable, "-c", FAULTS, mode]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    # 20 tensors of 64 MB: without a word to the allocator each of their pages is mapped anew every time.
    assert page_faults("prepared") * 10 < page_faults("plain")

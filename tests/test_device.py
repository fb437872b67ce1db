"""The choice of the device, and what is measured on it."""

import os
import platform
import select
import subprocess
import sys
from subprocess import PIPE

import pytest
import torch
from conftest import PROJECT

from elf.errors import ElfError
from elf.machine import device


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
from elf.machine import device
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
def test_memory_that_is_freed_is_used_again(run_python):
    def page_faults(mode):
        return int(run_python("-c", FAULTS, mode, check=True).stdout)

    # 20 tensors of 64 MB: without a word to the allocator each of their pages is mapped anew every time.
    assert page_faults("prepared") * 10 < page_faults("plain")


TAKE_A_GPU = """
import sys, time
import torch
torch.cuda.is_available, torch.cuda.device_count = (lambda: True), (lambda: 2)
from elf.machine import device
print(device.pick_device("auto"), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def take_gpu(other_processes, tmp_path):
    """Function that starts a process which sees two GPUs, takes one and keeps it until its input ends."""
    started = []

    def start(**changes: str) -> subprocess.Popen:
        environment = {**os.environ, "TMPDIR": str(tmp_path), "ELF_OWN_GPU": "1", **changes}
        for name in ("ELF_DEVICE", "SLURM_JOB_ID", "CUDA_VISIBLE_DEVICES"):
            if name not in changes:
                environment.pop(name, None)
        process = subprocess.Popen(
            [sys.executable, "-c", TAKE_A_GPU], env=environment, stdin=PIPE, stdout=PIPE, text=True, cwd=PROJECT
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_jobs_take_different_gpus_and_a_third_waits_for_one_that_is_killed(take_gpu):
    first, second = take_gpu(), take_gpu()
    devices = {first: first.stdout.readline().strip(), second: second.stdout.readline().strip()}
    assert set(devices.values()) == {"cuda:0", "cuda:1"}
    third = take_gpu()
    assert select.select([third.stdout], [], [], 6)[0] == []
    second.kill()
    assert third.stdout.readline().strip() == devices[second]


def test_a_gpu_is_the_same_under_another_index(take_gpu):
    first = take_gpu(CUDA_VISIBLE_DEVICES="3,5")
    assert first.stdout.readline().strip() == "cuda:0"
    assert take_gpu(CUDA_VISIBLE_DEVICES="3,7").stdout.readline().strip() == "cuda:1"


def test_slurm_has_assigned_the_gpu_already(take_gpu):
    assert [take_gpu(SLURM_JOB_ID="1").stdout.readline().strip() for _ in range(3)] == ["cuda"] * 3


def test_gpus_are_shared_unless_each_job_is_to_have_its_own(take_gpu):
    assert [take_gpu(ELF_OWN_GPU="0").stdout.readline().strip() for _ in range(3)] == ["cuda"] * 3

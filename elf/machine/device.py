"""The one place that decides on the device, its threads and its arithmetic."""

import ctypes
import logging
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from elf.errors import ElfError
from elf.machine.memory import peak_resident_bytes

log = logging.getLogger(__name__)

DEVICES = ("auto", "cpu", "cuda")


def pick_device(name: str | None = None) -> torch.device:
    """Return the device on which to compute.

    Parameters
    ----------
    name : {"auto", "cpu", "cuda"} or None
        None reads the environment variable ``ELF_DEVICE`` (default ``auto``). ``auto`` is a GPU where
        PyTorch finds one, otherwise the CPU. With ``ELF_OWN_GPU=1`` it is a GPU for this process alone, for which
        it waits; inside a SLURM job the GPU is the one that SLURM assigned.

    Returns
    -------
    torch.device

    Raises
    ------
    ElfError
        If the name is unknown, or ``cuda`` is asked for and absent.
    """
    name = name or os.environ.get("ELF_DEVICE") or "auto"
    if name not in DEVICES:
        raise ElfError(f"unknown device {name!r} (option or ELF_DEVICE); allowed: {', '.join(DEVICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ElfError(
            "device 'cuda' was asked for (option or ELF_DEVICE), but PyTorch finds no GPU; "
            "use 'cpu' or 'auto', or install a CUDA build of PyTorch on a machine with a GPU"
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
        if name == "cpu" and os.environ.get("SLURM_JOB_ID") and os.environ.get("CUDA_VISIBLE_DEVICES"):
            log.warning("SLURM assigned a GPU, but PyTorch finds none: computing on the CPU")
    if name == "cuda" and os.environ.get("ELF_OWN_GPU") == "1" and "SLURM_JOB_ID" not in os.environ:
        return torch.device(name, _take_gpu())
    return torch.device(name)


_held: list[FileLock] = []
"""Locks end with the process, however it ends."""


def _take_gpu() -> int:
    """Lock a GPU that no other process of this user has locked, and return its index; wait until there is one."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    # Two processes can see the same GPU under different indices.
    names = visible.split(",") if visible else [str(index) for index in range(torch.cuda.device_count())]
    folder = Path(tempfile.gettempdir()) / f"elf-gpus-of-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise ElfError(f"{folder} belongs to somebody else; set TMPDIR to a folder of your own")
    told = False
    while True:
        for index, name in enumerate(names):
            lock = FileLock(folder / f"{name.strip()}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            _held.append(lock)
            return index
        if not told:
            log.info("waiting for one of %s GPUs to be free", len(names))
            told = True
        time.sleep(1)


def prepare(threads: int | None, device: torch.device) -> None:
    """Set what numbers and speed depend on; call it once, before the first computation of a process.

    Denormal numbers become zero, algorithms on a GPU are deterministic and chosen without benchmarks, and float32
    products are computed in full float32 (no TF32), so that CPU and GPU agree up to rounding.

    Parameters
    ----------
    threads : int or None
        CPU threads of PyTorch; None leaves its own choice.
    device : torch.device
        Made the current one if it is a GPU.
    """
    # First: worker threads inherit this setting from the thread that starts them.
    torch.set_flush_denormal(True)
    if threads is not None:
        torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    _keep_freed_memory()
    if device.type == "cuda":
        # Where an operation of some network has an order of sums that changes from run to run, the log says so.
        # cuBLAS has to be told before its first use.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False
        torch.cuda.init()
        if device.index is not None:
            torch.cuda.set_device(device)
        torch.cuda.reset_peak_memory_stats(device)


def _keep_freed_memory() -> None:
    """Tell glibc's allocator to keep what is freed instead of giving it back to the system.

    By default every large activation is mapped, filled with zeros by the system and unmapped again: a third of
    the time of a ConvNet's training step. Elsewhere than on glibc nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, mmap_max, never = -1, -4, -1  # the first two: names of options in malloc.h
        mallopt(trim_threshold, never)
        mallopt(mmap_max, 0)


def describe(device: torch.device) -> str:
    """Return the device in words, for manifests: ``cuda (NVIDIA H200)`` or ``cpu (x86_64, threads: 2)``."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return f"{device.type} ({platform.machine()}, threads: {torch.get_num_threads()})"


def images_per_forward(device: torch.device) -> int:
    """Return how many images to push through a network at once where they do not see each other."""
    # On a CPU, portions whose activations the allocator keeps took half the time; a GPU wants large ones.
    return 1024 if device.type == "cuda" else 64


def bytes_per_block(device: torch.device) -> int:
    """Return how much of a tensor to work on at once where several operations follow one another on it."""
    # About what stays in the cache of a CPU's core between two operations; a GPU wants everything at once.
    return sys.maxsize if device.type == "cuda" else 2**21


LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
"""From the memory format of a recipe to PyTorch's."""


def layout(device: torch.device, name: str = "auto") -> torch.memory_format:
    """Return how images, maps and weights lie in memory: as a recipe says, ``auto`` as the device is fastest."""
    if name == "auto":
        name = "contiguous" if device.type == "cuda" else "channels_last"
    return LAYOUTS[name]


def multiplies_patches(maps: Tensor) -> bool:
    """Return whether some convolutions of maps are faster as products of patches, see `elf.networks.convolution`."""
    return maps.device.type == "cpu" and maps.is_contiguous(memory_format=torch.channels_last)


def replays_steps(device: torch.device) -> bool:
    """Return whether steps that repeat are captured once and replayed, see :mod:`elf.training.replayed`."""
    return device.type == "cuda"


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the CPU on a device, without a wait of one for the other."""
    if device.type == "cpu" or tensor.device == device:
        return tensor
    # From memory that can be paged out, a copy would first wait for all that the device has still to do.
    return tensor.pin_memory().to(device, non_blocking=True)


def peak_memory_bytes(device: torch.device) -> int:
    """Return the most memory in use so far: tensors on a GPU, else the resident memory of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_resident_bytes()

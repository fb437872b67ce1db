"""Shared by all tests: deterministic property tests and the folder with real images."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "project", derandomize=True, deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("project")

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the parquet copies of CIFAR-10 and of part of Tiny ImageNet."""
    folder = Path(os.environ.get("ELF_TEST_DATA_DIR", PROJECT.parent / "shared" / "data"))
    if not (folder / "cifar10").is_dir():
        pytest.skip(f"no real images under {folder}; set ELF_TEST_DATA_DIR to a folder that holds cifar10/*.parquet")
    return folder


@pytest.fixture(scope="module")
def small_process():
    """Commands change PyTorch's settings for their process; here it is that of the tests."""
    # Here, because tests of what is drawn and planned do without PyTorch.
    import torch

    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ELF_DEVICE", "cpu")
        patch.delenv("ELF_CHECKPOINT_SECONDS", raising=False)
        yield
    torch.set_flush_denormal(False)
    torch.set_num_threads(threads)

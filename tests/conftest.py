"""Shared by all tests: deterministic property tests, the folder with real images, and which tests start processes.

A test that asks for the fixture `other_processes`, mostly through another one, is marked ``processes``; all others run
inside the process of the tests, and fail if they start another.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "project", derandomize=True, deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("project")

PROJECT = Path(__file__).resolve().parent.parent


MARK, FIXTURE = "processes", "other_processes"
STARTS = ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system")
"""Events of Python's own auditing."""

_inside: list[str] = []
"""The test that is to run inside this process, if there is one now."""


def _refuse_processes(event: str, _) -> None:
    if _inside and event in STARTS:
        raise AssertionError(f"{_inside[-1]} starts a process ({event}); it has to ask for the fixture '{FIXTURE}'")


sys.addaudithook(_refuse_processes)


def pytest_configure(config) -> None:
    """Register the mark; it is set below and nowhere else."""
    config.addinivalue_line("markers", f"{MARK}: starts other processes (set by tests/conftest.py, not by hand)")


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config, items):
    """Mark tests by their fixtures, and put first what takes longest: SLURM's, which takes turns, then workflows.

    Around all other hooks: pytest-xdist reads the groups in one of its own.
    """
    ranks = {}
    for item in items:
        on_slurm, starts = "cluster" in item.fixturenames, FIXTURE in item.fixturenames
        if starts:
            item.add_marker(MARK)
        ranks[item.path] = min(ranks.get(item.path, 2), 0 if on_slurm else 2 - starts)
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            # A module stays on one worker, because of its fixtures.
            item.add_marker(pytest.mark.xdist_group("slurm" if ranks[item.path] == 0 else item.path.stem))
    items.sort(key=lambda item: ranks[item.path])
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    """Watch over fixtures."""
    return (yield from _watched(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Watch over the test itself; what is taken away after it may be of other tests, too."""
    return (yield from _watched(item))


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item):
    """Commands let tiny numbers be zero in their process, which is that of the next test, too."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


def _watched(item):
    if FIXTURE in item.fixturenames:
        return (yield)
    _inside.append(item.nodeid)
    try:
        return (yield)
    finally:
        _inside.pop()


@pytest.fixture(scope="session")
def other_processes() -> None:
    """Permission to start processes; whoever has it is not part of 'make test', which is for every change."""


@pytest.fixture(scope="session")
def run(other_processes) -> Callable[..., subprocess.CompletedProcess]:
    """Function that runs a command in the project's folder and returns how it ended, with what it printed."""

    def run(*command: object, check: bool = False, **options) -> subprocess.CompletedProcess:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": PROJECT}
        return subprocess.run(list(map(str, command)), check=check, **pipes | options)

    return run


@pytest.fixture(scope="session")
def run_python(run) -> Callable[..., subprocess.CompletedProcess]:
    """The same for this Python with some arguments, such as ``-c`` and a program, or ``-m elf`` and a command."""

    def run_python(*arguments: object, **options) -> subprocess.CompletedProcess:
        return run(sys.executable, *arguments, **options)

    return run_python


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
    torch.set_num_threads(threads)

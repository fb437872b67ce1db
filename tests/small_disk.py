"""A file system of its own for a test, as small as it asks for; only root can mount one."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Disk:
    """A mounted file system in memory."""

    folder: Path

    def change(self, *options: str) -> None:
        """Mount it anew with other options, such as ``size=300k`` or ``ro``; files stay."""
        subprocess.run(["mount", "-o", ",".join(("remount", *options)), self.folder], check=True)


def mounted(folder: Path, size: str) -> Iterator[Disk]:
    """Yield a file system in a folder, and take it away; skip the test where that is not permitted."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no program mount")
    if done.returncode:
        pytest.skip("mounting a file system is not permitted here; root can")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)

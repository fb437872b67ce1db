"""What would make every job fail at once, looked for before the first of them starts."""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from elf.artifacts.files import cannot_write
from elf.errors import ElfError
from elf.guards.command_line import Started

PROBE = bytes(4096)


def check_start(how: Started, folders: Iterable[Path]) -> None:
    """Raise an error for whatever would end all jobs.

    Parameters
    ----------
    how : Started
    folders : iterable of Path
        Folders that jobs write to.
    """
    _check_interpreter(how.executor)
    for folder in folders:
        _check_writable(folder)
    if how.executor == "slurm":
        _check_slurm(how.partitions)


def _check_interpreter(executor: str) -> None:
    # Snakemake writes it into scripts without quotes, twice for each job: in its own process, and on the node.
    if executor != "local" and shlex.quote(sys.executable) != sys.executable:
        raise ElfError(
            f"{sys.executable!r}: jobs of a cluster cannot be started by a Python whose path has a space or another "
            "character that shells read; put the environment (.venv) into a folder without one"
        )
    if os.pathsep in sys.executable:
        raise ElfError(f"{sys.executable!r}: this path cannot stand in PATH; put the environment into another folder")


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as stream:
            stream.write(PROBE)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise cannot_write(folder / "...", error) from error


def _check_slurm(partitions: Iterable[str]) -> None:
    if shutil.which("sbatch") is None:
        raise ElfError(
            "there is no 'sbatch' on this machine; start the workflow where SLURM's commands are, or with "
            "--profile profiles/local or --profile workstation"
        )
    try:
        command = ["sinfo", "--all", "--noheader", "--format", "%R"]
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        # A controller that is away may come back before the first job is submitted.
        return
    known = sorted(set(answer.stdout.split()))
    for name in partitions:
        if known and name not in known:
            raise ElfError(
                f"slurm_partition: this cluster has no partition {name!r}, but {', '.join(known)}; set those of your "
                "cluster in the first lines of the profile, such as profiles/slurm/profile.yaml"
            )

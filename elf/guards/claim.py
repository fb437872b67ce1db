"""One Snakemake a scale: whoever starts the workflow claims it first, and clears up after one that was killed.

Snakemake's own lock outlives a killed Snakemake, and knows nothing of the jobs that go on without it: after
``--unlock`` they would be started a second time.
"""

import atexit
import fcntl
import json
import logging
import os
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import psutil

from elf.artifacts.files import cannot_write
from elf.errors import ElfError
from elf.guards import leftovers
from elf.guards.scales_here import CLAIMS

log = logging.getLogger(__name__)

FOLDER = CLAIMS
STARTED_BY = "ELF_STARTED_BY"
"""In this environment variable every job finds which Snakemake started it."""

LOOKING = (
    *("--dry-run", "--dryrun", "--lint", "--list-rules", "--list-target-rules", "--list-changes", "--unlock"),
    *("--list-input-changes", "--list-params-changes", "--list-untracked", "--summary", "--detailed-summary"),
    *("--dag", "--rulegraph", "--filegraph", "--d3dag", "--report", "--archive", "--containerize", "--version"),
    *("--help", "--print-compilation", "--generate-unit-tests", "--cleanup-metadata", "--list-conda-envs"),
)
"""Options of Snakemake with which no job runs."""


def runs_jobs(arguments: list[str]) -> bool:
    """Return whether Snakemake starts jobs with these command line arguments, rather than only looks."""
    for argument in arguments:
        name = argument.partition("=")[0]
        # Like Snakemake's own parser, which takes beginnings of long options and clusters of short ones.
        if len(name) > 4 and any(option.startswith(name) for option in LOOKING):
            return False
        if re.fullmatch("-[npkfFtaSDlvh]+", name) and set(name) & set("nSDlvh"):
            return False
    return True


def this_process() -> str:
    """Return what names this process among all that the machine ever runs: its number and when it started."""
    return f"{os.getpid()}-{psutil.Process().create_time():.2f}"


def claim(scale: str, say: Callable[[str], None], folder: Path = FOLDER) -> None:
    """Claim a scale for this process until it ends; wait for, or end, what a killed Snakemake left running.

    Parameters
    ----------
    scale : str
        Name of the scale; another can be run at the same time.
    say : callable (str) -> None
        Prints a line.
    folder : Path
        Where the claims lie.

    Raises
    ------
    ElfError
        If another process has claimed the scale, or one on another machine did and did not end well.
    """
    path = folder / f"{scale}.claim"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Kept open, and with it the lock, until the process ends.
        stream = open(path, "a+", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise cannot_write(path, error) from error
    taken = _lock(stream)
    former = _read(stream)
    if not taken:
        raise ElfError(
            f"the scale {scale} is being run by {_describe(former)}; wait for it, or end it, and start again"
        )
    if former is not None:
        _clear_up(path, scale, former, say)
    elif not _others_run(folder, path):
        # Snakemake cancels its jobs when it is interrupted, but not when it is interrupted twice.
        leftovers.wait_for_slurm(Path.cwd(), say, insist=False)
    try:
        stream.truncate(0)
        json.dump({"host": socket.gethostname(), "process": this_process(), "since": time.strftime("%F %T")}, stream)
        stream.flush()
    except OSError as error:
        raise cannot_write(path, error) from error
    atexit.register(_release, stream, os.getpid())


def _lock(stream: TextIO) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        log.warning("this file system cannot lock (%s): take care to start the workflow once", error)
    return True


def _read(stream: TextIO) -> dict | None:
    """Return who claimed the scale and did not give it back; None if nobody did."""
    stream.seek(0)
    try:
        return json.loads(stream.read())
    except ValueError:
        # Empty, or from a machine that went down while it was written.
        return None


def _describe(former: dict | None) -> str:
    if former is None:
        return "a process that has just started"
    number = former["process"].partition("-")[0]
    return f"process {number} on {former['host']} since {former['since']}"


def _release(stream: TextIO, owner: int) -> None:
    # Not in a child that was forked from this process.
    if os.getpid() == owner:
        stream.truncate(0)
        stream.close()


def _others_run(folder: Path, own: Path) -> bool:
    return any(path != own and path.stat().st_size for path in folder.glob("*.claim"))


def _clear_up(path: Path, scale: str, former: dict, say: Callable[[str], None]) -> None:
    if former["host"] != socket.gethostname():
        raise ElfError(
            f"the scale {scale} was last run by {_describe(former)} and not ended there; if it is really gone, "
            f"delete {path} and start again"
        )
    say(f"The workflow was last run by {_describe(former)}, which was killed: clearing up after it.")
    leftovers.end_orphans(STARTED_BY, former["process"], say)
    leftovers.wait_for_slurm(Path.cwd(), say, insist=True)
    for lock in Path(".snakemake/locks").glob("*.lock"):
        # Locks list files; those of another scale may be those of a run that goes on.
        if f"results/{scale}/" in lock.read_text(encoding="utf-8", errors="replace"):
            lock.unlink()

"""Jobs that go on although the Snakemake that started them is gone."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from elf.errors import ElfError

SECONDS_BETWEEN_LOOKS = 5.0
PATIENCE_SECONDS = 300.0
"""How long to wait for a controller that does not answer."""

LOGS = Path("logs/slurm")
"""Where the profiles let SLURM write: it is there if SLURM has ever run a job of this folder."""


NAME = re.compile(r"(^|_)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
"""Of the jobs that Snakemake submits: the identifier of its run, after a prefix."""


@dataclass(frozen=True)
class SlurmJob:
    """A job of SLURM: its number, state, why it is in it, and what Snakemake says it is."""

    number: str
    state: str
    reason: str
    what: str


def end_orphans(variable: str, value: str, say: Callable[[str], None]) -> None:
    """End the local processes that have a variable of this value in their environment.

    They need not be waited for: Snakemake does not know them any more and would start them again, and they go on
    from their checkpoints.
    """
    found = [process for process in psutil.process_iter() if _started_by(process, variable, value)]
    if not found:
        return
    say(f"Ending {len(found)} processes that it left behind; their jobs go on from their checkpoints.")
    for process in found:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(found, timeout=30)


def _started_by(process: psutil.Process, variable: str, value: str) -> bool:
    try:
        return process.pid != os.getpid() and process.environ().get(variable) == value
    except (psutil.Error, OSError):
        return False


def wait_for_slurm(folder: Path, say: Callable[[str], None], *, insist: bool) -> None:
    """Wait until SLURM runs no more jobs of a folder; those that have not started are cancelled.

    Jobs that run keep what they have done that way, and Snakemake finds their results.

    Parameters
    ----------
    folder : Path
        Where Snakemake was started.
    say : callable (str) -> None
    insist : bool
        Whether a controller that does not answer is an error, after some patience, where SLURM ran jobs before.

    Raises
    ------
    ElfError
        If nobody can say whether jobs are left.
    """
    if shutil.which("squeue") is None:
        return
    until = time.monotonic() + (PATIENCE_SECONDS if insist and LOGS.is_dir() else 0.0)
    told = ""
    while True:
        jobs = slurm_jobs(folder)
        if jobs is None and time.monotonic() >= until:
            if insist and LOGS.is_dir():
                raise ElfError(
                    "SLURM does not answer (squeue fails), so that nobody can say whether jobs of this folder are "
                    "left; start again when it does"
                )
            return
        if jobs == []:
            return
        waiting = [job.number for job in jobs or [] if job.state == "PENDING"]
        if waiting:
            say(f"Cancelling {len(waiting)} SLURM jobs that have not started: {' '.join(waiting)}")
            subprocess.run(["scancel", "--state=PENDING", *waiting], check=False)
        elif (news := _news(jobs)) != told:
            say(told := news)
        time.sleep(SECONDS_BETWEEN_LOOKS if jobs is None or len(waiting) < len(jobs) else 0.5)


def _news(jobs: list[SlurmJob] | None) -> str:
    if jobs is None:
        return "Waiting for SLURM to answer ..."
    listed = "".join(f"\n    {job.number} {job.state.lower()} {job.what}" for job in jobs)
    numbers = " ".join(job.number for job in jobs)
    return (
        f"Waiting for {len(jobs)} SLURM jobs that it left running; 'scancel {numbers}' ends them, and they go on from "
        f"their checkpoints:{listed}"
    )


def slurm_jobs(folder: Path, states: str | None = None) -> list[SlurmJob] | None:
    """Return the jobs that Snakemake submitted from a folder; None if SLURM does not answer.

    Parameters
    ----------
    folder : Path
    states : str, optional
        Those that count, with commas between them, or ``"all"``; by default those of unfinished jobs.
    """
    command = ["squeue", "--me", "--noheader", "--format", "%A|%T|%j|%r|%Z|%k"]
    if states:
        command += ["--states", states]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    here = os.path.realpath(folder)
    jobs = []
    for line in answer.stdout.splitlines():
        number, state, name, reason, rest = [*line.split("|", 4), "", "", "", ""][:5]
        # Sessions that somebody has opened in this folder have other names.
        if NAME.search(name) and rest.startswith(f"{here}|"):
            jobs.append(SlurmJob(number, state, reason, rest[len(here) + 1 :]))
    return jobs

"""When the scheduler will end this process, so that it can save its state and stop by itself before that.

A job is not warned: SLURM tells Snakemake, not the process that computes, and then kills both.
"""

import logging
import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping

from elf.machine.environment import positive_number

log = logging.getLogger(__name__)

MARGIN_SECONDS = 60.0
"""Left for the last step and for writing; of a short limit, no more than a quarter of it."""

UNLIMITED = ("UNLIMITED", "NOT_SET", "INVALID", "")


class TimeLimit:
    """The end of the time that a job was given.

    Parameters
    ----------
    seconds : float or None
        Left from now on; None if there is no limit.

    Attributes
    ----------
    ends : float or None
        On the clock of ``time.monotonic``, which no change of the date moves.
    """

    def __init__(self, seconds: float | None) -> None:
        self.ends = None if seconds is None else time.monotonic() + seconds
        self._margin = 0.0 if seconds is None else min(MARGIN_SECONDS, seconds / 4)

    def is_near(self, step_seconds: float) -> bool:
        """Return whether to stop now: another two steps of this length may not fit before the margin."""
        return self.ends is not None and time.monotonic() + 2 * step_seconds + self._margin >= self.ends

    @property
    def seconds_left(self) -> float:
        """Seconds until the end; infinite without one."""
        return float("inf") if self.ends is None else self.ends - time.monotonic()


def time_limit(environ: Mapping[str, str] = os.environ) -> TimeLimit:
    """Return the time limit of this job.

    ``ELF_JOB_MINUTES`` says it for any scheduler, counted from now. Otherwise a SLURM job asks the controller, whose
    answer also holds in groups of jobs and after somebody changed the limit.

    Raises
    ------
    ElfError
        If ``ELF_JOB_MINUTES`` is not a positive number.
    """
    text = environ.get("ELF_JOB_MINUTES")
    if text:
        return TimeLimit(60 * positive_number("ELF_JOB_MINUTES", text, "minutes"))
    job = environ.get("SLURM_JOB_ID")
    return TimeLimit(_slurm_seconds(job) if job else None)


def _slurm_seconds(job: str) -> float | None:
    squeue = shutil.which("squeue")
    if squeue is None:
        log.warning("squeue is not on the PATH: this job does not know its time limit; set ELF_JOB_MINUTES")
        return None
    try:
        answer = subprocess.run(
            [squeue, "--noheader", "--jobs", job, "--format", "%L"],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return seconds_of(answer.stdout.strip())
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        # A controller that is away is no reason to fail: the checkpoints by the clock remain.
        log.warning("squeue does not say the time limit of job %s (%s); going on without", job, error)
        return None


def seconds_of(text: str) -> float | None:
    """Return the seconds of a duration as SLURM prints it, ``[days-][hours:]minutes:seconds``; None for no limit.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if text in UNLIMITED:
        return None
    parts = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text)
    if parts is None:
        raise ValueError(f"{text!r} is no duration")
    days, hours, minutes, seconds = (int(part or 0) for part in parts.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)

"""Jobs of a kind that all fail as soon as they start: the run ends with one line, before each uses up its retries.

A missing interpreter, a full quota, a folder that cannot be written to or a partition that refuses jobs is not cured by
another attempt with more memory and more time.
"""

import logging
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

FAILURES = 3
"""So many in a row, none of which has succeeded before, end the run."""
AT_ONCE = 120.0
"""Seconds; on a node, two Snakemakes start before a job, and that loads its libraries over the network."""
PASSING = re.compile(
    r"Signals\.SIG|exit (?:status|code):? (?:130|137|143)\b|oom.kill|\b(?:Killed|Terminated|CANCELLED|interrupted)\b|"
    r"DUE TO|before the job's time limit"
)
"""What logs say of a job that was killed or has stopped before it was: another attempt may do better."""
ERROR = re.compile(
    r"\b(?:\w*error|fatal|fault|not found|denied|no such|quota|no space|cannot|illegal)\b", re.IGNORECASE
)
OF_EVERY_FAILURE = re.compile(
    r"Error in (?:rule|group)|WorkflowError|RuleException|At least one job|Exiting because|log: |python -m elf|--|"
    r"srun: error: .*Exited with exit code"
)
"""How lines begin that stand in a log whatever the reason, the command itself among them."""


class FailingAtOnce(logging.Handler):
    """Counts failures at once; attach it to Snakemake's logger.

    Parameters
    ----------
    end : callable (str) -> None
        Ends the run; told why, in one line.
    ran : callable (str) -> float or None
        Says how many seconds a job of SLURM has run, by its number.
    """

    def __init__(self, end: Callable[[str], None], ran: Callable[[str], float | None]) -> None:
        super().__init__(logging.INFO)
        self._end, self._ran = end, ran
        self._started: dict[int, float] = {}
        self._kinds: dict[int, str] = {}
        self._failures: dict[str, int] = {}
        self._said = ""
        self._ended = False
        self._longest = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Note what Snakemake says of a job: that it starts, has failed or has finished."""
        event = getattr(getattr(record, "event", None), "name", None)
        if event == "JOB_INFO":
            self._started[record.jobid], self._kinds[record.jobid] = time.monotonic(), record.rule_name
            self._said = ""
        elif event == "JOB_FINISHED":
            # A kind of which one succeeds fails for no common reason.
            self._failures[self._kinds.get(record.job_id, "")] = -(10**9)
        elif event == "GROUP_ERROR":
            members = record.job_error_info
            self._failed(members[0]["jobid"], members[0]["rule_name"], "", [*members[0]["log"], *record.aux_logs])
        # Members of a group are told one by one after it.
        elif event == "JOB_ERROR" and not record.indent:
            self._failed(record.jobid, record.rule_name, str(record.rule_msg or ""), record.log)
        elif record.levelno >= logging.ERROR:
            self._said += record.getMessage()

    def _failed(self, job: int, kind: str, message: str, logs: list[str]) -> None:
        # The job's own log says more than that of SLURM, and that more than Snakemake.
        texts = [*(_text(Path(_bare(log))) for log in logs), message, self._said]
        self._said = ""
        reason = next(filter(None, map(_last_error, texts)), None)
        seconds = self._seconds(job, logs)
        # A process that was killed leaves no word.
        if reason is None or PASSING.search("\n".join(texts)) or seconds is None or seconds > AT_ONCE:
            return
        self._longest = max(self._longest, seconds)
        self._failures[kind] = self._failures.get(kind, 0) + 1
        if self._failures[kind] >= FAILURES and not self._ended:
            self._ended = True
            self._end(
                f"{FAILURES} attempts at {kind} failed, each within {self._longest:.0f} s, and none has succeeded: "
                f"stopping, because more would fail alike. The last: {reason}"
            )

    def _seconds(self, job: int, logs: list[str]) -> float | None:
        number = next((found[1] for log in logs if (found := re.search(r"/(\d+)\.log$", log))), None)
        if number is not None:
            return self._ran(number)
        return time.monotonic() - self._started.get(job, time.monotonic())


def seconds_in_slurm(number: str) -> float | None:
    """Return how many seconds a job of SLURM has run; None if SLURM does not say."""
    command = ["squeue", "--noheader", "--states=all", "--jobs", number, "--format", "%M"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    # Days-hours:minutes:seconds, without those that are zero in front.
    found = re.fullmatch(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)", answer.stdout.strip())
    if found is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _bare(log: str) -> str:
    """Return the path that Snakemake shows with a remark behind it."""
    return re.sub(r" \(.*\)$", "", log)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _last_error(text: str) -> str | None:
    lines = [" ".join(line.split()) for line in text.splitlines()]
    errors = [line for line in lines if ERROR.search(line) and not OF_EVERY_FAILURE.match(line)]
    # Of the message of sbatch, the end of a quotation is left.
    return errors[-1].rstrip("'.") if errors else None

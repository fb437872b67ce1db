"""Jobs of SLURM for which Snakemake would wait for ever.

Three states are neither an end nor a beginning to it. A job that a node could not start, because the disk was full for
instance, is held until somebody releases it. A job that was preempted on a partition that does not requeue is over,
but has neither succeeded nor failed. And a job that the controller has forgotten, because it crashed before it had
noted it, is not heard of any more.
"""

import atexit
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from elf.guards.failing_at_once import FailingAtOnce, seconds_in_slurm
from elf.guards.leftovers import slurm_jobs
from elf.machine.environment import positive_number

HELD = "launch failed requeued held"
UNFINISHED = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED", "PREEMPTED")
GIVE_UP = signal.SIGUSR1
"""Not the signal of Ctrl-C: a process that a script has put into the background ignores that one from its start."""

LOOKS = 3
"""How often in a row a job is not heard of until it counts as forgotten."""


class Watch(logging.Handler):
    """Looks after the jobs that Snakemake says it has submitted; attach it to Snakemake's logger.

    Parameters
    ----------
    folder : Path
        Where Snakemake was started.
    say : callable (str) -> None
        Prints a line.
    give_up : callable () -> None
        Ends Snakemake, so that it can be started again.
    """

    def __init__(self, folder: Path, say: Callable[[str], None], give_up: Callable[[], None]) -> None:
        super().__init__(logging.INFO)
        self._folder, self._say, self._give_up = folder, say, give_up
        self._waited_for: set[str] = set()
        self._not_heard_of: dict[str, int] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Note a job when Snakemake's executor says that it was submitted."""
        if submitted := re.search(r"has been submitted with SLURM jobid (\d+)", record.getMessage()):
            self._waited_for.add(submitted[1])

    def look(self) -> None:
        """Cancel jobs that are held, put preempted ones back into the queue, give up if one was forgotten."""
        waited_for = set(self._waited_for)
        jobs = slurm_jobs(self._folder, "all") if waited_for else None
        if jobs is None:
            return
        for job in jobs:
            if job.number not in waited_for:
                continue
            if job.state == "PREEMPTED":
                self._say(f"SLURM job {job.number} was preempted and not put back into the queue: doing that.")
                subprocess.run(["scontrol", "requeue", job.number], check=False, timeout=60)
            elif job.state == "PENDING" and job.reason == HELD:
                self._say(f"SLURM could not start job {job.number} and holds it: cancelling it, it is submitted again.")
                subprocess.run(["scancel", job.number], check=False, timeout=60)
            elif job.state not in UNFINISHED:
                self._waited_for.discard(job.number)
        known = {job.number for job in jobs}
        self._not_heard_of = {number: self._not_heard_of.get(number, 0) + 1 for number in waited_for - known}
        forgotten = [number for number, looks in self._not_heard_of.items() if looks >= LOOKS]
        if forgotten:
            numbers = " ".join(sorted(forgotten, key=int))
            self._say(
                f"SLURM has forgotten the jobs {numbers}, for which Snakemake would wait for ever: stopping it. Start "
                "it again, it goes on from what is there."
            )
            # It ends once its executor has woken up; only one that is still there after as many looks is told again.
            self._not_heard_of.clear()
            self._give_up()

    def look_on(self) -> None:
        """Look; a SLURM that is too busy to do what it is told is asked again the next time."""
        try:
            self.look()
        except (OSError, subprocess.SubprocessError) as error:
            self._say(f"SLURM does not do what it is asked for: {error}")


def start_watch(folder: Path, logger: logging.Logger) -> None:
    """Watch as long as this process lives: for jobs that fail at once, and for those of SLURM, where there is one.

    The latter are looked for every minute, or every ``ELF_WATCH_SECONDS``.

    Raises
    ------
    ElfError
        If ``ELF_WATCH_SECONDS`` is not a positive number.
    """
    seconds = positive_number("ELF_WATCH_SECONDS", os.environ.get("ELF_WATCH_SECONDS") or "60", "seconds")
    # As if somebody pressed Ctrl-C: Snakemake cancels its jobs and cleans up.
    signal.signal(GIVE_UP, signal.default_int_handler)

    def give_up() -> None:
        os.kill(os.getpid(), GIVE_UP)

    def end(why: str) -> None:
        logger.error(why)
        # Much is said while Snakemake cleans up.
        atexit.register(print, why, file=sys.stderr)
        give_up()

    logger.addHandler(FailingAtOnce(end, seconds_in_slurm))
    if shutil.which("squeue") is None:
        return
    watch = Watch(folder, logger.info, give_up)
    logger.addHandler(watch)

    def go_on_looking() -> None:
        while True:
            time.sleep(seconds)
            watch.look_on()

    threading.Thread(target=go_on_looking, daemon=True, name="SLURM watch").start()

"""A scale is run by one Snakemake at a time, and the next clears up after one that was killed."""

import json
import logging
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from conftest import PROJECT

from elf.errors import ElfError
from elf.guards import leftovers, slurm_watch
from elf.guards.claim import FOLDER, STARTED_BY, claim, runs_jobs

CLAIM = """
import sys
from elf.guards.claim import claim
claim("smoke", print)
print("claimed", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch) -> Path:
    """An empty folder in which Snakemake was started, on a machine without SLURM."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(leftovers.shutil, "which", lambda program: None)
    return tmp_path


@pytest.fixture
def start(other_processes, tmp_path):
    """Function that starts a process which claims the scale and keeps it until its input ends."""
    started = []

    def start(program: str = CLAIM, **changes: str) -> subprocess.Popen:
        environment = {**os.environ, "PYTHONPATH": str(PROJECT), "PATH": str(tmp_path / "nothing"), **changes}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        process = subprocess.Popen([sys.executable, "-c", program], env=environment, text=True, **pipes)
        started.append(process)
        assert process.stdout.readline() == "claimed\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_second_start_is_told_who_runs_the_scale(start):
    first = start()
    with pytest.raises(
        ElfError, match=rf"the scale smoke is being run by process {first.pid} on {socket.gethostname()}"
    ):
        claim("smoke", print)
    claim("laptop", print)


def test_after_a_run_that_ended_nothing_is_cleared_up(start):
    process = start()
    process.communicate("")
    assert process.returncode == 0
    lines = []
    claim("smoke", lines.append)
    assert lines == []


def test_locks_of_a_killed_run_are_removed_and_no_others(start, project):
    locks = project / ".snakemake/locks"
    locks.mkdir(parents=True)
    (locks / "0.input.lock").write_text("results/smoke/a\nresults/smoke/b\n")
    (locks / "0.output.lock").write_text("results/smoke/c\n")
    (locks / "1.output.lock").write_text("results/laptop/c\n")
    start().kill()
    lines = []
    _claim_once_free(lines)
    assert [path.name for path in locks.iterdir()] == ["1.output.lock"]
    assert "which was killed" in lines[0]


def test_a_run_that_was_killed_on_another_machine_is_left_to_the_user(start, project):
    start().kill()
    path = project / FOLDER / "smoke.claim"
    content = json.loads(path.read_text()) | {"host": "elsewhere"}
    path.write_text(json.dumps(content))
    with pytest.raises(ElfError, match=rf"on elsewhere since .*delete {FOLDER}/smoke.claim and start again"):
        _claim_once_free([])


def test_a_claim_that_was_cut_short_claims_nothing(project):
    (project / FOLDER).mkdir(parents=True)
    (project / FOLDER / "smoke.claim").write_text('{"host": "els')
    claim("smoke", print)


def test_a_folder_that_cannot_be_written_to_is_one_line(project):
    (project / ".snakemake").write_text("a file where a folder should be")
    with pytest.raises(ElfError, match=r"smoke.claim: cannot be written: "):
        claim("smoke", print)


def test_jobs_that_a_killed_run_left_are_ended_and_no_others(start, project):
    killed = start()
    process = json.loads((project / FOLDER / "smoke.claim").read_text())["process"]
    sleep = "import time; print('claimed', flush=True); time.sleep(600)"
    orphan, other = start(sleep, **{STARTED_BY: process}), start(sleep, **{STARTED_BY: f"{process}0"})
    killed.kill()
    lines = []
    _claim_once_free(lines)
    # It has been waited for: nothing of it is left, although it is a child of this process.
    assert not psutil.pid_exists(orphan.pid)
    assert other.poll() is None
    assert lines[1].startswith("Ending 1 processes")


def _claim_once_free(lines: list[str]) -> None:
    # A killed process holds its lock until the system has taken it apart.
    for _ in range(50):
        try:
            return claim("smoke", lines.append)
        except ElfError as error:
            if "is being run by" not in str(error):
                raise
            time.sleep(0.1)
    raise AssertionError("the lock outlives its process")


@pytest.mark.parametrize(
    "line",
    ["-n", "-np", "table05 --dry-run --quiet", "--dry", "--unlock", "--lint", "--summary", "-S", "--report=r.html",
     "--list-changes code", "--dag table05", "--profile slurm -n all_tables"],
)  # fmt: skip
def test_looking_claims_nothing(line):
    assert not runs_jobs(line.split())


@pytest.mark.parametrize(
    "line",
    ["", "--profile slurm all_tables", "-k -p table05", "--cores 4", "-j8", "--notemp", "--report-after-run",
     "--config scale=smoke", "--executor slurm", "-call", "--touch", "results/smoke/tables/table05.md"],
)  # fmt: skip
def test_everything_else_claims_the_scale(line):
    assert runs_jobs(line.split())


class Slurm:
    """What squeue answers, one list of lines after the other, and the other commands."""

    def __init__(self, *answers) -> None:
        self.answers, self.commands = list(answers), []

    def run(self, command, **_):
        if command[0] != "squeue":
            self.commands.append(command)
            return subprocess.CompletedProcess(command, 0)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return subprocess.CompletedProcess(command, 0, "".join(f"{line}\n" for line in answer))


@pytest.fixture
def slurm(monkeypatch, project):
    """Function that gives the machine a SLURM that answers with these lists of lines."""

    def install(*answers) -> Slurm:
        slurm = Slurm(*answers)
        monkeypatch.setattr(leftovers.shutil, "which", lambda program: f"/usr/bin/{program}")
        monkeypatch.setattr(leftovers.subprocess, "run", slurm.run)
        monkeypatch.setattr(leftovers.time, "sleep", lambda seconds: None)
        return slurm

    return install


RUN = "elf_12345678-abcd-1234-abcd-123456789012"


def test_running_jobs_of_this_folder_are_waited_for_and_those_that_wait_are_cancelled(slurm, project):
    here = os.path.realpath(project)
    running = f"7|RUNNING|{RUN}|None|{here}|rule_distill_wildcards_a"
    # Of another folder, of one whose name only begins in the same way, and a session that somebody opened.
    elsewhere = [f"9|RUNNING|{RUN}|None|/data/other|folder|x", f"6|RUNNING|{RUN}|None|{here}2|x"]
    others = [*elsewhere, f"5|RUNNING|bash|None|{here}|", "4"]
    fake = slurm(
        [running, f"8|PENDING|{RUN}|Priority|{here}|rule_distill", *others],
        [running, *others],
        [running.replace("RUNNING", "COMPLETING")],
        others,
    )
    lines = []
    leftovers.wait_for_slurm(project, lines.append, insist=False)
    assert fake.commands == [["scancel", "--state=PENDING", "8"]]
    assert fake.answers == []
    assert "'scancel 7' ends them" in lines[1]
    assert "7 running rule_distill_wildcards_a" in lines[1]


AWAY = subprocess.CalledProcessError(1, "squeue")


def test_a_controller_that_is_away_is_waited_for_after_a_kill(slurm, project):
    (project / leftovers.LOGS).mkdir(parents=True)
    fake = slurm(AWAY, AWAY, [])
    lines = []
    leftovers.wait_for_slurm(project, lines.append, insist=True)
    assert (fake.answers, lines) == ([], ["Waiting for SLURM to answer ..."])


def test_a_controller_that_stays_away_is_an_error_after_a_kill(slurm, project, monkeypatch):
    (project / leftovers.LOGS).mkdir(parents=True)
    monkeypatch.setattr(leftovers, "PATIENCE_SECONDS", 0)
    slurm(AWAY)
    with pytest.raises(ElfError, match="SLURM does not answer"):
        leftovers.wait_for_slurm(project, print, insist=True)


def test_a_squeue_without_a_cluster_does_not_hold_up_others(slurm, project):
    slurm(AWAY)
    leftovers.wait_for_slurm(project, print, insist=True)
    (project / leftovers.LOGS).mkdir(parents=True)
    slurm(AWAY)
    leftovers.wait_for_slurm(project, print, insist=False)


def test_this_process_is_not_one_of_its_own_leftovers(monkeypatch):
    monkeypatch.setenv(STARTED_BY, "me")
    leftovers.end_orphans(STARTED_BY, "me", print)
    assert psutil.Process().is_running()


@pytest.fixture
def watch(project):
    """A watch over jobs 1 to 4, and what it said and did."""
    said = []
    watch = slurm_watch.Watch(project, said.append, lambda: said.append("gave up"))
    logger = logging.Logger("a workflow", logging.INFO)
    logger.addHandler(watch)
    for number in range(1, 5):
        logger.info("Job %s has been submitted with SLURM jobid %s (log: x).", 7 * number, number)
    logger.info("Finished jobid: 7 (Rule: distill)")
    return watch, said


def test_jobs_that_would_never_end_are_brought_back_and_those_of_others_left(slurm, project, watch):
    here = os.path.realpath(project)
    fake = slurm(
        [
            f"1|PENDING|{RUN}|launch failed requeued held|{here}|x",
            f"2|PENDING|{RUN}|Resources|{here}|x",
            f"3|PREEMPTED|{RUN}|None|{here}|x",
            f"4|COMPLETED|{RUN}|None|{here}|x",
            # Of a run before this one.
            f"9|PREEMPTED|{RUN}|None|{here}|x",
        ]
    )
    watch[0].look()
    assert fake.commands == [["scancel", "1"], ["scontrol", "requeue", "3"]]
    assert len(watch[1]) == 2


def test_a_job_that_slurm_has_forgotten_ends_the_run_with_a_line(slurm, project, watch):
    here = os.path.realpath(project)
    known = [f"{number}|RUNNING|{RUN}|None|{here}|x" for number in (1, 2)]
    ended = f"4|COMPLETED|{RUN}|None|{here}|x"
    # Job 3 is never heard of; 4 was, until SLURM had kept it long enough. A controller that is away says nothing.
    slurm([*known, ended], [*known, ended], AWAY, known)
    for _ in range(3):
        watch[0].look()
    assert watch[1] == []
    watch[0].look()
    assert watch[1][0].startswith("SLURM has forgotten the jobs 3,")
    assert watch[1][1:] == ["gave up"]


def test_a_job_that_is_heard_of_again_is_not_forgotten(slurm, project, watch):
    here = os.path.realpath(project)
    all_of_them = [f"{number}|RUNNING|{RUN}|None|{here}|x" for number in range(1, 5)]
    slurm([], [], all_of_them, [], [])
    for _ in range(5):
        watch[0].look()
    assert watch[1] == []


def test_a_run_that_was_given_up_has_time_to_end_before_it_is_told_again(slurm, watch):
    slurm(*[[]] * (2 * slurm_watch.LOOKS))
    for _ in range(2 * slurm_watch.LOOKS - 1):
        watch[0].look()
    assert watch[1].count("gave up") == 1
    watch[0].look()
    assert watch[1].count("gave up") == 2


def test_a_slurm_that_is_too_busy_does_not_end_the_watch(slurm, project, watch, monkeypatch):
    fake = slurm([f"3|PREEMPTED|{RUN}|None|{os.path.realpath(project)}|x"], *[[]] * slurm_watch.LOOKS)
    answer = fake.run

    def run(command, **options):
        if command[0] == "scontrol":
            raise subprocess.TimeoutExpired(command, 60)
        return answer(command, **options)

    monkeypatch.setattr(leftovers.subprocess, "run", run)
    for _ in range(1 + slurm_watch.LOOKS):
        watch[0].look_on()
    assert "does not do what it is asked for" in watch[1][1]
    assert watch[1][-1] == "gave up"


WATCHED = """
import logging, sys, threading
from pathlib import Path
from elf.guards.slurm_watch import start_watch
logger = logging.Logger("a workflow", logging.INFO)
logger.addHandler(logging.StreamHandler(sys.stdout))
start_watch(Path.cwd(), logger)
logger.info("Job 1 has been submitted with SLURM jobid 1 (log: x).")
try:
    # As Snakemake waits for the end of a job.
    threading.Semaphore(0).acquire()
except KeyboardInterrupt:
    print("cleared up")
"""


@pytest.mark.parametrize("place", ["foreground", "background of a script"])
def test_a_run_is_given_up_wherever_it_was_started(run, project, place):
    """A shell without job control, as for each line of a script with ``&``, lets its background ignore Ctrl-C."""
    squeue = project / "bin" / "squeue"
    squeue.parent.mkdir()
    squeue.write_text("#!/bin/sh\n")
    squeue.chmod(0o755)
    changes = {"PYTHONPATH": str(PROJECT), "PATH": f"{squeue.parent}:{os.environ['PATH']}", "ELF_WATCH_SECONDS": "0.1"}
    script = "trap '' INT; " if place != "foreground" else ""
    ended = run(
        *("sh", "-c", f'{script}exec "$@"', "sh", sys.executable, "-c", WATCHED),
        **{"cwd": project, "env": os.environ | changes, "timeout": 100},
    )
    assert ended.stdout.splitlines()[-1] == "cleared up", ended.stdout + ended.stderr
    assert "SLURM has forgotten the jobs 1" in ended.stdout

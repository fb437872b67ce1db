"""A run whose jobs all fail within seconds ends after the first few, with one line."""

import logging
from types import SimpleNamespace

import pytest

from elf.guards import failing_at_once
from elf.guards.failing_at_once import FAILURES, FailingAtOnce, seconds_in_slurm


class Run:
    """A logger that says what Snakemake says of jobs, and the reasons for which the run was ended."""

    def __init__(self, ran: float | None = 3.0) -> None:
        self.reasons = []
        self._logger = logging.Logger("a workflow", logging.INFO)
        self._logger.addHandler(FailingAtOnce(self.reasons.append, lambda number: ran))
        self._number = 0

    def _say(self, level: int, event: str, **fields) -> None:
        self._logger.log(level, None, extra={"event": SimpleNamespace(name=event), **fields})

    def start(self, kind: str) -> int:
        self._number += 1
        self._say(logging.INFO, "JOB_INFO", jobid=self._number, rule_name=kind)
        return self._number

    def fail(self, kind: str, *logs, message: str | None = None, said: str = "") -> None:
        job = self.start(kind)
        if said:
            self._logger.error(said)
        fields = {"jobid": job, "rule_name": kind, "rule_msg": message, "log": [*map(str, logs)]}
        self._say(logging.ERROR, "JOB_ERROR", indent=False, **fields)

    def fail_group(self, kind: str, log, slurm_log) -> None:
        members = [{"jobid": self.start(kind), "rule_name": kind, "log": [str(log)]} for _ in range(8)]
        self._say(logging.ERROR, "GROUP_ERROR", job_error_info=members, aux_logs=[str(slurm_log)])
        for member in members:
            self._say(logging.ERROR, "JOB_ERROR", indent=True, rule_msg=None, **member)

    def finish(self, kind: str) -> None:
        self._say(logging.INFO, "JOB_FINISHED", job_id=self.start(kind))


@pytest.fixture
def log(tmp_path):
    file = tmp_path / "evaluate.log"
    file.write_text("loading\nelf evaluate: error: x.part: cannot be written: no space is left for x\n[Sat] Exiting\n")
    return file


def test_the_run_ends_once_with_the_reason_of_the_last_failure(log):
    run = Run()
    for _ in range(FAILURES - 1):
        run.fail("evaluate", f"{log} (check log file(s) for error details)")
    assert run.reasons == []
    for _ in range(3):
        run.fail("evaluate", log)
    (reason,) = run.reasons
    assert reason.startswith(f"{FAILURES} attempts at evaluate failed, each within 0 s, and none has succeeded: ")
    assert reason.endswith("elf evaluate: error: x.part: cannot be written: no space is left for x")
    assert "\n" not in reason


def test_kinds_are_counted_apart(log):
    run = Run()
    for kind in ("distill", "evaluate", "train_teacher") * (FAILURES - 1):
        run.fail(kind, log)
    assert run.reasons == []


def test_a_kind_that_has_succeeded_goes_on(log):
    run = Run()
    run.fail("evaluate", log)
    run.finish("evaluate")
    for _ in range(3 * FAILURES):
        run.fail("evaluate", log)
    assert run.reasons == []
    for _ in range(FAILURES):
        run.fail("distill", log)
    assert len(run.reasons) == 1


def test_a_group_counts_once(log, tmp_path):
    run = Run()
    slurm_log = tmp_path / "17.log"
    slurm_log.write_text("srun: error\n")
    for _ in range(FAILURES - 1):
        run.fail_group("evaluate", log, slurm_log)
    assert run.reasons == []
    run.fail_group("evaluate", log, slurm_log)
    assert "no space is left" in run.reasons[0]


@pytest.mark.parametrize("ran", [failing_at_once.AT_ONCE + 1, None])
def test_a_job_that_ran_for_a_while_or_nobody_knows_how_long_did_not_fail_at_once(ran, tmp_path):
    run = Run(ran)
    slurm_log = tmp_path / "17.log"
    slurm_log.write_text("slurm_script: 2: /gone/python: not found\n")
    for _ in range(3 * FAILURES):
        run.fail("evaluate", tmp_path / "absent.log", slurm_log)
    assert run.reasons == []


def test_the_log_of_slurm_tells_what_no_other_does(tmp_path):
    run = Run()
    slurm_log = tmp_path / "17.log"
    slurm_log.write_text("slurm_script: 2: /gone/python: not found\n")
    for _ in range(FAILURES):
        run.fail("evaluate", tmp_path / "absent.log", slurm_log)
    assert run.reasons[0].endswith("slurm_script: 2: /gone/python: not found")


def test_a_submission_that_is_refused_counts(tmp_path):
    run = Run()
    message = (
        "SLURM sbatch failed. The error message was 'sbatch: error: invalid account'.\n    sbatch call:\n  sbatch -x"
    )
    for _ in range(FAILURES):
        run.fail("distill", tmp_path / "absent.log", message=message)
    assert "sbatch: error: invalid account" in run.reasons[0]


@pytest.mark.parametrize(
    "said",
    [
        "Command '...' died with <Signals.SIGKILL: 9>.",
        "Command '...' returned non-zero exit status 137.",
        "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=7.0.",
        "elf distill: error: stopped 30 s before the job's time limit, with everything saved in x",
        "slurmstepd: error: *** STEP 7.0 ON n1 CANCELLED AT 2026-01-01T00:00:00 DUE TO TIME LIMIT ***",
    ],
)
def test_what_was_killed_may_do_better_next_time(said, log):
    run = Run()
    for _ in range(3 * FAILURES):
        run.fail("distill", log, said=said)
    assert run.reasons == []
    # What was said of one job is not said of the next.
    for _ in range(FAILURES):
        run.fail("distill", log)
    assert len(run.reasons) == 1


OF_A_KILLED_JOB = """\
Error in rule distill:
    message: None
    log: logs/tiny/distill/dsa.log (check log file(s) for error details)
    shell:
        python -m elf distill --settings '{"default":"error"}' \\
            --images results/error/images.safetensors >logs/tiny/distill/dsa.log 2>&1
        (command exited with non-zero exit code)
Exiting because a job execution failed. Look above for error messages
WorkflowError:
At least one job did not complete successfully.
srun: error: n1: task 0: Exited with exit code 1
"""
"""As SLURM's log has it, with shorter paths."""


def test_a_process_that_leaves_no_word_was_killed(log, tmp_path):
    log.write_text("loading\nepoch 3 of 10, by default\n")
    slurm_log = tmp_path / "17.log"
    slurm_log.write_text(OF_A_KILLED_JOB)
    run = Run()
    for _ in range(3 * FAILURES):
        run.fail("distill", log, slurm_log, said="Error in rule distill, jobid: 3")
    assert run.reasons == []


@pytest.mark.parametrize(
    ("printed", "seconds"),
    [("0:07", 7), ("12:34", 754), ("1:00:01", 3601), ("2-03:00:00", 183600), ("", None), ("INVALID", None)],
)
def test_slurm_says_how_long_a_job_ran(printed, seconds, tmp_path, monkeypatch, other_processes):
    squeue = tmp_path / "squeue"
    squeue.write_text(f"#!/bin/sh\necho '{printed}'\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert seconds_in_slurm("7") == seconds
    squeue.write_text("#!/bin/sh\nexit 1\n")
    assert seconds_in_slurm("7") is None

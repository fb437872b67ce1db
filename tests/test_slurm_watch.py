"""What would let Snakemake wait for ever, done on a real SLURM: it goes on, or stops with a line."""

import shutil
import signal

from slurm_cluster import STATE, output, wait_until
from slurm_copy import PROFILE, assert_same_results, longest_overlap

pytest_plugins = ("workflow_copy", "slurm_copy")

SOON = {"ELF_WATCH_SECONDS": "2"}


def test_job_that_could_not_be_started_is_submitted_again(slurm, undisturbed, cluster):
    """The disks of all nodes are gone for a while."""
    spools = [STATE / f"spool-{name}" for name in cluster.names]
    for spool in spools:
        spool.rename(spool.with_suffix(".aside"))
        spool.touch()
    run = slurm.submit(slurm.image("dm"), pause=0, **SOON)
    wait_until(lambda: "holds it: cancelling it" in slurm.printed(), "it is noticed that the job is held", 90)
    for spool in spools:
        spool.unlink()
        spool.with_suffix(".aside").rename(spool)
    for name in cluster.names:
        output("scontrol", "update", f"NodeName={name}", "State=RESUME")
    slurm.finish(run)
    assert_same_results(slurm, undisturbed, slurm.image("dm"))


def test_preempted_job_that_is_not_requeued_is_put_back(slurm, undisturbed, cluster):
    slurm.edit(PROFILE, "slurm_partition: gpu\n", "slurm_partition: low\n")
    output("scontrol", "update", "PartitionName=low", "PreemptMode=CANCEL")
    try:
        run = slurm.submit(slurm.image("dm"), **SOON)
        slurm.wait_for_update(10, "dm")
        nodes = (f"--nodes={cluster.nodes}", "--exclusive", "--partition=gpu")
        output("sbatch", *nodes, "--wrap=sleep 3", "--output=/dev/null")
        assert "was preempted and not put back into the queue" in slurm.finish(run)
    finally:
        output("scontrol", "update", "PartitionName=low", "PreemptMode=REQUEUE")
    assert_same_results(slurm, undisturbed, slurm.image("dm"))
    assert longest_overlap(slurm.journal("dm")) == 1


def test_controller_that_has_forgotten_its_jobs(slurm, undisturbed, cluster):
    run = slurm.submit(slurm.image("dm"), **SOON)
    slurm.wait_for_update(10, "dm")
    cluster.stop_controller()
    shutil.rmtree(STATE / "controller")
    (STATE / "controller").mkdir()
    cluster.start_controller()
    assert run.wait(120) not in (0, -signal.SIGKILL)
    assert "SLURM has forgotten the jobs" in slurm.printed()
    slurm.finish(slurm.submit(slurm.image("dm"), **SOON))
    assert_same_results(slurm, undisturbed, slurm.image("dm"))

"""What clusters do to jobs, done on a real SLURM: the results are those of an undisturbed run, bit for bit."""

import os
import signal

import psutil
from slurm_cluster import output, wait_until
from slurm_copy import PROFILE, SETS, UPDATES, assert_same_results, longest_overlap, lost_seconds, repeated

pytest_plugins = ("workflow_copy", "slurm_copy")

STEP_AND_START = 1.5
"""Seconds: an update with its pause, and what may pass until it is noticed that the next checkpoint is due."""


def test_killed_cancelled_and_out_of_memory(slurm, undisturbed, cluster):
    """Three jobs at once: one loses its process, one is cancelled by hand, one needs more memory than it asked for."""
    memory = "mem_mb: (450 if 'frepo' in wildcards.synthetic_set else 1500) * attempt ** 2"
    slurm.edit(PROFILE, "distill: {gpu: 1, ", f"distill: {{gpu: 1, {memory}, ")
    run = slurm.submit(*map(slurm.image, SETS))
    slurm.wait_for_update(10, "dm", "dsa")
    os.kill(slurm.journal("dm")[-1].process, signal.SIGKILL)
    output("scancel", slurm.job_of("dsa")["JobId"])
    slurm.finish(run)
    assert_same_results(slurm, undisturbed, *map(slurm.image, SETS))
    for method in ("dm", "dsa"):
        updates = slurm.journal(method)
        assert len({update.process for update in updates}) == 2
        assert longest_overlap(updates) == 1
        assert max(lost_seconds(updates)) < 1 + STEP_AND_START
    ended = [job for job in cluster.jobs() if "frepo" in job["Comment"]]
    assert [job["JobState"] == "COMPLETED" for job in ended] == [False, True], ended
    assert [job["MinMemoryNode"] for job in ended] == ["450M", "1800M"]


def test_preempted_and_requeued(slurm, undisturbed, cluster):
    """Jobs of a higher tier take all nodes away; when they are gone, the same SLURM job goes on."""
    slurm.edit(PROFILE, "slurm_partition: gpu\n", "slurm_partition: low\n")
    run = slurm.submit(slurm.image("dm"))
    slurm.wait_for_update(10, "dm")
    job = slurm.job_of("dm")["JobId"]
    output(
        "sbatch", "--partition=gpu", f"--nodes={cluster.nodes}", "--exclusive", "--wrap=sleep 3", "--output=/dev/null"
    )
    slurm.finish(run)
    assert_same_results(slurm, undisturbed, slurm.image("dm"))
    ended = next(entry for entry in cluster.jobs() if entry["JobId"] == job)
    assert (ended["JobState"], ended["Restarts"]) == ("COMPLETED", "1")
    assert longest_overlap(slurm.journal("dm")) == 1
    assert repeated(slurm.journal("dm")) < UPDATES / 2


def test_node_crashes_under_a_job(slurm, undisturbed, cluster):
    run = slurm.submit(slurm.image("dm"))
    slurm.wait_for_update(10, "dm")
    node = slurm.journal("dm")[-1].node
    cluster.crash_node(node)
    slurm.finish(run)
    assert_same_results(slurm, undisturbed, slurm.image("dm"))
    nodes = [update.node for update in slurm.journal("dm")]
    assert nodes[0] == node != nodes[-1]
    assert max(lost_seconds(slurm.journal("dm"))) < 1 + STEP_AND_START


def test_node_cut_off_from_the_network_leaves_two_writers(slurm, undisturbed, cluster):
    """The job is started on another node while its first process goes on, and both write."""
    last = undisturbed.journal("dm")[-1].number
    run = slurm.submit(slurm.image("dm"), pause=0.6)
    slurm.wait_for_update(10, "dm")
    first = slurm.journal("dm")[-1]
    cluster.cut_node(first.node)
    cluster.notice_lost(first.node)
    slurm.finish(run)
    assert_same_results(slurm, undisturbed, slurm.image("dm"))
    updates = slurm.journal("dm")
    assert longest_overlap(updates) == 2
    wait_until(lambda: not psutil.pid_exists(first.process) or _is_zombie(first.process), "the first process ends", 90)
    assert [u.number for u in slurm.journal("dm") if u.process == first.process][-1] == last
    assert_same_results(slurm, undisturbed, slurm.image("dm"))
    # The file that arrived later did not take the place of the first: nothing looks stale.
    assert slurm.run(slurm.image("dm"), "--dry-run").jobs == set()


def _is_zombie(process: int) -> bool:
    return psutil.Process(process).status() == psutil.STATUS_ZOMBIE


def test_controller_is_away_for_a_while(slurm, undisturbed, cluster):
    run = slurm.submit(slurm.image("dm"))
    slurm.wait_for_update(10, "dm")
    cluster.stop_controller()
    slurm.wait_for_update(40, "dm")
    cluster.start_controller()
    slurm.finish(run)
    assert_same_results(slurm, undisturbed, slurm.image("dm"))
    assert repeated(slurm.journal("dm")) == 0


def test_snakemake_killed_and_started_again_while_jobs_run(slurm, undisturbed, cluster):
    """Twice: nothing runs twice at once, nothing that was done is done again."""
    before = len(cluster.jobs())
    run = slurm.submit(*map(slurm.image, SETS))
    slurm.wait_for_update(5, "dm")
    run.kill()
    run.wait()
    run = slurm.submit(*map(slurm.image, SETS))
    wait_until(lambda: "clearing up" in slurm.printed(), "the second start clears up", 30)
    run.kill()
    run.wait()
    printed = slurm.finish(slurm.submit(*map(slurm.image, SETS)))
    assert "SLURM jobs that it left running" in printed
    assert "LockException" not in printed
    assert_same_results(slurm, undisturbed, *map(slurm.image, SETS))
    for method in SETS:
        assert longest_overlap(slurm.journal(method)) == 1
        assert repeated(slurm.journal(method)) == 0
    assert len(cluster.jobs()) - before <= 2 * len(SETS)


def test_job_stops_before_its_time_limit_and_one_that_does_not_is_killed(slurm, undisturbed, tmp_path_factory):
    """Both end with the results of an undisturbed run; the first loses nothing."""
    other = type(slurm)(slurm.duplicate(tmp_path_factory.mktemp("killed")).folder)
    limit = "distill: {gpu: 1, runtime: 480 * attempt}"
    for copy in (slurm, other):
        copy.edit(PROFILE, limit, "distill: {gpu: 1, runtime: attempt ** 2}")
    runs = [
        slurm.submit(slurm.image("dm"), pause=1.6),
        other.submit(other.image("dm"), pause=1.6, ELF_JOB_MINUTES="99"),
    ]
    slurm.finish(runs[0])
    other.finish(runs[1])
    for copy in (slurm, other):
        assert_same_results(copy, undisturbed, copy.image("dm"))
        assert len({update.process for update in copy.journal("dm")}) == 2
    assert repeated(slurm.journal("dm")) == 0
    assert max(lost_seconds(other.journal("dm"))) < 1 + 1.6 + STEP_AND_START

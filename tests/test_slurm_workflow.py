"""The workflow on a real SLURM with the profile as it is shipped: the same numbers as on one machine, seed by seed."""

import sys

import pyarrow.parquet
from conftest import PROJECT
from slurm_copy import SlurmCopy, assert_same_results
from workflow_copy import MEASURED, WorkflowCopy, make_copy

pytest_plugins = ("workflow_copy", "slurm_copy")

QUICK = (sys.executable, str(PROJECT / "tests" / "quick_polling.py"))


def rows(copy: WorkflowCopy, path: str) -> list[dict]:
    """Return the rows of a results file without what differs between runs."""
    table = pyarrow.parquet.read_table(copy.folder / path).to_pylist()
    return [{name: value for name, value in row.items() if name not in MEASURED} for row in table]


def test_smoke_scale_on_several_nodes_with_gpus_equals_a_local_run(cluster, tmp_path):
    local, remote = (make_copy(tmp_path / place) for place in ("local", "remote"))
    for command, copy in (
        (local.command("figure4", scale="smoke"), local),
        ([*QUICK, "--profile", "slurm", "figure4", "--config", "scale=smoke"], remote),
    ):
        ended = copy.call(command)
        assert ended.status == 0, ended.output
    path = "results/smoke/collected/figure4.parquet"
    assert rows(remote, path) == rows(local, path)
    assert len(rows(remote, path)) >= 5 * 8
    assert (remote.folder / "results/smoke/figures/figure4.csv").read_bytes() == (
        local.folder / "results/smoke/figures/figure4.csv"
    ).read_bytes()

    jobs = [job for job in cluster.jobs() if job.get("WorkDir", "").startswith(str(remote.folder).split(" ")[0])]
    assert all(job["JobState"] == "COMPLETED" for job in jobs)
    assert len({job["NodeList"] for job in jobs}) > 1
    on_gpu = [job for job in jobs if job["Partition"] == "gpu"]
    # Groups of several evaluations, too, ask for one GPU on one node, and not for the sum.
    assert on_gpu
    assert {(job["TresPerJob"], job["NumNodes"], job["CPUs/Task"]) for job in on_gpu} == {("gres:gpu:1", "1", "2")}
    assert [job["Partition"] for job in jobs if "prepare_dataset" in job["Comment"]] == ["cpu"]
    evaluations = len(list((remote.folder / "results/smoke/evaluations").rglob("*.parquet")))
    assert len([job for job in jobs if "evaluations-" in job["Comment"]]) < evaluations / 2


FAIL_ONCE = """
import os, sys
from pathlib import Path

if sys.orig_argv[1:4] == ["-m", "elf", "evaluate"] and Path("fail-once").exists():
    if len(list(Path("results").rglob("seeds*.parquet"))) == 2:
        os.remove("fail-once")
        os._exit(3)
"""
"""Python reads this at its start: the third evaluation fails once."""


def test_what_a_group_had_finished_is_not_trained_again_after_one_of_it_failed(cluster, finished, tmp_path):
    copy = SlurmCopy(finished.duplicate(tmp_path / "copy").folder)
    folder = copy.results / "evaluations/digits/random-ipc10-seed0"
    shards = [path for path in sorted(folder.rglob("*.parquet")) if path.parent.name == "task-lr0.01"]
    assert len(shards) == 3
    for shard in folder.parent.rglob("*.parquet"):
        shard.unlink()
    (tmp_path / "sitecustomize.py").write_text(FAIL_ONCE)
    (copy.folder / "fail-once").touch()
    targets = [str(shard.relative_to(copy.folder)) for shard in shards]
    printed = copy.finish(copy.submit(*targets, PYTHONPATH=str(tmp_path)))
    assert not (copy.folder / "fail-once").exists()
    # Snakemake removed the two that were finished, and they were made again without any training.
    assert printed.count("has been submitted with SLURM jobid") == 2
    logs = [
        (copy.folder / "logs/tiny/evaluate" / shard.relative_to(folder.parent.parent)).with_suffix(".log")
        for shard in shards
    ]
    trained = ["continuing from the checkpoint" not in log.read_text() for log in logs]
    assert trained.count(True) == 1
    states = [state for shard in shards for state in shard.parent.glob(".*.resume")]
    assert len(states) == 2 * len(shards)
    for state in states:
        state.unlink()
    assert_same_results(copy, finished, *targets)

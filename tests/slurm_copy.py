"""A copy of the project for runs on the test cluster, whose distillations are slow and keep a journal."""

import fcntl
import itertools
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import pytest
from conftest import PROJECT
from slurm_cluster import STATE, SlurmCluster, Unusable, output, wait_until
from workflow_copy import SCALE_FILE, WorkflowCopy, make_copy

UPDATES = 60
SETS = {
    "dm": "dm-convnet-w2-d3-in-ipc10-seed0",
    "dsa": "dsa-convnet-w2-d3-in-ipc10-seed0",
    "frepo": "frepo-frepoconv-w2-bn-ipc10-seed0",
}
PROFILE = "profiles/slurm/profile.yaml"

JOURNAL = """

def _write_journal(checkpoint, finished):
    import os, time
    name = checkpoint.path.parent.name
    node = os.environ.get("SLURMD_NODENAME")
    with open("journal", "a") as stream:
        stream.write(f"{name} {finished} {os.getpid()} {node} {time.time()}\\n")
    time.sleep(float(os.environ.get("PAUSE", "0")))
"""
"""What is added to the loop of all distillations: when which update was finished by which process, and a pause."""


@dataclass(frozen=True)
class Update:
    """A line of the journal."""

    number: int
    process: int
    node: str
    at: float


@dataclass(frozen=True)
class SlurmCopy(WorkflowCopy):
    """A copy with commands for the cluster."""

    def image(self, method: str) -> str:
        """Return the path of a synthetic set below the folder."""
        return f"results/tiny/synthetic/digits/{SETS[method]}/images.safetensors"

    def submit(self, *targets: str, pause: float = 0.25, **changes: str) -> subprocess.Popen:
        """Start the workflow with the profile for SLURM; ``pause`` is seconds between two updates."""
        settings = {"PAUSE": str(pause), "ELF_CHECKPOINT_SECONDS": "1", **changes}
        return subprocess.Popen(
            [
                *(sys.executable, str(PROJECT / "tests" / "quick_polling.py"), *targets, "--profile", "slurm"),
                *("--slurm-init-seconds-before-status-checks", "1", "--seconds-between-status-checks", "1"),
                *("--latency-wait", "5", "--config", "scale=tiny"),
            ],
            cwd=self.folder,
            env=self.environment(**settings),
            stdout=open(self.folder / "output", "a"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def printed(self) -> str:
        """Return what the workflow has printed so far, over all starts."""
        return (self.folder / "output").read_text(encoding="utf-8")

    def finish(self, process: subprocess.Popen, seconds: float = 300) -> str:
        """Wait until the workflow has ended well; return what it printed."""
        status = process.wait(seconds)
        assert status == 0, self.printed()
        return self.printed()

    def journal(self, method: str) -> list[Update]:
        """Return the updates of one set that were made so far, repetitions included."""
        file = self.folder / "journal"
        lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
        return [Update(int(n), int(p), node, float(at)) for name, n, p, node, at in lines if name == SETS[method]]

    def job_of(self, method: str) -> dict[str, str]:
        """Return what SLURM says of the job that last made an update of a set."""
        environment = psutil.Process(self.journal(method)[-1].process).environ()
        return next(job for job in SlurmCluster().jobs() if job["JobId"] == environment["SLURM_JOB_ID"])

    def wait_for_update(self, number: int, *methods: str) -> None:
        """Wait until some sets have had so many updates."""
        wait_until(
            lambda: all(any(u.number >= number for u in self.journal(method)) for method in methods),
            f"{', '.join(methods)} have had {number} updates",
            90,
        )


def repeated(updates: list[Update]) -> int:
    """Return how many updates were made again."""
    return len(updates) - len({update.number for update in updates})


def longest_overlap(updates: list[Update]) -> int:
    """Return how many processes at most made a set at the same time."""
    spans = {}
    for update in updates:
        first, _ = spans.setdefault(update.process, (update.at, update.at))
        spans[update.process] = (first, update.at)
    return max(sum(first <= at <= last for first, last in spans.values()) for at in (u.at for u in updates))


def lost_seconds(updates: list[Update]) -> list[float]:
    """Return, for every process that went on after another, how old the state was that it went on from."""
    lost = []
    for earlier, later in itertools.pairwise(updates):
        if later.process != earlier.process:
            made = [u.at for u in updates if u.number == later.number - 1 and u.at <= earlier.at]
            lost.append(earlier.at - made[-1] if made else float("inf"))
    return lost


@pytest.fixture(scope="module")
def cluster(other_processes) -> Iterator[SlurmCluster]:
    """A running cluster; the test is skipped where there can be none."""
    STATE.parent.mkdir(parents=True, exist_ok=True)
    # Workers of one test run take turns, a module at a time.
    with open(STATE.with_suffix(".lock"), "w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        cluster = SlurmCluster()
        try:
            cluster.start()
        except Unusable as error:
            pytest.skip(f"no SLURM here: {error}")
        yield cluster
        cluster.stop()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, other_processes) -> SlurmCopy:
    """A copy with the results of a run on this machine without SLURM and without disturbance."""
    copy = SlurmCopy(make_copy(tmp_path_factory.mktemp("undisturbed")).folder)
    copy.edit(SCALE_FILE, "dm: {iterations: 2,", f"dm: {{iterations: {UPDATES},")
    copy.edit(SCALE_FILE, "dsa: {iterations: 1,", f"dsa: {{iterations: {UPDATES},")
    copy.edit(SCALE_FILE, "frepo: {iterations: 3,", f"frepo: {{iterations: {UPDATES},")
    loop = "elf/distillation/shared/loop.py"
    reported = 'course.advance(finished, values["loss"], look=best.is_due(finished))\n'
    copy.edit(loop, reported, f"{reported}        _write_journal(checkpoint, finished)\n")
    copy.append(loop, JOURNAL)
    ended = copy.run(*(copy.image(method) for method in SETS))
    assert ended.status == 0, ended.output
    return copy


@pytest.fixture
def slurm(cluster, undisturbed, tmp_path) -> Iterator[SlurmCopy]:
    """A copy with the dataset, in which nothing else was run; what it leaves on the cluster is cancelled."""
    copy = SlurmCopy(undisturbed.duplicate(tmp_path).folder)
    (copy.folder / "journal").unlink()
    for method in SETS:
        (copy.folder / copy.image(method)).unlink()
    yield copy
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(copy.folder) and "snakemake" in " ".join(process.cmdline()):
                process.kill()
        except psutil.Error:
            continue
    output("scancel", "--full", "--user", "root")
    wait_until(lambda: not output("squeue", "--noheader").strip(), "the cluster is idle", 60)
    for name in cluster.names:
        if "idle" not in output("sinfo", "--noheader", "--nodes", name, "--format=%T"):
            cluster.start_node(name)
    time.sleep(0.5)


def assert_same_results(copy: WorkflowCopy, undisturbed: WorkflowCopy, *paths: str) -> None:
    """Check that these results have the same content in both copies, and that nothing half-written is left."""
    found, expected = copy.content_ids(), undisturbed.content_ids()
    names = [path.removeprefix("results/tiny/") for path in paths]
    assert [found.get(name) for name in names] == [expected[name] for name in names]
    assert not [path for path in copy.results.rglob(".*") if path.suffix in (".part", ".resume")]

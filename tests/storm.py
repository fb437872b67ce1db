"""A storm: the workflow on a real SLURM, and one fault after the other at random moments.

    .venv/bin/python tests/storm.py --rounds 50 --seed 1
    .venv/bin/python tests/storm.py --rounds 4 --seed 2 --scale tiny --target table05

A round is one fault. When the workflow has ended it starts again from nothing, until all rounds are over; each time the
results must be those of a run that nothing disturbed. It needs root and Debian's packages of SLURM, and takes about a
minute for three rounds on two cores. The same seed gives the same faults at the same distances.
"""

import argparse
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import storm_faults
from conftest import PROJECT
from slurm_cluster import SlurmCluster, install, output, wait_until
from workflow_copy import WorkflowCopy, content_ids, make_copy

LONGEST_PAUSE_SECONDS = 20.0
STARTS_WITHOUT_FAULT = 6
"""After so many starts in a row that fail although nothing was done to them, the storm has found a bug."""


class Storm:
    """A workflow under faults.

    Attributes
    ----------
    folder : Path
        Of the copy that is disturbed; a small file system of its own.
    cluster : SlurmCluster
    choose : random.Random
    process : subprocess.Popen or None
        The running Snakemake.
    """

    def __init__(self, copy: WorkflowCopy, cluster: SlurmCluster, scale: str, target: str, seed: int) -> None:
        self.folder, self.cluster, self.choose = copy.folder, cluster, random.Random(seed)
        self.results = copy.folder / "results" / scale
        self.process: subprocess.Popen | None = None
        self.faults, self.starts, self.failed_in_a_row = Counter(), 0, 0
        self._copy, self._command = copy, ["--config", f"scale={scale}", "--", target]
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        """Print what happens, with the seconds since the beginning."""
        print(f"{time.monotonic() - self._began:7.1f}  {text}", flush=True)

    def start(self) -> None:
        """Start Snakemake as a user would."""
        self.starts += 1
        self.log = self.folder.parent / f"start{self.starts}.log"
        options = [
            "--profile",
            "slurm",
            "--retries=1",
            "--latency-wait=5",
            "--slurm-init-seconds-before-status-checks=1",
        ]
        self.process = subprocess.Popen(
            [sys.executable, str(PROJECT / "tests" / "quick_polling.py"), *options, *self._command],
            cwd=self.folder,
            env=self._copy.environment(ELF_CHECKPOINT_SECONDS="1"),
            stdout=open(self.log, "w"),  # noqa: SIM115
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def look(self) -> bool:
        """Start Snakemake again if it has failed, after what its message asks for; return whether it ended well."""
        status = None if self.process is None else self.process.poll()
        if self.process is not None and status is None:
            return False
        if status == 0:
            self.failed_in_a_row = 0
            return True
        if self.process is not None:
            self.failed_in_a_row += 1
            printed = self.log.read_text(errors="replace")
            assert self.failed_in_a_row <= STARTS_WITHOUT_FAULT, f"it fails for no reason:\n{printed[-5000:]}"
            self._do_what_it_says(printed)
        self.start()
        return False

    def _do_what_it_says(self, printed: str) -> None:
        """Delete the files that are called damaged, as the messages ask for."""
        logs = [path.read_text(errors="replace") for path in (self.folder / "logs").rglob("*.log")]
        for path in sorted(set(re.findall(r"(results/\S+): is damaged", "\n".join([printed, *logs])))):
            if (self.folder / path).is_file():
                self.say(f"  as the message says: delete {path}")
                (self.folder / path).unlink()

    def round(self) -> None:
        """Wait for a random time, and do a random fault."""
        time.sleep(self.choose.uniform(1, LONGEST_PAUSE_SECONDS))
        names = sorted(storm_faults.FAULTS)
        self.choose.shuffle(names)
        # The first that finds something to break.
        for name in names:
            if (what := storm_faults.FAULTS[name](self)) is not None:
                self.faults[name] += 1
                self.failed_in_a_row = 0
                self.say(f"{name}: {what}")
                return


def check(storm: Storm, expected: dict[str, str]) -> None:
    """Check the results of a workflow that has ended; what is damaged is made again, as it would be for a user."""
    damaged = storm_faults.damaged_files(storm.results)
    while damaged:
        for path in damaged:
            storm.say(f"  found damaged at the end: {path}")
            (storm.results / path).unlink()
        storm.process = None
        while not storm.look():
            time.sleep(0.5)
        damaged = storm_faults.damaged_files(storm.results)
    found = content_ids(storm.results)
    # The training of a teacher is no output: it is made again only when a checkpoint is.
    outputs = {path for path in expected if not path.endswith("/training.safetensors")}
    differing = sorted(path for path in outputs | found.keys() if found.get(path) != expected.get(path))
    assert not differing, "".join(
        f"\n{path}\n  calm:  {expected[path]}\n  storm: {found.get(path)}" for path in differing[:3]
    )
    halves = [path for path in storm.results.rglob(".*.part") if not storm_faults.is_open(path)]
    storm.say(f"equal to the undisturbed run: {len(outputs)} files; half-written leftovers: {len(halves)}")


def clear(storm: Storm) -> None:
    """Wait for processes of cut-off nodes, and delete all results."""
    wait_until(lambda: not storm_faults.payloads(storm), "the last processes have ended", 300)
    for name in ("results", "logs", "timings", ".snakemake"):
        shutil.rmtree(storm.folder / name, ignore_errors=True)
    storm.process = None


def undisturbed(copy: WorkflowCopy, scale: str, target: str) -> dict[str, str]:
    """Return the content of a run without SLURM and without faults."""
    ended = copy.run(target, scale=scale)
    assert ended.status == 0, ended.output
    return content_ids(copy.folder / "results" / scale)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", default="smoke", help="smoke, or the tests' tiny one (default: smoke)")
    parser.add_argument("--target", default="figure4", help="default: figure4")
    arguments = parser.parse_args()
    install()
    cluster = SlurmCluster()
    cluster.start()
    with tempfile.TemporaryDirectory(prefix="storm-") as place:
        calm, disturbed = make_copy(Path(place) / "calm"), Path(place) / "disturbed"
        with storm_faults.small_file_system(disturbed):
            # Before anything runs: results name their code, which may be edited meanwhile.
            copy = calm.duplicate(disturbed)
            expected = undisturbed(calm, arguments.scale, arguments.target)
            # Jobs of this partition can be preempted.
            copy.edit("profiles/slurm/profile.yaml", "slurm_partition: gpu\n", "slurm_partition: low\n")
            storm = Storm(copy, cluster, arguments.scale, arguments.target, arguments.seed)
            run(storm, arguments.rounds, expected)
    cluster.stop()


def run(storm: Storm, rounds: int, expected: dict[str, str]) -> None:
    """Do all rounds, and end with a workflow that ends well."""
    finished = 0
    try:
        while True:
            ended = storm.look()
            if ended:
                check(storm, expected)
                finished += 1
                if storm.faults.total() >= rounds:
                    break
                clear(storm)
            elif storm.faults.total() < rounds:
                storm.round()
            else:
                time.sleep(0.5)
    finally:
        if storm.process is not None and storm.process.poll() is None:
            storm.process.kill()
        output("scancel", "--full", "--user", "root")
        for process in storm_faults.payloads(storm):
            process.kill()
    kinds = ", ".join(f"{count} x {name}" for name, count in sorted(storm.faults.items()))
    storm.say(f"{rounds} rounds ({kinds}); {storm.starts} starts of Snakemake; {finished} workflows, all equal")


if __name__ == "__main__":
    main()

"""What the whole paper would take on 1 to 64 GPUs of a SLURM cluster: a simulation of its jobs at ASSUMED speeds.

    .venv/bin/python benchmarks/scaling.py

Writes docs/results/scaling/*.csv and the tables of docs/scaling.md. No job is run: jobs, operations, bytes and chains
are those of ``elf plan --scale paper`` with nothing done yet; speeds are those of benchmarks/assumed_gpu.yaml; what is
in flight and what is grouped is that of profiles/slurm/profile.yaml.
"""

import argparse
from collections import Counter
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pandas as pd
import yaml
from scaling_document import fill
from scaling_jobs import BY_RULES, ORDERS, Paper, read_paper
from scaling_memory import unrolled

from benchmarks.cluster import Cluster, Run, Submissions, simulate
from benchmarks.peaks import busiest, largest_at_once
from elf.planning.calibration import ANY, Calibration, read_calibration
from elf.planning.costs import stage_of
from elf.planning.scheduling import chains, longest_chain, schedule

PROJECT = Path(__file__).resolve().parent.parent
DEVICES = (1, 4, 8, 16, 64)
SPEEDS = {"three times lower": 1 / 3, "assumed": 1.0, "three times higher": 3.0}
GROUP_SIZES = (1, 4, 8, 16, 32)
TIME_LIMITS = (4, 12, 24, 48)  # hours
# Two starts of Snakemake, which took about that on two shared cores; the wait for other users' jobs is not in it.
START_SECONDS = 7.0
# A call of sbatch, and writing its script; assumed.
SUBMISSION_SECONDS = 0.3
# elf/running/job.py
CHECKPOINT_SECONDS = 300
# A makespan this near to the longest chain is as good as it gets.
NEAR = 1.1
TRIED = (*range(1, 25), 32, 48, 64, 96, 128)  # GPUs


@dataclass(frozen=True)
class Profile:
    """What the simulation takes from profiles/slurm/profile.yaml."""

    in_flight: int
    evaluations_per_group: int
    first_interval: float

    def cluster(self, devices: int) -> Cluster:
        """Return a cluster that is used like this."""
        return Cluster(
            devices=devices,
            in_flight=self.in_flight,
            start_seconds=START_SECONDS,
            submission_seconds=SUBMISSION_SECONDS,
            first_interval=self.first_interval,
        )


def read_profile() -> Profile:
    """Read the profile; a key that is not there any more ends with its name."""
    content = yaml.safe_load((PROJECT / "profiles/slurm/profile.yaml").read_text(encoding="utf-8"))
    return Profile(
        in_flight=content["jobs"],
        evaluations_per_group=content["group-components"][content["groups"]["evaluate"]],
        first_interval=content["slurm-init-seconds-before-status-checks"],
    )


def faster(calibration: Calibration, times: float, stage: str | None = None) -> Calibration:
    """Return speeds of all stages, or of one, times a factor; starts and what a CPU prepares stay as they are."""
    changed = {
        name: speed.model_copy(
            update={
                "flops_per_second": speed.flops_per_second * times,
                "seconds_per_value": speed.seconds_per_value / times,
                "seconds_per_call": speed.seconds_per_call / times,
            }
        )
        for name, speed in calibration.stages.items()
        if name != "prepare-dataset" and stage in (None, name)
    }
    return calibration.model_copy(update={"stages": calibration.stages | changed})


def work_of_kinds(paper: Paper, speeds: dict[str, Calibration]) -> pd.DataFrame:
    """Return jobs, device hours and bytes of each kind of job."""
    seconds = {name: paper.seconds(calibration) for name, calibration in speeds.items()}
    rows = []
    for kind in dict.fromkeys(job.group for job in paper.jobs.values()):
        own = [path for path, job in paper.jobs.items() if job.group == kind]
        row = {"kind": kind, "jobs": len(own), "bytes": sum(paper.bytes[path] for path in own)}
        row["largest_checkpoint_bytes"] = max(paper.resume_bytes[path] for path in own)
        saves = {path: seconds["assumed"][path] // CHECKPOINT_SECONDS for path in own}
        row["checkpoint_bytes_in_all"] = sum(paper.resume_bytes[path] * saves[path] for path in own)
        rows.append(row | {f"hours {name}": sum(of[path] for path in own) / 3600 for name, of in seconds.items()})
    return pd.DataFrame(rows)


def runs(paper: Paper, speeds: dict[str, Calibration], profile: Profile) -> pd.DataFrame:
    """Simulate every combination of speed, number of devices, size of groups and order."""
    rows = []
    for name, calibration in speeds.items():
        seconds = paper.seconds(calibration)
        chain = sum(seconds[job] for job in longest_chain(paper.parents, seconds)) / 3600
        listed = {devices: schedule(paper.parents, seconds, devices).makespan / 3600 for devices in DEVICES}
        for size in GROUP_SIZES:
            for order in ORDERS:
                work, members = paper.submissions(seconds, size, order)
                checkpoints = {name: max(map(paper.resume_bytes.get, jobs)) for name, jobs in members.items()}
                for devices in DEVICES:
                    row = {"speed": name, "devices": devices, "evaluations_per_group": size, "order": order}
                    row |= {"list_scheduling_hours": listed[devices], "chain_hours": chain}
                    row |= {"device_hours": sum(seconds.values()) / 3600}
                    run = simulate(work, profile.cluster(devices))
                    rows.append(row | measured(work, run, devices, checkpoints))
    return pd.DataFrame(rows)


def measured(work: Submissions, run: Run, devices: int, checkpoints: dict[str, int]) -> dict:
    """Return what a simulated run came to; ``checkpoints`` are the bytes of the largest of each submission."""
    on_devices = [job for job in run.submitted if job not in work.places]
    held = sum(run.ends[job] - run.starts[job] for job in on_devices)
    computing = sum(work.durations[job] for job in on_devices if job not in work.shared)
    computing += sum({work.shared[job]: work.durations[job] for job in work.shared}.values())
    at_once = largest_at_once((run.starts[job], run.ends[job], checkpoints[job]) for job in on_devices)
    return {
        "hours": run.makespan / 3600,
        "busy": held / (devices * run.makespan),
        "hours_starting": START_SECONDS * len(on_devices) / 3600,
        "hours_waiting_for_a_teacher": round((held - START_SECONDS * len(on_devices) - computing) / 3600, 6),
        "submissions": len(run.submitted),
        "submissions_in_the_busiest_minute": busiest(list(run.submitted.values()), 60.0),
        "submitting_share": SUBMISSION_SECONDS * len(run.submitted) / run.makespan,
        "checkpoint_bytes_per_second": at_once / CHECKPOINT_SECONDS,
    }


def longest_jobs(paper: Paper, speeds: dict[str, Calibration], most: int = 12) -> pd.DataFrame:
    """Return the jobs that take longest, with the chain before and behind them, at each speed."""
    rows = []
    for name, calibration in speeds.items():
        seconds = paper.seconds(calibration)
        behind = chains(paper.parents, seconds)
        before: dict[str, float] = {}
        for path, parents in paper.parents.items():
            before[path] = max((before[parent] + seconds[parent] for parent in parents), default=0.0)
        for path in sorted(seconds, key=seconds.get, reverse=True)[:most]:
            chain = (before[path] + behind[path]) / 3600
            row = {"speed": name, "job": path, "hours": seconds[path] / 3600, "chain_hours": chain}
            row |= {f"jobs_of_{limit}_hours": -(-seconds[path] // (3600 * limit)) for limit in TIME_LIMITS}
            rows.append(row)
    return pd.DataFrame(rows)


def sensitivity(paper: Paper, calibration: Calibration, profile: Profile) -> pd.DataFrame:
    """Vary the speed of each stage alone: the longest chain, and the devices with which a run is near it.

    That is list scheduling, and the simulation with the profile and the rules' priorities; of the latter, none may be
    near.
    """
    stages = [None, *(stage for stage in paper.stages if stage != "prepare-dataset")]
    named = calibration.model_copy(
        update={"stages": {stage: calibration.stages["any"] for stage in stages if stage} | calibration.stages}
    )
    rows = []
    for stage in stages:
        for times in (1.0,) if stage is None else (1 / 3, 3.0):
            seconds = paper.seconds(faster(named, times, stage))
            chain = longest_chain(paper.parents, seconds)
            limit = NEAR * sum(seconds[job] for job in chain)
            work, _ = paper.submissions(seconds, profile.evaluations_per_group, BY_RULES)
            listed = (n for n in count(1) if schedule(paper.parents, seconds, n).makespan <= limit)
            simulated = (n for n in TRIED if simulate(work, profile.cluster(n)).makespan <= limit)
            rows.append(
                {
                    "stage": stage or "all as assumed",
                    "times": times,
                    "device_hours": sum(seconds.values()) / 3600,
                    "chain_hours": sum(seconds[job] for job in chain) / 3600,
                    "enough_devices": next(listed),
                    "enough_in_the_simulation": str(next(simulated, "none")),
                    "longest_job": max(chain, key=seconds.get),
                }
            )
    return pd.DataFrame(rows)


def parts(paper: Paper, calibration: Calibration) -> pd.DataFrame:
    """Return the hours of all jobs by what they are spent on: the four terms of a calibration."""
    found = Counter()
    for path, job in paper.jobs.items():
        if stage := stage_of(job):
            speed, work = calibration.stages.get(stage, calibration.stages[ANY]), paper.works[path]
            found["starts"] += speed.start_seconds / 3600
            found["operations"] += work.flops / speed.flops_per_second / 3600
            found["numbers of images"] += work.values * speed.seconds_per_value / 3600
            found["calls of layers"] += work.calls * speed.seconds_per_call / 3600
    return pd.DataFrame({"part": found.keys(), "hours": found.values()})


def folders(paper: Paper) -> pd.DataFrame:
    """Return how many files lie in the folders with most of them; the checkpoints of running jobs are not counted."""
    found = Counter(str(Path(file).parent) for path in paper.jobs for file in paper.files(path))
    rows = [{"folder": folder, "files": number} for folder, number in found.most_common(12)]
    rows.append({"folder": "all", "files": found.total()})
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calibration", type=Path, default=PROJECT / "benchmarks/assumed_gpu.yaml", help="speeds")
    parser.add_argument("--folder", type=Path, default=PROJECT / "docs/results/scaling", help="where to write")
    parser.add_argument("--document", type=Path, default=PROJECT / "docs/scaling.md", help="whose tables to replace")
    arguments = parser.parse_args()
    calibration, profile = read_calibration(arguments.calibration), read_profile()
    paper = read_paper(PROJECT / "config")
    speeds = {name: faster(calibration, times) for name, times in SPEEDS.items()}
    frames = {
        "settings": pd.DataFrame([vars(profile) | {"start_seconds": START_SECONDS, "device": calibration.device}]),
        "kinds": work_of_kinds(paper, speeds),
        "runs": runs(paper, speeds, profile),
        "longest_jobs": longest_jobs(paper, speeds),
        "sensitivity": sensitivity(paper, calibration, profile),
        "parts": parts(paper, calibration),
        "folders": folders(paper),
        "unrolled": unrolled(paper, PROJECT / "docs/results/unroll_memory/memory.csv"),
    }
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name, frame in frames.items():
        frame.to_csv(arguments.folder / f"{name}.csv", index=False, float_format="%.6g")
    fill(arguments.document, arguments.folder)


if __name__ == "__main__":
    main()

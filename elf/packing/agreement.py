"""Making Snakemake, which knows times and records, see of a results folder what the manifests in its files say."""

import os
from collections.abc import Mapping
from pathlib import Path

from elf.packing.records import write_record
from elf.status.jobs import Job, jobs_of
from elf.status.states import FOLLOWS, INPUT, states_of
from elf.study.images import data_folder
from elf.study.plan import Plan


def agree(plan: Plan, jobs: Mapping[str, Job]) -> set[str]:
    """Make Snakemake see what the manifests say; return the stale files.

    What was made from the inputs that lie here becomes as young as they are; what was made from others gets a record
    that fits no job.
    """
    states = states_of(jobs_of(plan), plan.folder, data_folder())
    stale = set()
    for path, job in jobs.items():
        file, state = Path(path), states[job.path]
        if not file.is_file() or state.manifest is None or job.kind == "teacher trainings":
            continue
        reasons = {reason.cause for reason in state.reasons} - {FOLLOWS}
        if reasons:
            stale.add(path)
        if INPUT in reasons:
            write_record(path, state.manifest, {}, stale="made from other inputs than those that are here")
        else:
            _not_older(file, [plan.folder / parent for parent in job.inputs.values()], job)
    return stale


def _not_older(file: Path, inputs: list[Path], job: Job) -> None:
    """Make a file as young as the youngest of its inputs."""
    if job.kind == "synthetic sets" and job.spec.module == "imported":
        inputs = [*inputs, Path(str(job.spec.recipe["file"]))]
    youngest = max((path.stat().st_mtime_ns for path in inputs if path.is_file()), default=0)
    if file.stat().st_mtime_ns < youngest:
        os.utime(file, ns=(youngest, youngest))

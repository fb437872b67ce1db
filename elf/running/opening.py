"""The first lines of the workflow: scale, data, number of jobs, and whether it is one for a GPU that is not there."""

import importlib.metadata
import os
from collections.abc import Sequence
from pathlib import Path

from elf.planning.costs import work_of
from elf.planning.forecast import surroundings
from elf.status.jobs import jobs_of, selected
from elf.status.states import State
from elf.study.plan import Plan

OF_A_CORE = 1e11
"""Operations a second: about what a fast core reaches in large convolutions, so that estimates are too low."""
DAY = 86400


def opening(plan: Plan, targets: Sequence[str] | None, cores: int | None) -> list[str]:
    """Return what is to be known of a run before it starts.

    Nothing is read but the configuration: what is there already is not subtracted.

    Parameters
    ----------
    plan : Plan
    targets : sequence of str or None
        As for :func:`elf.status.jobs.selected`; None if they are no such targets.
    cores : int or None
        Of this machine, if that is where jobs run, and no GPU is seen on it; otherwise None.
    """
    lines = [f"Scale: {plan.settings.name}, {plan.settings.scale.description}; results go to {plan.folder}"]
    if targets is None:
        return lines
    jobs = selected(plan, jobs_of(plan), targets)
    around = surroundings(plan, jobs, {path: State(None, ()) for path in jobs})
    datasets = [job.spec.name for job in jobs.values() if job.kind == "datasets"]
    # A training is part of the job of its first checkpoint; a target that is a name is a job of Snakemake's, too.
    number = sum(job.kind != "teacher trainings" for job in jobs.values())
    number += sum("/" not in target for target in targets or ["all"])
    lines += [
        f"Data: {', '.join(datasets) or 'none'}",
        f"Jobs: {number:,} for {', '.join(targets) or 'everything'}, less those whose results are there and current",
    ]
    works = [work_of(job, around) for job in jobs.values()]
    operations = sum(work.flops for work in works if work)
    if cores and (days := operations / OF_A_CORE / cores / DAY) >= 1:
        lines.append(
            f"No GPU is seen here: this will take {days:,.0f} days or more on {cores} CPU cores ({operations:.1e} "
            f"operations, at {OF_A_CORE:.0e} a second and core, if none of them is done yet)."
        )
    return lines


def sees_gpu() -> bool:
    """Return whether jobs on this machine would compute on a GPU, as far as that shows without PyTorch."""
    if os.environ.get("ELF_DEVICE") == "cpu" or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    try:
        if importlib.metadata.version("torch").endswith("+cpu"):
            return False
    except importlib.metadata.PackageNotFoundError:
        return False
    # Of NVIDIA; of AMD; of either in Windows' subsystem for Linux.
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/kfd").exists() or Path("/dev/dxg").exists()

"""Which job to start first: the one with the most work behind it.

Fixed priorities of rules cannot tell a teacher that takes days from one that takes minutes. Simulated on 8 GPUs, the
whole paper ends a quarter earlier with these; see ``docs/scaling.md``.
"""

from collections import Counter

from elf.planning.costs import work_of
from elf.planning.forecast import surroundings
from elf.planning.scheduling import chains
from elf.specs.kinds import CHECKPOINTS, EVALUATIONS
from elf.status.jobs import jobs_of
from elf.status.states import State
from elf.study.plan import Plan

GROUPED = 8
"""Evaluations of a set that the profiles for clusters submit as one job, which takes as long as all of them."""

UNIT = 1e9
"""Operations; where work is not known, a job has only what is behind it."""


def priorities(plan: Plan) -> dict[str, int]:
    """Return the operations of the longest chain of jobs that begins with each, in units of a billion.

    Nothing is read but the configuration, so that the order is the same whatever was run before.

    Parameters
    ----------
    plan : Plan

    Returns
    -------
    dict of str to int
        By the path of what the job makes, below the results folder.
    """
    jobs = jobs_of(plan)
    around = surroundings(plan, jobs, {path: State(None, ()) for path in jobs})
    works = {path: work_of(job, around) for path, job in jobs.items()}
    operations = {path: work.flops if work else 0.0 for path, work in works.items()}
    evaluations = {path: job.spec for path, job in jobs.items() if job.kind == EVALUATIONS.name}
    of_set = Counter((spec.dataset, spec.synthetic_set) for spec in evaluations.values())
    for path, spec in evaluations.items():
        operations[path] *= min(GROUPED, of_set[spec.dataset, spec.synthetic_set])
    parents = {path: list(dict.fromkeys(job.parents)) for path, job in jobs.items()}
    longest = chains(parents, operations)
    # The training of a teacher is no job of Snakemake's, but part of those of its checkpoints.
    for path, job in jobs.items():
        if job.kind == CHECKPOINTS.name:
            longest[path] += sum(operations[training] for training in job.after)
    return {path: round(value / UNIT) for path, value in longest.items()}

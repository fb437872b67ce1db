"""What is left to do for some targets, and what it takes: jobs, operations, hours, bytes, the longest chain."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from elf.planning.calibration import Calibration
from elf.planning.costs import Surroundings, bytes_of, stage_of, work_of
from elf.planning.memory import distillation_bytes, evaluation_bytes
from elf.planning.scheduling import longest_chain, schedule
from elf.planning.sizes import sizes_of
from elf.planning.work import Work
from elf.specs import kinds
from elf.specs.kinds import KINDS
from elf.status.jobs import Job
from elf.status.states import CODE, DAMAGED, FOLLOWS, INPUT, MISSING, SETTINGS, State
from elf.study.plan import Plan


@dataclass(frozen=True)
class Kind:
    """The jobs of one kind.

    Attributes
    ----------
    name : str
    jobs, done : int
    missing, stale, follows : int
        Those to do, by the cause that counts: no file; settings, code or an input changed, or the file is damaged;
        or nothing but that they wait for a job that is to do.
    flops, seconds : float
        Of those to do.
    uncounted, unknown : int
        How many of those to do have no known work, and no known time; the sums are without them.
    bytes, bytes_to_come : int
        Of all files, and of those to do.
    """

    name: str
    jobs: int
    done: int
    missing: int
    stale: int
    follows: int
    flops: float
    seconds: float
    uncounted: int
    unknown: int
    bytes: int
    bytes_to_come: int


@dataclass(frozen=True)
class Forecast:
    """What is left to do.

    Attributes
    ----------
    kinds : tuple of Kind
        Those that the targets need.
    reasons : dict of (str, str) to Counter
        From cause and detail, such as ``("code", "elf.training.protocol")``, to the number of jobs of each kind.
    calibration : Calibration or None
    chain : tuple of (str, float)
        Longest chain: path and seconds of each job; without a calibration, operations.
    makespans : dict of int to float
        Seconds by number of devices; empty without a calibration.
    memory : dict of str to (str, int)
        The evaluation to do, and the set of MTT, that takes most memory of a GPU: its path and about how many bytes, by
        what it is called; without those that there are none of.
    layer_ratio : float
        Largest operations a layer call of the jobs to do, as a multiple of the largest that was measured; 0 if unknown.
    """

    kinds: tuple[Kind, ...]
    reasons: dict[tuple[str, str], Counter]
    calibration: Calibration | None
    chain: tuple[tuple[str, float], ...]
    makespans: dict[int, float]
    memory: dict[str, tuple[str, int]]
    layer_ratio: float

    @property
    def seconds(self) -> float:
        """Device seconds of all jobs to do."""
        return sum(kind.seconds for kind in self.kinds)

    @property
    def to_do(self) -> int:
        """Number of jobs to do."""
        return sum(kind.jobs - kind.done for kind in self.kinds)


def surroundings(plan: Plan, jobs: Mapping[str, Job], states: Mapping[str, State]) -> Surroundings:
    """Return the sizes of the datasets and sets of a plan; those of datasets of other settings are not looked at."""
    sizes = {}
    for path, job in jobs.items():
        if job.kind == kinds.DATASETS.name:
            state = states[path]
            manifest = None if state.details(SETTINGS) else state.manifest
            if (size := sizes_of(job.spec, plan.folder / path, manifest)) is not None:
                sizes[job.spec.name] = size
    return Surroundings(sizes, {(spec.dataset, spec.name): spec.ipc for spec in plan.grid.synthetic_sets.values()})


def forecast(
    plan: Plan,
    jobs: Mapping[str, Job],
    states: Mapping[str, State],
    calibration: Calibration | None,
    devices: Sequence[int],
) -> Forecast:
    """Return what is left to do of some jobs.

    Parameters
    ----------
    plan : Plan
    jobs : dict
        Those that the targets need; each after those that it waits for.
    states : dict
        State of each of them.
    calibration : Calibration or None
    devices : sequence of int
        Numbers of devices.
    """
    around = surroundings(plan, jobs, states)
    to_do = {path: job for path, job in jobs.items() if not states[path].done}
    works = {path: work_of(job, around) for path, job in to_do.items()}
    seconds = {path: _seconds(calibration, job, works[path]) for path, job in to_do.items()}
    parents = {path: [other for other in job.parents if other in to_do] for path, job in to_do.items()}
    flops = {path: work.flops if work else 0.0 for path, work in works.items()}
    durations = flops if calibration is None else {path: value or 0.0 for path, value in seconds.items()}
    measured = calibration and calibration.fit and calibration.fit.largest_flops_per_call
    largest = max((work.flops / work.calls for work in works.values() if work and work.calls), default=0.0)
    chain = longest_chain(parents, durations)
    return Forecast(
        kinds=tuple(_kinds(jobs, states, around, works, seconds)),
        reasons=_reasons(jobs, states),
        calibration=calibration,
        chain=tuple((path, durations[path]) for path in chain if durations[path] > 0),
        makespans={} if calibration is None else {n: schedule(parents, durations, n).makespan for n in devices},
        memory=_memory(to_do, around),
        layer_ratio=largest / measured if measured else 0.0,
    )


def _memory(to_do: Mapping[str, Job], around: Surroundings) -> dict[str, tuple[str, int]]:
    needed: dict[str, dict[str, int]] = {}
    for path, job in to_do.items():
        if job.kind not in (kinds.EVALUATIONS.name, kinds.SETS.name) or (sizes := around.sizes_for(job.spec)) is None:
            continue
        if job.kind == kinds.EVALUATIONS.name:
            needed.setdefault("evaluation", {})[path] = (
                evaluation_bytes(job.spec, sizes, around.images_for(job.spec)) or 0
            )
        elif (found := distillation_bytes(job.spec, sizes)) is not None:
            needed.setdefault("unrolled set", {})[path] = found
    return {name: max(own.items(), key=lambda entry: entry[1]) for name, own in needed.items()}


def _seconds(calibration: Calibration | None, job: Job, work: Work | None) -> float | None:
    return None if calibration is None or work is None else calibration.seconds(stage_of(job), work)


def _kinds(
    jobs: Mapping[str, Job],
    states: Mapping[str, State],
    around: Surroundings,
    works: Mapping[str, Work | None],
    seconds: Mapping[str, float | None],
):
    for name in dict.fromkeys(kind.group for kind in KINDS.values()):
        own = [path for path, job in jobs.items() if job.group == name]
        if not own:
            continue
        causes = Counter(states[path].first for path in own)
        to_do = [path for path in own if path in works]
        sizes = {path: bytes_of(jobs[path], around) or 0 for path in own}
        yield Kind(
            name=name,
            jobs=len(own),
            done=causes[None],
            missing=causes[MISSING],
            stale=sum(causes[cause] for cause in (DAMAGED, SETTINGS, CODE, INPUT)),
            follows=causes[FOLLOWS],
            flops=sum(works[path].flops for path in to_do if works[path]),
            seconds=sum(seconds[path] or 0.0 for path in to_do),
            uncounted=sum(works[path] is None for path in to_do),
            unknown=sum(seconds[path] is None for path in to_do),
            bytes=sum(sizes.values()),
            bytes_to_come=sum(sizes[path] for path in to_do),
        )


def _reasons(jobs: Mapping[str, Job], states: Mapping[str, State]) -> dict[tuple[str, str], Counter]:
    """Return which details make how many jobs stale; a missing file needs no further reason."""
    reasons: dict[tuple[str, str], Counter] = {}
    for path, job in jobs.items():
        if states[path].first in (None, MISSING, FOLLOWS):
            continue
        for reason in states[path].reasons:
            details = reason.details if reason.cause != FOLLOWS else ()
            # All experts of a buffer are one reason.
            for detail in {"experts" if detail.startswith("expert ") else detail for detail in details}:
                reasons.setdefault((reason.cause, detail), Counter())[job.group] += 1
    return reasons


def timings_of(results: Path) -> Path:
    """Return the folder of Snakemake's benchmarks that belongs to the results folder of a scale."""
    return results.parent.parent / "timings" / results.name

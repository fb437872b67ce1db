"""The jobs of a scale and what each waits for, as the rules have them; without asking Snakemake."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from graphlib import TopologicalSorter

from elf.errors import ElfError
from elf.specs import kinds
from elf.specs.base import Spec
from elf.specs.kinds import KINDS, Kind
from elf.study.grid import Grid
from elf.study.near_misses import suggestion
from elf.study.plan import Plan

REPORT, VERDICTS = kinds.REPORT.files[0], kinds.VERDICTS.files[0]


@dataclass(frozen=True)
class Job:
    """What makes one file, or several at once.

    Attributes
    ----------
    path : str
        Of the (first) file, below the results folder of the scale.
    kind : str
        One of ``KINDS``.
    spec : Spec or None
        What the file has to be made of; None for results and drawings.
    inputs : dict of str to str
        From the role that the file's manifest gives an input to the path of that input.
    after : tuple of str
        Paths of further files that it is made from or waits for.
    epochs : tuple of int
        Of a teacher's training, those that are kept; of a checkpoint, its own.
    name : str or None
        The table or figure that it is for; None where it is for none or all.
    digest : callable or None
        Gives the digest of what results and drawings hold besides their inputs.
    """

    path: str
    kind: str
    spec: Spec | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    epochs: tuple[int, ...] = ()
    name: str | None = None
    digest: Callable[[], str] | None = None

    @property
    def parents(self) -> tuple[str, ...]:
        """Paths of all files that it waits for."""
        return (*self.inputs.values(), *self.after)

    @property
    def given(self) -> Mapping[str, str]:
        """Files from elsewhere by role; no job makes them, and their paths start where the workflow runs."""
        return KINDS[self.kind].given(self.spec)

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of all files that it makes, ``path`` first."""
        return KINDS[self.kind].made_with(self.path)

    @property
    def group(self) -> str:
        """Under which name it is counted."""
        return KINDS[self.kind].group


def jobs_of(plan: Plan) -> dict[str, Job]:
    """Return all jobs of a scale by the path of what they make, each after those that it waits for."""
    jobs = {job.path: job for job in (*_computing(plan.grid), *_results(plan))}
    ordered: dict[str, Job] = {}

    def add(job: Job) -> None:
        if job.path not in ordered:
            for parent in job.parents:
                add(jobs[parent])
            ordered[job.path] = job

    # By kind, unless one of an earlier kind is made from one of a later.
    for job in jobs.values():
        add(job)
    return ordered


def _computing(grid: Grid) -> Iterator[Job]:
    for kind in KINDS.values():
        for folder, spec in getattr(grid, kind.collection or "", {}).items():
            epochs = sorted(grid.checkpoints[folder]) if kind is kinds.TRAININGS else []
            job = Job(kind.path(spec), kind.name, spec, kind.inputs(spec), epochs=tuple(epochs))
            yield job
            for epoch in epochs:
                path = str(spec.checkpoint(epoch))
                inputs = kinds.CHECKPOINTS.inputs(spec)
                yield Job(path, kinds.CHECKPOINTS.name, spec, inputs, after=(job.path,), epochs=(epoch,))


def _results(plan: Plan) -> Iterator[Job]:
    """Yield what gathers results and shows them."""
    sheets, drawn = [], []
    for spec in plan.grid.synthetic_sets.values():
        sheets.append(kinds.SHEETS.at(dataset=spec.dataset, synthetic_set=spec.name))
        shown = (kinds.SETS.path(spec), kinds.DATASETS.at(dataset=spec.dataset))
        yield Job(sheets[-1], kinds.SHEETS.name, after=shown)
    for name in plan.grid.cells:
        kind, collected = _kind_of(plan, name), kinds.OF_EXPERIMENTS.at(experiment=name)
        of_experiment = {"name": name, "digest": partial(plan.results_digest, name)}
        yield Job(collected, kinds.OF_EXPERIMENTS.name, after=collected_from(plan.collected(name)), **of_experiment)
        drawn.append(drawing(plan, name))
        shown = {"name": name, "digest": partial(plan.experiment_digest, name)}
        yield Job(drawn[-1], kind.name, after=(collected,), **shown)
    everything = kinds.RESULTS.files[0]
    yield Job(everything, kinds.RESULTS.name, after=collected_from(plan.grid), digest=plan.results_digest)
    yield Job(VERDICTS, kinds.VERDICTS.name, after=(everything,), digest=lambda: plan.drawings_digest)
    figures = [path for path in drawn if path.startswith("figures/")]
    datasets = map(kinds.DATASETS.path, plan.grid.datasets.values())
    shown = (everything, *figures, *datasets, *sheets)
    yield Job(REPORT, kinds.REPORT.name, after=shown, digest=lambda: plan.report_digest)


def _kind_of(plan: Plan, experiment: str) -> Kind:
    return {"table": kinds.TABLES, "figure": kinds.FIGURES}[plan.settings.experiments[experiment].kind]


def collected_from(grid: Grid) -> tuple[str, ...]:
    """Return the files that the rows of a part of the grid come from."""
    sets = map(kinds.SETS.path, grid.synthetic_sets.values())
    datasets = map(kinds.DATASETS.path, grid.datasets.values())
    return (*grid.evaluations, *grid.full_data, *sets, *datasets)


def drawing(plan: Plan, experiment: str) -> str:
    """Return the path of the first file of a table or figure."""
    kind = _kind_of(plan, experiment)
    return kind.at(**{plan.settings.experiments[experiment].kind: experiment})


def lineage(jobs: Mapping[str, Job], targets: Iterable[str]) -> list[Job]:
    """Return what some files are made from, themselves included: each before its inputs, from numbers to images.

    What a job merely waits for, such as a teacher's training, is left out.
    """
    made_into: dict[str, list[str]] = {path: [] for path in targets}
    waiting = list(made_into)
    while waiting:
        path = waiting.pop()
        for source in jobs[path].inputs.values():
            if source not in made_into:
                waiting.append(source)
            made_into.setdefault(source, []).append(path)
    rank = {name: -place for place, name in enumerate(KINDS)}
    order = {path: place for place, path in enumerate(jobs) if path in made_into}
    sorter, found = TopologicalSorter(made_into), []
    sorter.prepare()
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=lambda path: (rank[jobs[path].kind], order[path]))
        found += [jobs[path] for path in ready]
        sorter.done(*ready)
    return found


def selected(plan: Plan, jobs: Mapping[str, Job], targets: Iterable[str]) -> dict[str, Job]:
    """Return the jobs that targets need, themselves included, in the order of ``jobs``.

    Parameters
    ----------
    plan : Plan
    jobs : dict
        All jobs of the scale.
    targets : iterable of str
        Names of experiments, ``all_tables``, ``all_figures``, ``verdicts``, ``report``, or paths of files or folders,
        with or without the results folder before them; none means everything.

    Raises
    ------
    ElfError
        If a target is none of these.
    """
    waiting = [path for target in targets for path in paths_of(plan, jobs, target)] or list(jobs)
    needed: set[str] = set()
    while waiting:
        path = waiting.pop()
        if path not in needed:
            needed.add(path)
            waiting.extend(jobs[path].parents)
    return {path: job for path, job in jobs.items() if path in needed}


def named(plan: Plan, jobs: Mapping[str, Job], target: str) -> list[str] | None:
    """Return the jobs of a target that has a name; None if it may be a path."""
    experiments = {name: plan.settings.experiments[name].kind for name in plan.grid.cells}
    if target in experiments:
        return [drawing(plan, target)]
    if target in ("all_tables", "all_figures"):
        drawn = [drawing(plan, name) for name, kind in experiments.items() if target == f"all_{kind}s"]
        sheets = [path for path, job in jobs.items() if job.kind == kinds.SHEETS.name]
        return drawn + (sheets if target == "all_figures" else [])
    return {"all": list(jobs), "report": [REPORT], "verdicts": [VERDICTS]}.get(target)


def paths_of(plan: Plan, jobs: Mapping[str, Job], target: str) -> list[str]:
    """Return the jobs that a target names, without what they need; see `selected`."""
    if (found := named(plan, jobs, target)) is not None:
        return found
    path = target.removeprefix("./").removeprefix(f"{plan.folder.as_posix()}/").rstrip("/")
    found = [other for other, job in jobs.items() if path in job.files or other.startswith(f"{path}/")]
    if not found:
        raise no_target(target, plan)
    return found


def no_target(target: str, plan: Plan) -> ElfError:
    """Return an error that offers the target that was meant, and names all."""
    names = [*plan.grid.cells, "all_tables", "all_figures", "verdicts", "report"]
    return ElfError(
        f"{target!r} is no target of the scale {plan.settings.name}; {suggestion(_stem(target), names)}allowed: "
        f"{', '.join(names)}, or a path of its results"
    )


def _stem(target: str) -> str:
    return target.rpartition("/")[2].partition(".")[0]

"""The jobs of a scale and what each waits for, as the rules have them; without asking Snakemake."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from elf.errors import ElfError
from elf.grid import Grid
from elf.near_misses import suggestion
from elf.specs.base import Spec
from elf.specs.teacher import TeacherSpec
from elf.stages.plan import Plan

KINDS = (
    "datasets",
    "experts",
    "synthetic sets",
    "teacher trainings",
    "teacher checkpoints",
    "features",
    "evaluations",
    "collected results",
    "tables, figures, report",
)
COLLECTED, DRAWN = KINDS[-2:]
"""Kinds without a specification; they take seconds."""
REPORT, VERDICTS = "report/index.html", "verdicts/comparison.csv"
"""First files of the jobs with several."""

IMAGES = "images.safetensors"


@dataclass(frozen=True)
class Job:
    """What makes one file.

    Attributes
    ----------
    path : str
        Of the file, below the results folder of the scale.
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
    """

    path: str
    kind: str
    spec: Spec | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    epochs: tuple[int, ...] = ()

    @property
    def parents(self) -> tuple[str, ...]:
        """Paths of all files that it waits for."""
        return (*self.inputs.values(), *self.after)


def jobs_of(plan: Plan) -> dict[str, Job]:
    """Return all jobs of a scale by the path of what they make, each after those that it waits for."""
    grid, jobs = plan.grid, {}

    def add(path, kind: str, spec: Spec | None = None, **others) -> None:
        jobs[str(path)] = Job(str(path), kind, spec, **others)

    for path, spec in grid.datasets.items():
        add(f"{path}/{IMAGES}", "datasets", spec)
    for path, spec in grid.experts.items():
        add(path, "experts", spec, inputs={"dataset": _dataset(spec.dataset)})
    for path, spec in grid.synthetic_sets.items():
        experts = {f"expert {index}": file for index, file in enumerate(grid.experts_of(spec))}
        add(f"{path}/{IMAGES}", "synthetic sets", spec, inputs={"dataset": _dataset(spec.dataset)} | experts)
    for path, spec in grid.teachers.items():
        _add_teacher(jobs, spec, sorted(grid.checkpoints[path]))
    for path, spec in grid.features.items():
        teacher = f"teachers/{spec.dataset}/{spec.teacher_network}/epoch{spec.teacher_epoch}.safetensors"
        add(path, "features", spec, inputs={"synthetic set": _images(spec), "teacher": teacher})
    for path, spec in grid.evaluations.items():
        inputs = {"dataset": _dataset(spec.dataset), "synthetic set": _images(spec)}
        if spec.objective.needs_teacher:
            name = f"{spec.teacher_network}-epoch{spec.teacher_epoch}.safetensors"
            inputs["features"] = f"features/{spec.dataset}/{spec.synthetic_set}/{name}"
        add(path, "evaluations", spec, inputs=inputs)
    _add_drawings(jobs, plan)
    return jobs


def _add_teacher(jobs: dict[str, Job], spec: TeacherSpec, epochs: list[int]) -> None:
    """Add a training and its checkpoints, which are jobs of their own: the first of them trains for all."""
    training, inputs = f"{spec.folder}/training.safetensors", {"dataset": _dataset(spec.dataset)}
    jobs[training] = Job(training, "teacher trainings", spec, inputs, epochs=tuple(epochs))
    for epoch in epochs:
        path = str(spec.checkpoint(epoch))
        jobs[path] = Job(path, "teacher checkpoints", spec, inputs, after=(training,), epochs=(epoch,))


def _add_drawings(jobs: dict[str, Job], plan: Plan) -> None:
    def add(path: str, kind: str, after: Iterable[str]) -> str:
        jobs[path] = Job(path, kind, after=tuple(after))
        return path

    pictures = [
        add(f"{path}/contact_sheet.png", DRAWN, [f"{path}/{IMAGES}", _dataset(spec.dataset)])
        for path, spec in plan.grid.synthetic_sets.items()
    ]
    drawn = []
    for name in plan.grid.cells:
        collected = add(f"collected/{name}.parquet", COLLECTED, collected_from(plan.collected(name)))
        drawn.append(add(drawing(plan, name), DRAWN, [collected]))
    everything = add("results.parquet", COLLECTED, collected_from(plan.grid))
    figures = [path for path in drawn if path.startswith("figures/")]
    datasets = [f"{path}/{IMAGES}" for path in plan.grid.datasets]
    add(VERDICTS, DRAWN, [everything])
    add(REPORT, DRAWN, [everything, *figures, *datasets, *pictures])


def collected_from(grid: Grid) -> list[str]:
    """Return the files that the rows of a part of the grid come from."""
    images = [f"{path}/{IMAGES}" for path in (*grid.synthetic_sets, *grid.datasets)]
    return [*grid.evaluations, *grid.full_data, *images]


def drawing(plan: Plan, experiment: str) -> str:
    """Return the path of the first file of a table or figure."""
    kind = plan.settings.experiments[experiment].kind
    return f"{kind}s/{experiment}.{'md' if kind == 'table' else 'pdf'}"


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
    waiting = [path for target in targets for path in _paths(plan, jobs, target)] or list(jobs)
    needed: set[str] = set()
    while waiting:
        path = waiting.pop()
        if path not in needed:
            needed.add(path)
            waiting.extend(jobs[path].parents)
    return {path: job for path, job in jobs.items() if path in needed}


def _paths(plan: Plan, jobs: Mapping[str, Job], target: str) -> list[str]:
    kinds = {name: plan.settings.experiments[name].kind for name in plan.grid.cells}
    if target in kinds:
        return [drawing(plan, target)]
    if target in ("all_tables", "all_figures"):
        drawn = [drawing(plan, name) for name, kind in kinds.items() if target == f"all_{kind}s"]
        pictures = [path for path in jobs if path.endswith("contact_sheet.png")]
        return drawn + (pictures if target == "all_figures" else [])
    if target in ("all", "report", "verdicts"):
        return {"all": list(jobs), "report": [REPORT], "verdicts": [VERDICTS]}[target]
    path = target.removeprefix("./").removeprefix(f"{plan.folder.as_posix()}/").rstrip("/")
    stem = path.rpartition(".")[0] or path
    found = [
        other
        for other, job in jobs.items()
        if other == path
        or other.startswith(f"{path}/")
        # A table and a figure are several files of one job.
        or (job.kind == DRAWN and other.rpartition(".")[0] == stem)
    ]
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


def _dataset(name: str) -> str:
    return f"datasets/{name}/{IMAGES}"


def _images(spec) -> str:
    return f"synthetic/{spec.dataset}/{spec.synthetic_set}/{IMAGES}"

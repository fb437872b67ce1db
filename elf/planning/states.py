"""Which files are there and still what the configuration and the code would make; from the files' own manifests."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pyarrow.parquet

from elf.artifacts.manifest import Manifest, read_manifest
from elf.data.sources.layouts import source_state
from elf.errors import ElfError
from elf.finding_data import prepared_without_images
from elf.fingerprint import changed
from elf.planning.jobs import COLLECTED, Job
from elf.stages import code

MISSING, DAMAGED, SETTINGS, CODE, INPUT, FOLLOWS = "missing", "damaged", "settings", "code", "input", "follows"
CAUSES = (MISSING, DAMAGED, SETTINGS, CODE, INPUT, FOLLOWS)
"""Why a job has to run: its file is missing or damaged; was made with other settings, other code, or from another
state of an input; or it follows on a job that has to run."""

MANIFEST_KINDS = {
    "datasets": "dataset",
    "experts": "expert trajectory",
    "synthetic sets": "synthetic set",
    "teacher trainings": "teacher training",
    "teacher checkpoints": "teacher checkpoint",
    "features": "features",
    "evaluations": "evaluation shard",
    COLLECTED: "results",
}
CODE_OF: dict[str, Callable[..., str]] = {
    "datasets": code.prepare_dataset_code,
    "experts": code.train_expert_code,
    "synthetic sets": code.distill_code,
    "teacher trainings": code.train_teacher_code,
    "teacher checkpoints": code.train_teacher_code,
    "features": code.extract_features_code,
    "evaluations": code.evaluate_code,
}


@dataclass(frozen=True)
class Reason:
    """Why a job has to run.

    Attributes
    ----------
    cause : str
        One of ``CAUSES``.
    details : tuple of str
        Settings or definitions that changed, inputs that are others, or what is wrong with the file.
    """

    cause: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class State:
    """What is known of a job's file.

    Attributes
    ----------
    manifest : dict or None
        None if the file is missing, damaged, or has none.
    reasons : tuple of Reason
        Why the job has to run; empty if it need not.
    """

    manifest: Manifest | None
    reasons: tuple[Reason, ...]

    @property
    def done(self) -> bool:
        """Whether nothing is left to do: the file is as it has to be, or gone and not needed."""
        return not self.reasons

    @property
    def first(self) -> str | None:
        """The cause that counts where there are several: a missing file is not also stale."""
        return min((reason.cause for reason in self.reasons), key=CAUSES.index, default=None)

    def details(self, cause: str) -> tuple[str, ...] | None:
        """Return the details of a cause; None if it is none."""
        return next((reason.details for reason in self.reasons if reason.cause == cause), None)


def states_of(jobs: Mapping[str, Job], results: Path, data_folder: Path) -> dict[str, State]:
    """Return the state of each job.

    Parameters
    ----------
    jobs : dict of str to Job
        Each after those that it waits for, which are all among them.
    results : Path
        Results folder of the scale.
    data_folder : Path
        Folder of the real images; only the names and sizes of files are looked at.
    """
    states: dict[str, State] = {}
    for path, job in jobs.items():
        manifest, reasons = _own(job, results, data_folder)
        if manifest is not None or not reasons:
            reasons += _of_inputs(job, manifest, states, results)
        states[path] = State(manifest, tuple(reasons))
    to_do = _to_do(jobs, states)
    return {path: _with_waiting(job, states[path], jobs, to_do) for path, job in jobs.items()}


def _to_do(jobs: Mapping[str, Job], states: Mapping[str, State]) -> set[str]:
    """Return the jobs that have to run, as Snakemake sees it.

    Whatever is stale, whatever waits for a job that runs, and what is missing, if nothing else is made from it or if
    something that runs is. A teacher's training runs for its checkpoints alone.
    """
    used = {parent for job in jobs.values() for parent in job.parents}
    trainings = {path for path, job in jobs.items() if job.kind == "teacher trainings"}
    missing = {path for path, state in states.items() if state.first == MISSING} - trainings
    to_do = {path for path, state in states.items() if state.reasons and (path not in missing or path not in used)}
    to_do -= trainings
    before = -1
    while len(to_do) != before:
        before = len(to_do)
        for path in reversed(jobs):
            if path in to_do:
                to_do |= missing.intersection(jobs[path].parents)
        to_do |= {path for path in jobs if path not in trainings and to_do.intersection(_waited_for(jobs[path]))}
    asked = {parent for path in to_do for parent in jobs[path].after} & trainings
    return to_do | {path for path in asked if states[path].reasons or to_do.intersection(jobs[path].parents)}


def _waited_for(job: Job) -> Collection[str]:
    """Return what makes a job run when it runs: a checkpoint that is there stays when its training runs for another."""
    return job.inputs.values() if job.kind == "teacher checkpoints" else job.parents


def _with_waiting(job: Job, state: State, jobs: Mapping[str, Job], to_do: set[str]) -> State:
    if job.path not in to_do:
        return State(state.manifest, ())
    waits = dict.fromkeys(jobs[parent].kind for parent in _waited_for(job) if parent in to_do)
    return State(state.manifest, (*state.reasons, *([Reason(FOLLOWS, tuple(waits))] if waits else [])))


def _own(job: Job, results: Path, data_folder: Path) -> tuple[Manifest | None, list[Reason]]:
    """Return the manifest, and what of file, settings and code speaks for making the file again."""
    file = results / job.path
    if not file.is_file():
        return None, [Reason(MISSING)]
    if job.kind not in MANIFEST_KINDS:
        return None, []
    try:
        manifest = read_manifest(file, MANIFEST_KINDS[job.kind])
    except ElfError as error:
        return None, [Reason(DAMAGED, (str(error),))]
    if job.kind == "datasets" and prepared_without_images(job.spec, data_folder, results):
        return manifest, []
    reasons = []
    if settings := list(_changed_settings(job, manifest, data_folder)):
        reasons.append(Reason(SETTINGS, tuple(settings)))
    if definitions := changed_definitions(job, manifest):
        reasons.append(Reason(CODE, definitions))
    return manifest, reasons


def _changed_settings(job: Job, manifest: Manifest, data_folder: Path) -> Iterator[str]:
    if job.spec is None:
        return
    made, wanted = manifest["spec"], job.spec.model_dump(mode="json")
    if job.kind == "teacher checkpoints":
        wanted["epoch"] = job.epochs[0]
    yield from _differing(wanted, made)
    if job.kind == "teacher trainings" and not {*map(str, job.epochs)} <= made["test_accuracy"].keys():
        yield "epochs"
    if job.kind == "datasets" and "source_state" in made:
        found = source_state(job.spec.source, data_folder / (job.spec.location or ""))
        if json.loads(json.dumps(found)) != made["source_state"]:
            yield "files of the images"


def _differing(wanted: Mapping, made: Mapping, prefix: str = "") -> Iterator[str]:
    """Yield the keys whose values differ; what a manifest says besides is a result, no setting."""
    for key, value in wanted.items():
        if isinstance(value, dict) and isinstance(made.get(key), dict):
            yield from _differing(value, made[key], f"{prefix}{key}.")
            # Inside a recipe everything is a setting, also what is no longer read.
            yield from (f"{prefix}{key}.{other}" for other in made[key] if other not in value)
        elif key not in made or made[key] != value:
            yield f"{prefix}{key}"


def changed_definitions(job: Job, manifest: Manifest) -> tuple[str, ...]:
    """Return the definitions that differ between the code that made a file and that of now."""
    now = code.collect_code() if job.spec is None else CODE_OF[job.kind](job.spec)
    return changed(_digests(now), manifest["code"])


@cache
def _digests(text: str) -> dict[str, str]:
    return json.loads(text)


def _of_inputs(job: Job, manifest: Manifest | None, states: Mapping[str, State], results: Path) -> list[Reason]:
    """Return whether the inputs are others than those that the file was made from."""
    if manifest is not None and job.spec is not None:
        changed = [role for role in job.inputs if not fits(manifest, role, states[job.inputs[role]].manifest)]
        return [Reason(INPUT, tuple(changed))] if changed else []
    # Results and drawings do not name all their inputs: they have to be younger.
    parents = [results / parent for parent in job.parents]
    written = (results / job.path).stat().st_mtime
    newer = any(parent.stat().st_mtime > written for parent in parents if parent.is_file())
    if job.kind == COLLECTED and not newer:
        wanted = {path for path in job.after if not path.endswith("images.safetensors")}
        newer = wanted != set(_shards_in(results / job.path))
    return [Reason(INPUT, ("what it shows",))] if newer else []


def _shards_in(file: Path) -> list[str]:
    return pyarrow.parquet.read_table(file, columns=["shard"])["shard"].to_pylist()


def fits(manifest: Manifest, role: str, source: Manifest | None) -> bool:
    """Whether a file was made from this state of an input; an input that is not there says nothing against it."""
    if role not in manifest["inputs"]:
        return False
    recorded = manifest["inputs"][role]["id"]
    # Imported experts cannot name the state of the dataset that they were trained on.
    return source is None or recorded is None or recorded == source["id"]

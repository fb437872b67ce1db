"""Which files are there and still what the configuration and the code would make.

Artifacts say so themselves, in their manifests; of drawings Snakemake's own records do.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pyarrow.parquet

from elf.artifacts.code import code_of
from elf.artifacts.fingerprint import PACKAGE, changed, code_id
from elf.artifacts.manifest import Manifest, read_manifest
from elf.data.sources.layouts import source_state
from elf.errors import ElfError
from elf.specs import kinds
from elf.specs.kinds import COLLECTED, DRAWN, KINDS
from elf.status.jobs import Job, named, paths_of
from elf.status.records import Records
from elf.study.images import prepared_without_images
from elf.study.plan import Plan

PROJECT = PACKAGE.parent

MISSING, DAMAGED, SETTINGS, CODE, INPUT, FOLLOWS = "missing", "damaged", "settings", "code", "input", "follows"
CAUSES = (MISSING, DAMAGED, SETTINGS, CODE, INPUT, FOLLOWS)
"""Why a job has to run: its file is missing or damaged; was made with other settings, other code, or from another
state of an input; or it follows on a job that has to run."""


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
    lacks : str or None
        A file from elsewhere without which the job cannot run: what is there of it stays as it is.
    """

    manifest: Manifest | None
    reasons: tuple[Reason, ...]
    lacks: str | None = None

    @property
    def done(self) -> bool:
        """Whether nothing is left to do: the file is as it has to be, or gone and not needed, or cannot be made."""
        return not self.reasons or self.lacks is not None

    @property
    def first(self) -> str | None:
        """The cause that counts where there are several: a missing file is not also stale."""
        return None if self.done else min((reason.cause for reason in self.reasons), key=CAUSES.index)

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
    records = Records(results)
    for path, job in jobs.items():
        manifest, reasons = _own(job, results, data_folder, records)
        if manifest is not None or not reasons:
            reasons += _of_inputs(job, manifest, states, results, records)
        states[path] = State(manifest, tuple(reasons), _lacked(job, states, results))
    to_do = _to_do(jobs, states)
    return {path: _with_waiting(job, states[path], jobs, to_do) for path, job in jobs.items()}


def _lacked(job: Job, states: Mapping[str, State], results: Path) -> str | None:
    """Return the missing file from elsewhere without which a job cannot run, if there is one."""
    gone = [file for file in job.given.values() if not elsewhere(results, file).is_file()]
    parents = [parent for parent in job.parents if states[parent].lacks and not (results / parent).is_file()]
    return next(iter([*gone, *(states[parent].lacks for parent in parents)]), None)


def elsewhere(results: Path, file: str) -> Path:
    """Return where a file lies whose path starts where the workflow runs."""
    return results.parent.parent / file


def check_can_run(plan: Plan, jobs: Mapping[str, Job], states: Mapping[str, State], targets: Iterable[str]) -> None:
    """Raise an error if a target needs a file from elsewhere that is missing, just where Snakemake raises one.

    What is there stays as it is when its job cannot run. It is an error if it is not there, or asked for by its path.

    Parameters
    ----------
    plan : Plan
    jobs, states : dict
        Those that the targets need.
    targets : iterable of str
        As for `elf.status.jobs.selected`.
    """
    for target in targets or ("all",):
        asked = named(plan, jobs, target)
        if asked is None:
            asked = paths_of(plan, jobs, target)
        else:
            asked = [path for path in asked if jobs[path].group == DRAWN and states[path].details(MISSING) is not None]
        lacked = next((states[path].lacks for path in asked if states[path].lacks), None)
        if lacked is not None:
            maker = next(job for job in jobs.values() if lacked in job.given.values())
            raise ElfError(
                f"{lacked}: there is no such file, and {maker.path} is made from it; bring it back, or import it again "
                f"('elf import --name {maker.spec.method} --force')"
            )


def _to_do(jobs: Mapping[str, Job], states: Mapping[str, State]) -> set[str]:
    """Return the jobs that have to run, as Snakemake sees it.

    Whatever is stale, whatever waits for a job that runs, and what is missing, if nothing else is made from it or if
    something that runs is. A teacher's training runs for its checkpoints alone.
    """
    # Drawings are asked for themselves.
    used = {parent for job in jobs.values() for parent in job.parents if jobs[parent].group != DRAWN}
    trainings = {path for path, job in jobs.items() if job.kind == kinds.TRAININGS.name}
    missing = {path for path, state in states.items() if state.first == MISSING} - trainings
    to_do = {path for path, state in states.items() if not state.done and (path not in missing or path not in used)}
    to_do -= trainings
    before = -1
    while len(to_do) != before:
        before = len(to_do)
        for path in reversed(jobs):
            if path in to_do:
                to_do |= missing.intersection(jobs[path].parents)
        able = (path for path in jobs if path not in trainings and states[path].lacks is None)
        to_do |= {path for path in able if to_do.intersection(_waited_for(jobs[path]))}
    asked = {parent for path in to_do for parent in jobs[path].after} & trainings
    return to_do | {path for path in asked if states[path].reasons or to_do.intersection(jobs[path].parents)}


def _waited_for(job: Job) -> Collection[str]:
    """Return what makes a job run when it runs: a checkpoint that is there stays when its training runs for another."""
    return job.inputs.values() if job.kind == kinds.CHECKPOINTS.name else job.parents


def _with_waiting(job: Job, state: State, jobs: Mapping[str, Job], to_do: set[str]) -> State:
    if state.lacks is not None:
        return state
    if job.path not in to_do:
        return State(state.manifest, ())
    waits = dict.fromkeys(jobs[parent].kind for parent in _waited_for(job) if parent in to_do)
    return State(state.manifest, (*state.reasons, *([Reason(FOLLOWS, tuple(waits))] if waits else [])))


def _own(job: Job, results: Path, data_folder: Path, records: Records) -> tuple[Manifest | None, list[Reason]]:
    """Return the manifest, and what of file, settings and code speaks for making the file again."""
    file, kind = results / job.path, KINDS[job.kind]
    # The card of a dataset is no reason to prepare it again.
    if not all((results / path).is_file() for path in (job.files if job.spec is None else [job.path])):
        return None, [Reason(MISSING)]
    told = records.params(job.path)
    reasons = []
    if told is not None and job.digest is not None and job.digest() not in told:
        reasons.append(Reason(SETTINGS, ("what it shows",)))
    if kind.manifest is None:
        if told is not None and code_id(code_of(kind, job.name)) not in told:
            reasons.append(Reason(CODE, ("what draws it",)))
        return None, reasons
    try:
        manifest = read_manifest(file, kind.manifest)
    except ElfError as error:
        return None, [Reason(DAMAGED, (str(error),))]
    if kind is kinds.DATASETS and prepared_without_images(job.spec, data_folder, results):
        return manifest, []
    if settings := list(_changed_settings(job, manifest, data_folder)):
        reasons.append(Reason(SETTINGS, tuple(settings)))
    if definitions := changed_definitions(job, manifest):
        reasons.append(Reason(CODE, definitions))
    return manifest, reasons


def _changed_settings(job: Job, manifest: Manifest, data_folder: Path) -> Iterator[str]:
    if job.spec is None:
        return
    made, wanted = manifest["spec"], job.spec.model_dump(mode="json")
    if job.kind == kinds.CHECKPOINTS.name:
        wanted["epoch"] = job.epochs[0]
    yield from _differing(wanted, made)
    if job.kind == kinds.TRAININGS.name and not {*map(str, job.epochs)} <= made["test_accuracy"].keys():
        yield "epochs"
    if job.kind == kinds.DATASETS.name and "source_state" in made:
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
    return changed(_digests(code_of(KINDS[job.kind], job.spec or job.name)), manifest["code"])


@cache
def _digests(text: str) -> dict[str, str]:
    return json.loads(text)


def _of_inputs(
    job: Job, manifest: Manifest | None, states: Mapping[str, State], results: Path, records: Records
) -> list[Reason]:
    """Return whether the inputs are others than those that the file was made from."""
    if manifest is not None and job.spec is not None:
        sources = {role: states[path].manifest for role, path in job.inputs.items()}
        sources |= {role: given_manifest(results, file) for role, file in job.given.items()}
        changed = [role for role, source in sources.items() if not fits(manifest, role, source)]
        return [Reason(INPUT, tuple(changed))] if changed else []
    # Results and drawings do not name all their inputs: they have to be younger, or as Snakemake saw them.
    shown = [results / parent for parent in job.parents]
    shown += [file for pattern in KINDS[job.kind].shows for file in sorted(PROJECT.glob(pattern))]
    newer = any(records.is_newer(file, job.path) for file in shown if file.is_file())
    if job.group == COLLECTED and not newer:
        wanted = {path for path in job.after if not path.endswith(kinds.IMAGES)}
        newer = wanted != set(_shards_in(results / job.path))
    return [Reason(INPUT, ("what it shows",))] if newer else []


def given_manifest(results: Path, file: str) -> Manifest | None:
    """Return the manifest of a file from elsewhere; None if it is missing or damaged."""
    try:
        return read_manifest(elsewhere(results, file))
    except ElfError:
        return None


def _shards_in(file: Path) -> list[str]:
    return pyarrow.parquet.read_table(file, columns=["shard"])["shard"].to_pylist()


def fits(manifest: Manifest, role: str, source: Manifest | None) -> bool:
    """Whether a file was made from this state of an input; an input that is not there says nothing against it."""
    if role not in manifest["inputs"]:
        return False
    recorded = manifest["inputs"][role]["id"]
    # Imported experts cannot name the state of the dataset that they were trained on.
    return source is None or recorded is None or recorded == source["id"]

"""Putting the finished files of a scale into a folder."""

import glob
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet
import safetensors

from elf.artifacts.checkpoints import Checkpoint
from elf.artifacts.manifest import Manifest, read_manifest
from elf.artifacts.tables import read_table
from elf.artifacts.tensors import read_tensors
from elf.errors import ElfError
from elf.packing.contents import (
    CARD,
    CONTENTS,
    FORMAT,
    IMPORTED,
    RECIPE,
    STATE,
    Contents,
    Entry,
    LeftOut,
    checksum,
    copy,
    read_contents,
    write_contents,
)
from elf.packing.records import MODELS, read_record
from elf.specs.kinds import KINDS
from elf.status.jobs import Job, jobs_of
from elf.study.plan import Plan

TRAININGS, CHECKPOINTS = "teacher trainings", "teacher checkpoints"


@dataclass(frozen=True)
class Limits:
    """What is too large for a pack, in bytes: a teacher's checkpoint or an expert, and a prepared data set."""

    checkpoint: int
    dataset: int

    def allows(self, kind: str, size: int) -> bool:
        """Return whether a file of this kind and size is packed."""
        if kind == "datasets":
            return size <= self.dataset
        return kind not in (CHECKPOINTS, "experts") or size <= self.checkpoint


def pack(plan: Plan, folder: Path, limits: Limits, *, running: bool = False, config: Path = Path("config")) -> Contents:
    """Copy the finished files of a scale into a folder; what an earlier pack there holds besides is removed.

    Jobs may go on meanwhile: what is made from a file is looked for before the file itself, so that nothing comes
    without its inputs.

    Parameters
    ----------
    plan : Plan
    folder : Path
        New, empty, or an earlier pack of the same scale.
    limits : Limits
    running : bool
        Whether the states of interrupted jobs belong to it.
    config : Path
        Where the recipes of imported sets lie.

    Raises
    ------
    ElfError
        If a file is damaged, or the folder holds something else.
    """
    before = _earlier(folder, plan.settings.name)
    jobs, entries, left_out = jobs_of(plan), [], []
    if running:
        entries += [_copied(file, folder, STATE, before) for file in _states(plan, jobs)]
    for job in reversed(jobs.values()):
        file = plan.folder / job.path
        if job.spec is None or not file.is_file():
            continue
        if job.kind == TRAININGS:
            if running and _is_wanted(job, jobs, plan):
                entries.append(_copied(file, folder, KINDS[job.kind].manifest, before))
        elif limits.allows(job.kind, file.stat().st_size):
            entries.append(_copied(file, folder, KINDS[job.kind].manifest, before))
        else:
            left_out.append(_left_out(file, job))
        card = file.with_name("card.json")
        if job.kind == "datasets" and card.is_file():
            entries.append(_copied(card, folder, CARD, before))
    entries += [_copied(file, folder, kind, before) for file, kind in _imported(plan, config)]
    contents = Contents(format=FORMAT, scale=plan.settings.name, files=entries[::-1], left_out=left_out[::-1])
    write_contents(folder, contents)
    for path in before.keys() - {entry.path for entry in entries}:
        (folder / path).unlink(missing_ok=True)
    return contents


def _earlier(folder: Path, scale: str) -> dict[str, Entry]:
    """Return the files of an earlier pack by their path."""
    if (folder / CONTENTS).is_file():
        earlier = read_contents(folder)
        if earlier.scale != scale:
            raise ElfError(f"{folder}: is a pack of the scale {earlier.scale}; name another folder for {scale}")
        return {entry.path: entry for entry in earlier.files}
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ElfError(f"{folder}: is there and no pack; name a new or an empty folder")
    return {}


def _copied(file: Path, folder: Path, kind: str, before: Mapping[str, Entry]) -> Entry:
    """Copy and verify one file; one that the earlier pack holds unchanged stays."""
    path = file.as_posix()
    target, earlier, status = folder / path, before.get(path), file.stat()
    unchanged = earlier and (earlier.bytes, earlier.modified_ns) == (status.st_size, status.st_mtime_ns)
    if unchanged and target.is_file() and checksum(target) == earlier.sha256:
        return earlier
    digest, size, modified = copy(file, target)
    try:
        manifest = verified(target, kind)
    except ElfError as error:
        target.unlink()
        raise ElfError(str(error).replace(str(target), path)) from error
    record = read_record(path, manifest) if manifest and manifest["kind"] in MODELS else {}
    return Entry(path=path, kind=kind, sha256=digest, bytes=size, modified_ns=modified, record=record)


def verified(file: Path, kind: str) -> Manifest | None:
    """Read a whole file and hold it against its own checksums; return its manifest, None for kinds without.

    Raises
    ------
    ElfError
        If it is damaged or something else.
    """
    if kind in (CARD, RECIPE):
        return None
    if kind == STATE:
        if Checkpoint(file, _key_of(file)).load() is None:
            raise ElfError(f"{file}: the state of a job is damaged; delete it, the job starts afresh")
        return None
    if file.suffix != ".parquet":
        return read_tensors(file, kind)[1]
    read_manifest(file, kind)
    return read_table(file, kind, pyarrow.parquet.read_schema(file))[1]


def _key_of(file: Path) -> str:
    """Return the key of a job's state; empty if it has none, which fits no state."""
    try:
        with safetensors.safe_open(file, framework="np") as stream:
            return (stream.metadata() or {}).get("key", "")
    except (OSError, safetensors.SafetensorError):
        return ""


def _left_out(file: Path, job: Job) -> LeftOut:
    manifest, status = read_manifest(file, KINDS[job.kind].manifest), file.stat()
    return LeftOut(
        path=file.as_posix(),
        bytes=status.st_size,
        modified_ns=status.st_mtime_ns,
        manifest=manifest,
        record=read_record(file.as_posix(), manifest),
    )


def _states(plan: Plan, jobs: Mapping[str, Job]) -> Iterator[Path]:
    """Yield the files from which jobs continue whose output is not there."""
    for job in jobs.values():
        file = plan.folder / job.path
        unfinished = _is_wanted(job, jobs, plan) if job.kind == TRAININGS else not file.is_file()
        if job.spec is not None and unfinished:
            # The seeds of an evaluation that come one after the other have a state each.
            name = glob.escape(f".{file.name}")
            yield from (*file.parent.glob(f"{name}.resume"), *sorted(file.parent.glob(f"{name}.*.resume")))


def _is_wanted(training: Job, jobs: Mapping[str, Job], plan: Plan) -> bool:
    """Return whether a checkpoint of a teacher is still to be cut out of its training."""
    checkpoints = [path for path, job in jobs.items() if job.kind == CHECKPOINTS and training.path in job.after]
    return not all((plan.folder / path).is_file() for path in checkpoints)


def _imported(plan: Plan, config: Path) -> Iterator[tuple[Path, str]]:
    """Yield the files of imported sets of the grid, and their recipes."""
    specs = [spec for spec in plan.grid.synthetic_sets.values() if spec.module == "imported"]
    for name in sorted({spec.recipe["file"] for spec in specs}):
        if Path(name).is_file():
            yield Path(name), IMPORTED
    for method in sorted({spec.method for spec in specs}):
        yield config / "recipes" / f"{method}.yaml", RECIPE

"""Putting a pack into the results of a clone, so that its workflow goes on from there."""

import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from elf.artifacts.manifest import Manifest, is_made, read_manifest
from elf.data.sources.layouts import TORCHVISION_FOLDERS
from elf.errors import ElfError
from elf.packing.agreement import agree
from elf.packing.contents import (
    CARD,
    RECIPE,
    STATE,
    Contents,
    Entry,
    LeftOut,
    checksum,
    copy,
    read_contents,
)
from elf.packing.packing import verified
from elf.packing.records import MODELS, outputs_of, params_now, params_of, read_record, write_record
from elf.specs.dataset import DatasetSpec
from elf.status.jobs import Job, jobs_of
from elf.status.states import fits
from elf.study.config_reading import read_yaml
from elf.study.images import data_folder, missing_data
from elf.study.plan import Plan

TRAINING = "training.safetensors"


@dataclass(frozen=True)
class Unpacked:
    """What unpacking did.

    Attributes
    ----------
    contents : Contents
    written, kept, withheld : tuple of str
        Files of the pack that were written, that were there already, and that were made from something which is not
        in the pack and would be made otherwise here.
    stale : tuple of str
        Files of the pack that have to be made again.
    """

    contents: Contents
    written: tuple[str, ...]
    kept: tuple[str, ...]
    withheld: tuple[str, ...]
    stale: tuple[str, ...]


def unpack(
    folder: Path,
    make_plan: Callable[[str], Plan],
    prepare: Callable[[list[str]], None],
    say: Callable[[str], None],
    *,
    force: bool = False,
) -> Unpacked:
    """Write the files of a pack where the workflow looks for them, with their times and Snakemake's records.

    Nothing is written before every checksum was compared. Data sets that are not in the pack are prepared from their
    images. A record holds what the manifest says that the file was made with, so that Snakemake makes it again where
    configuration or code are others.

    Parameters
    ----------
    folder : Path
    make_plan : callable (str) -> Plan
        Reads the configuration of a scale; called once its imported sets have their recipes.
    prepare : callable (list of str) -> None
        The command that prepares a data set, given its arguments.
    say : callable (str) -> None
        Prints a line.
    force : bool
        Whether files that are there and hold something else are replaced.

    Raises
    ------
    ElfError
        If the pack is damaged, or a file that is there holds something else.
    """
    contents = read_contents(folder)
    manifests = {entry.path: _intact(folder, entry) for entry in contents.files}
    there = {entry.path for entry in contents.files if _is_there(folder, entry, manifests[entry.path])}
    needed = {entry.path for entry in contents.files if _is_needed(entry, manifests)}
    written = needed - there
    _check_conflicts(written, force)
    for entry in contents.files:
        if entry.kind == RECIPE and entry.path in written:
            _write(folder, entry)
    plan = make_plan(contents.scale)
    jobs = {str(plan.folder / path): job for path, job in jobs_of(plan).items() if job.spec is not None}
    for file in contents.left_out:
        if file.path in jobs and jobs[file.path].kind == "datasets":
            _prepare(file, jobs[file.path].spec, prepare, say)
    withheld = _behind_what_changed(contents, jobs, plan) & written
    # Records first: without one, Snakemake would take a stale file as it is.
    _write_records(contents, manifests, written - withheld, there)
    for entry in contents.files:
        if entry.kind != RECIPE and entry.path in written - withheld:
            _write(folder, entry)
    stale = agree(plan, jobs)
    return Unpacked(
        contents,
        written=tuple(sorted(written - withheld)),
        kept=tuple(sorted(there)),
        withheld=tuple(sorted(withheld)),
        stale=tuple(sorted(stale & manifests.keys())),
    )


def _intact(folder: Path, entry: Entry) -> Manifest | None:
    """Return the manifest of a file of the pack."""
    file = folder / entry.path
    if not file.is_file():
        raise ElfError(f"{file}: is missing; copy the pack again")
    if checksum(file) != entry.sha256:
        raise ElfError(f"{file}: is damaged (its checksum does not fit that of the pack); copy the pack again")
    return verified(file, entry.kind)


def _is_there(folder: Path, entry: Entry, manifest: Manifest | None) -> bool:
    """Return whether the clone has a file already, or one that was made of the same and holds the same."""
    file = Path(entry.path)
    if not file.is_file():
        return False
    if checksum(file) == entry.sha256:
        return True
    if entry.kind == RECIPE:
        values = [read_yaml(path).get("values", {}) for path in (file, folder / entry.path)]
        return values[0].get("id") == values[1].get("id")
    if entry.kind == "dataset":
        return _id_of(file) == manifest["id"]
    return manifest is not None and is_made(file, manifest)


def _id_of(dataset: Path) -> str | None:
    """Return the identifier of a prepared data set, which versions of libraries do not change."""
    try:
        return read_manifest(dataset, "dataset")["id"]
    except ElfError:
        return None


def _is_needed(entry: Entry, packed: Collection[str]) -> bool:
    """Return whether a file has a use here: a state if its job is not done, a card beside the images that it is of."""
    file = Path(entry.path)
    if entry.kind == CARD:
        return str(file.with_name("images.safetensors")) in packed
    if entry.kind != STATE:
        return True
    output = re.match(r"\.(.+?\.(?:safetensors|parquet))\.", file.name)[1]
    # The training of a teacher goes on beside a file with fewer epochs.
    return output == TRAINING or not file.with_name(output).is_file()


def _check_conflicts(paths: set[str], force: bool) -> None:
    others = sorted(path for path in paths if Path(path).exists())
    if others and not force:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise ElfError(f"{others[0]}{more}: is there with another content; move it, or replace it with --force")


def _write(folder: Path, entry: Entry) -> None:
    digest, _, _ = copy(folder / entry.path, Path(entry.path))
    if digest != entry.sha256:
        Path(entry.path).unlink()
        raise ElfError(f"{folder / entry.path}: changed while it was unpacked; unpack again")
    os.utime(entry.path, ns=(entry.modified_ns, entry.modified_ns))


def _prepare(
    file: LeftOut, spec: DatasetSpec, prepare: Callable[[list[str]], None], say: Callable[[str], None]
) -> None:
    """Prepare a data set that is not in the pack, so that Snakemake does not: it would make all behind it anew."""
    images = Path(file.path)
    if images.is_file():
        return
    to_download = TORCHVISION_FOLDERS.get(spec.name.partition("-")[0], "") if spec.source == "torchvision" else ""
    missing = missing_data(spec, data_folder())
    if missing is None and to_download and not (data_folder() / to_download).is_dir():
        missing = f"there is no folder {to_download!r} in the data folder {data_folder()} (ELF_DATA_DIR)"
    if missing:
        raise ElfError(
            f"{spec.name}: is not in the pack, and is to be prepared before the rest is unpacked: {missing}; "
            "put its images there and unpack again"
        )
    say(f"{spec.name} is not in the pack; preparing it from its images")
    where = ["--data-folder", str(data_folder()), "--images", str(images), "--card", str(images.with_name("card.json"))]
    prepare(["--settings", spec.canonical(), *where])
    manifest = read_manifest(images, "dataset")
    for output in outputs_of(file.path, manifest):
        write_record(output, manifest, file.record)
    if manifest["id"] != file.manifest["id"]:
        say(f"{spec.name} has another content here, so that everything made from it has to be made again")


def _behind_what_changed(contents: Contents, jobs: Mapping[str, Job], plan: Plan) -> set[str]:
    """Return what was made from files that are neither in the pack nor here, and would be made otherwise here.

    Nothing on the disk would say so any more.
    """
    changed: set[str] = set()
    for file in contents.left_out:
        job = jobs.get(file.path)
        if job is None or Path(file.path).exists():
            continue
        sources = {role: plan.folder / source for role, source in job.inputs.items()}
        others = [
            role
            for role, source in sources.items()
            if not fits(file.manifest, role, read_manifest(source) if source.is_file() else None)
        ]
        if others or params_of(file.manifest) != params_now(job, data_folder()):
            changed.add(file.path)
    for path, job in jobs.items():
        if changed.intersection(str(plan.folder / parent) for parent in job.inputs.values()):
            changed.add(path)
    return changed


def _write_records(
    contents: Contents, manifests: Mapping[str, Manifest | None], written: set[str], there: set[str]
) -> None:
    for entry in contents.files:
        manifest = manifests[entry.path]
        if manifest is None or manifest["kind"] not in MODELS or manifest["kind"] == "teacher training":
            continue
        for path in outputs_of(entry.path, manifest):
            if entry.path in written or (entry.path in there and not read_record(path, manifest)):
                write_record(path, manifest, entry.record)
    for file in contents.left_out:
        # What was made from it becomes stale when its settings do, although the file itself is not there.
        if not Path(file.path).exists():
            write_record(file.path, file.manifest, file.record)

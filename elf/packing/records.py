"""Snakemake's records of finished jobs: which settings and which code a file was made with.

Without a record Snakemake takes a file as it is, however it was made. So whoever puts a file into a results folder
writes its record, and takes it from the manifest inside the file, which says what the file was really made with.
The format is that of Snakemake's store of files (``snakemake/persistence/file.py``).
"""

import json
from pathlib import Path
from typing import Any

from elf.artifacts.code import code_of
from elf.artifacts.files import write_text
from elf.artifacts.fingerprint import code_id
from elf.artifacts.manifest import Manifest
from elf.data.sources.layouts import source_state
from elf.specs import kinds
from elf.specs.base import canonical_json
from elf.specs.kinds import KINDS
from elf.status.jobs import Job
from elf.status.records import STORE, place

FORMAT = 6
"""``RECORD_FORMAT_VERSION`` of Snakemake: from this on its records hold parameters that it compares."""
KEPT = ("rule", "code", "input")
"""What a record says that a manifest does not: the rule, its shell command, and the names of the inputs."""

MODELS = {kind.manifest: kind.spec for kind in KINDS.values() if kind.spec is not None}


def params_of(manifest: Manifest) -> list[str]:
    """Return the parameters that the job of a file had, as Snakemake writes them."""
    fields = MODELS[manifest["kind"]].model_fields
    settings = {key: value for key, value in manifest["spec"].items() if key in fields}
    params: list[Any] = [canonical_json(settings), manifest["code_id"]]
    if manifest["kind"] == "dataset":
        params.append(manifest["spec"].get("source_state", []))
    return sorted(map(repr, params))


def params_now(job: Job, data_folder: Path) -> list[str]:
    """Return the parameters that the job of a file would have now."""
    params: list[Any] = [job.spec.canonical(), code_id(code_of(KINDS[job.kind], job.spec))]
    if job.kind == kinds.DATASETS.name:
        params.append(source_state(job.spec.source, data_folder / (job.spec.location or "")))
    return sorted(map(repr, params))


def outputs_of(file: str, manifest: Manifest) -> list[str]:
    """Return the outputs of the job that made a file: each has a record."""
    return [file, str(Path(file).with_name("card.json"))] if manifest["kind"] == "dataset" else [file]


def read_record(file: str, manifest: Manifest, store: Path = STORE) -> dict[str, Any]:
    """Return what Snakemake's record of a file says besides the parameters; empty if it has none of what lies there.

    Parameters
    ----------
    file : str
        Path from where the workflow runs, as the rules name it.
    manifest : dict
        Of the file. A record of other settings or code is that of another file.
    store : Path
    """
    try:
        record = json.loads(place(file, store).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(record, dict) or record.get("params") != params_of(manifest):
        return {}
    return {key: record[key] for key in KEPT if record.get(key) is not None}


def write_record(
    file: str, manifest: Manifest, kept: dict[str, Any], stale: str | None = None, store: Path = STORE
) -> None:
    """Write the record of a file.

    Parameters
    ----------
    file : str
        Path from where the workflow runs.
    manifest : dict
        Of the file.
    kept : dict
        From `read_record`, where the file was made.
    stale : str, optional
        Why the file has to be made again, whatever its settings and code are.
    store : Path
    """
    params = [*params_of(manifest), *([repr(stale)] if stale else [])]
    # Snakemake takes a store without this folder for one of an older version.
    (store / "incomplete").mkdir(parents=True, exist_ok=True)
    record = {"record_format_version": FORMAT, "incomplete": False, "params": params, "input_checksums": {}} | kept
    write_text(place(file, store), json.dumps(record))

"""Snakemake's records of finished jobs: which settings and which code a file was made with.

Without a record Snakemake takes a file as it is, however it was made. So whoever puts a file into a results folder
writes its record, and takes it from the manifest inside the file, which says what the file was really made with.
The format is that of Snakemake's store of files (``snakemake/persistence/file.py``).
"""

import json
import os
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

from elf.artifacts.manifest import Manifest
from elf.data.sources.layouts import source_state
from elf.files import write_text
from elf.planning.jobs import Job
from elf.planning.measuring import FILES
from elf.planning.states import CODE_OF, MANIFEST_KINDS
from elf.specs.base import canonical_json

STORE = Path(".snakemake")
FORMAT = 6
"""``RECORD_FORMAT_VERSION`` of Snakemake: from this on its records hold parameters that it compares."""
KEPT = ("rule", "code", "input")
"""What a record says that a manifest does not: the rule, its shell command, and the names of the inputs."""

MODELS = {MANIFEST_KINDS[kind]: model for kind, (_, model, _) in FILES.items()}
MODELS["teacher checkpoint"] = MODELS["teacher training"]


def params_of(manifest: Manifest) -> list[str]:
    """Return the parameters that the job of a file had, as Snakemake writes them."""
    fields = MODELS[manifest["kind"]].model_fields
    settings = {key: value for key, value in manifest["spec"].items() if key in fields}
    params: list[Any] = [canonical_json(settings), canonical_json(manifest["code"])]
    if manifest["kind"] == "dataset":
        params.append(manifest["spec"].get("source_state", []))
    return sorted(map(repr, params))


def params_now(job: Job, data_folder: Path) -> list[str]:
    """Return the parameters that the job of a file would have now."""
    params: list[Any] = [job.spec.canonical(), CODE_OF[job.kind](job.spec)]
    if job.kind == "datasets":
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
        record = json.loads(_place(file, store).read_text(encoding="utf-8"))
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
    params = [*params_of(manifest), *([stale] if stale else [])]
    # Snakemake takes a store without this folder for one of an older version.
    (store / "incomplete").mkdir(parents=True, exist_ok=True)
    record = {"record_format_version": FORMAT, "incomplete": False, "params": params, "input_checksums": {}} | kept
    write_text(_place(file, store), json.dumps(record))


def _place(file: str, store: Path) -> Path:
    """Return where the record of a file lies; long names are folders and a file."""
    name, longest = urlsafe_b64encode(file.encode()).decode(), _longest_name() - 1
    parts = [name[start : start + longest] for start in range(0, len(name), longest)]
    return store.joinpath("metadata", *(f"@{part}" for part in parts[:-1]), parts[-1])


def _longest_name() -> int:
    return os.pathconf(".", "PC_NAME_MAX") or 255

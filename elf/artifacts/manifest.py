"""The manifest that every artifact carries inside its file.

It says what the file is made of (specification, inputs, code) and how it was made (versions, device, time,
memory, speed), and holds a checksum of the content that every reader verifies.
"""

import hashlib
import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import safetensors

from elf.artifacts.fingerprint import code_id
from elf.errors import ElfError
from elf.specs.base import canonical_json

MANIFEST = "elf_manifest"
IDENTIFIER_LENGTH = 16
VERSIONS = ("torch", "numpy", "pyarrow", "safetensors", "scikit-learn")

Manifest = dict[str, Any]


def describe(kind: str, spec: Mapping, *, inputs: Mapping[str, Manifest], code: str, measured: Mapping) -> Manifest:
    """Return a manifest, still without the identifier that the content gives.

    Parameters
    ----------
    kind : str
        For example ``"synthetic set"``.
    spec : mapping
        All that determines the artifact, besides its inputs and code.
    inputs : mapping of str to manifest
        Manifests of the artifacts it was made from, by role. Their identifiers are the lineage.
    code : str
        Fingerprint of the code that made it (JSON).
    measured : mapping
        What making it took, as `elf.running.job.Job.measured` gives it. What an older file does not say is unknown.
    """
    return {
        "kind": kind,
        "spec": dict(spec),
        "inputs": {role: {"kind": m["kind"], "id": m["id"]} for role, m in inputs.items()},
        "code": json.loads(code),
        "code_id": code_id(code),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in VERSIONS},
        "measured": dict(measured),
    }


def sealed(manifest: Manifest, checksums: Mapping[str, str], content: Mapping[str, str] | None = None) -> Manifest:
    """Return the manifest with the checksums of its content, its identifier, and a seal over itself.

    Parameters
    ----------
    manifest : dict
        From `describe`.
    checksums : mapping of str to str
        What every reader verifies.
    content : mapping of str to str, optional
        Checksums that give the identifier, where something in the file, such as a duration, should not.
    """
    manifest = manifest | {"checksums": dict(checksums), "id": identifier(content or checksums)}
    manifest.pop("seal", None)
    return manifest | {"seal": seal_of(manifest)}


def seal_of(manifest: Manifest) -> str:
    """Return a digest of a manifest or of another dictionary, but for its own seal."""
    unsealed = {key: value for key, value in manifest.items() if key != "seal"}
    return hashlib.sha256(canonical_json(unsealed).encode()).hexdigest()[:IDENTIFIER_LENGTH]


def read_manifest(path: Path, kind: str | None = None) -> Manifest:
    """Read and verify the manifest of a safetensors or parquet artifact, without its content."""
    path = Path(path)
    if not path.is_file():
        raise ElfError(f"{path}: there is no such file; make it with 'snakemake {path}'")
    try:
        if path.suffix == ".parquet":
            metadata = pyarrow.parquet.read_schema(path).metadata or {}
            text = metadata.get(MANIFEST.encode())
        else:
            with safetensors.safe_open(path, framework="np") as file:
                text = (file.metadata() or {}).get(MANIFEST)
        manifest = None if text is None else json.loads(text)
    except (OSError, ValueError, safetensors.SafetensorError, pyarrow.ArrowException) as error:
        raise damaged(path, error) from error
    if manifest is None:
        raise ElfError(f"{path}: carries no manifest, so nobody can say where it came from; delete it and start again")
    if not isinstance(manifest, dict) or manifest.get("seal") != seal_of(manifest):
        raise damaged(path, "its manifest does not fit its seal")
    if kind is not None and manifest["kind"] != kind:
        raise ElfError(f"{path}: is a {manifest['kind']}, expected a {kind}")
    return manifest


def is_made(path: Path, manifest: Manifest) -> bool:
    """Return whether a file is there that says of itself that it was made of the same and holds the same.

    Then another run of the same job was faster, one on a node that was cut off, for instance. Its file should stay:
    a newer one would look as if it came after what was made from the first.
    """
    try:
        there = read_manifest(path)
    except ElfError:
        return False
    same = ("kind", "spec", "inputs", "code", "versions", "id")
    return {key: there.get(key) for key in same} == {key: manifest[key] for key in same}


def identifier(checksums: Mapping[str, str]) -> str:
    return hashlib.sha256(canonical_json(dict(checksums)).encode()).hexdigest()[:IDENTIFIER_LENGTH]


def damaged(path: Path, reason: object) -> ElfError:
    return ElfError(f"{path}: is damaged or was altered ({reason}); delete it and start again, it will be made anew")

"""What Snakemake recorded of the files that it made: parameters of their jobs, and digests of small inputs.

Drawings carry no manifest, so that nothing else says with which code and settings they were made.
"""

import hashlib
import json
import os
from ast import literal_eval
from base64 import urlsafe_b64encode
from pathlib import Path

STORE = Path(".snakemake")
"""Where Snakemake keeps them, in the folder in which the workflow runs."""


def place(file: str, store: Path) -> Path:
    """Return where the record of a file lies; parts of long names are folders.

    Parameters
    ----------
    file : str
        Path from where the workflow runs, as the rules name it.
    store : Path
    """
    name, longest = urlsafe_b64encode(file.encode()).decode(), _longest_name() - 1
    *parts, last = [name[start : start + longest] for start in range(0, len(name), longest)]
    return store.joinpath("metadata", *(f"@{part}" for part in parts), last)


def _longest_name() -> int:
    return os.pathconf(".", "PC_NAME_MAX") or 255


class Records:
    """Snakemake's records of a scale, each read once.

    Parameters
    ----------
    results : Path
        Results folder of the scale; two folders above it the workflow runs.
    """

    def __init__(self, results: Path) -> None:
        self._results = results
        self._folder = results.parent.parent
        self._known: dict[str, dict] = {}

    def params(self, path: str) -> list | None:
        """Return the parameters of the job that made a file below the results folder; None if none are recorded."""
        texts = self._record(path).get("params")
        return None if texts is None else [literal_eval(text) for text in texts]

    def is_newer(self, source: Path, path: str) -> bool:
        """Whether a source is newer than what was made from it, and not known to have the same content as then."""
        if source.stat().st_mtime <= (self._results / path).stat().st_mtime:
            return False
        recorded = self._record(path).get("input_checksums") or {}
        digest = recorded.get(os.path.relpath(source, self._folder))
        return digest is None or digest != f"sha256:{hashlib.sha256(source.read_bytes()).hexdigest()}"

    def _record(self, path: str) -> dict:
        if path not in self._known:
            file = self._results.relative_to(self._folder) / path
            record = place(file.as_posix(), self._folder / STORE)
            try:
                self._known[path] = json.loads(record.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                self._known[path] = {}
        return self._known[path]

"""Writing a report as a folder: what an earlier one left is removed, and nothing else."""

from collections.abc import Mapping
from pathlib import Path

from elf.artifacts.files import cannot_write, write_bytes, write_text

START = "index.html"
CONTENTS = "contents.txt"
"""List of the files of a report, one a line, so that a later one removes exactly these."""


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write the files of a report; ``index.html`` comes last, so that where it is, all the others are.

    Parameters
    ----------
    folder : Path
    files : dict of str to bytes
        By path below the folder, ``index.html`` among them.

    Raises
    ------
    ElfError
        If the folder cannot be written to.
    """
    earlier = _earlier(folder)
    try:
        (folder / START).unlink(missing_ok=True)
        write_text(folder / CONTENTS, "".join(f"{name}\n" for name in sorted({*earlier, *files})))
        for name in earlier - files.keys():
            _remove(folder, name)
        for parent in sorted({(folder / name).parent for name in files}):
            parent.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            if name != START:
                # Not atomically: hundreds of files would wait for the disk, and without the first page none counts.
                (folder / name).write_bytes(content)
    except OSError as error:
        raise cannot_write(folder / START, error) from error
    write_text(folder / CONTENTS, "".join(f"{name}\n" for name in sorted(files)))
    write_bytes(folder / START, files[START])


def _earlier(folder: Path) -> set[str]:
    """Return the files of the report that is there, as far as they lie below the folder."""
    try:
        names = (folder / CONTENTS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return set()
    inside = folder.resolve()
    return {name for name in names if name and (folder / name).resolve().is_relative_to(inside)} - {CONTENTS}


def _remove(folder: Path, name: str) -> None:
    file = folder / name
    if file.is_file():
        file.unlink()
    parent = file.parent
    while parent != folder and parent.is_dir() and not any(parent.iterdir()):
        parent.rmdir()
        parent = parent.parent

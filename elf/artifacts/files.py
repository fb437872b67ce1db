"""Writing files so that a half-written one never stands under its final name."""

import errno
import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from elf.errors import ElfError


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path in the folder of ``path`` and rename it when the block ends well.

    The content is on disk (fsync) before the rename. Two writers of the same file do not disturb each other:
    the last rename wins.

    Raises
    ------
    ElfError
        If the disk is full or the folder cannot be written to. Nothing is left behind.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(descriptor)
        temporary = Path(name)
        yield temporary
        with open(temporary, "rb+") as stream:
            os.fsync(stream.fileno())
        # mkstemp makes files for the owner only; results are meant to be read by a group.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def cannot_write(path: Path, error: OSError) -> ElfError:
    """Return an error that says why a file cannot be written, and what to do."""
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        reason = f"no space is left for {path.parent}; free some and start again"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        reason = f"{path.parent} is not writable ({error.strerror}); make it writable and start again"
    return ElfError(f"{path}: cannot be written: {reason}")


def bring_to_present(files: Iterable[Path]) -> list[Path]:
    """Set the times of files that lie in the future to now, and return these files.

    A node whose clock is ahead writes such files. Whatever is made from them looks older than they are, and Snakemake
    throws it away.
    """
    changed = []
    for file in files:
        now = time.time()
        try:
            if file.is_file() and file.stat().st_mtime > now:
                os.utime(file, (now, now))
                changed.append(file)
        except OSError:
            # Another process may have replaced it; a file that may not be changed stays as it is.
            continue
    return changed


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes atomically."""
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 text atomically."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write readable JSON atomically."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_bytes(path: Path) -> bytes:
    """Read a file; what is wrong with it ends as one line."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ElfError(f"{path}: cannot be read: {error.strerror}; make it with 'snakemake {path}'") from error


def read_json(path: Path) -> Any:
    """Read JSON; a damaged file ends as one line."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ElfError(f"{path}: cannot be read as JSON ({error}); delete it and start again") from error

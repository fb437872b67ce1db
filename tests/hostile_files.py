"""Files that do harm, or take gigabytes, when a careless reader loads them; and a reader whose memory is watched."""

import io
import multiprocessing
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from elf.errors import ElfError

MEGABYTES = 200
"""Memory that reading a file of a few bytes may take."""

WATCHED = Path("/proc/self/clear_refs").exists()


@pytest.fixture(scope="session")
def refused(other_processes) -> Callable[[Callable, Path], str]:
    """Function that returns the one line with which a reader refuses a file.

    It is read by a process of its own, whose memory is watched.
    """
    return _refused


def _refused(reader: Callable, path: Path) -> str:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_read_apart, args=(reader, path, theirs))
    process.start()
    theirs.close()
    message, megabytes = ours.recv()
    process.join()
    assert megabytes < MEGABYTES, f"{megabytes} MB for a file of {path.stat().st_size} bytes"
    assert message is not None, "the file was read"
    assert path.name in message and "\n" not in message and len(message) < 800, message
    return message


def _read_apart(reader: Callable, path: Path, pipe) -> None:
    torch.set_num_threads(1)
    if WATCHED:
        # What the parent once needed is not this reader's.
        Path("/proc/self/clear_refs").write_text("5")
    before, message = _peak(), None
    try:
        reader(path)
    except ElfError as error:
        message = str(error)
    pipe.send((message, (_peak() - before) // 1024))


def _peak() -> int:
    """Return the most memory that this process has had at once, in kB."""
    if not WATCHED:
        return 0
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


# --- pickles, written by hand -------------------------------------------------------------------------------------

START = b"\x80\x02"


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def text(content: str) -> bytes:
    encoded = content.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def short(content: str) -> bytes:
    return b"\x8c" + bytes([len(content)]) + content.encode()


def number(value: int) -> bytes:
    encoded = pickle.encode_long(value)
    return b"\x8a" + bytes([len(encoded)]) + encoded


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + b"(" + b"".join(arguments) + b"tR"


ENCODE = name("_codecs", "encode")


def longer(codec: str, times: int = 40) -> bytes:
    """Bytes of which a codec makes twice as many, again and again."""
    content = call(ENCODE, text("a" * 100), text("latin1"))
    for _ in range(times):
        content = call(ENCODE, content, text(codec))
    return content


def harmful_pickles(canary: Path) -> dict[str, bytes]:
    """Pickles that make the folder ``canary`` when they are loaded, however the function is named."""
    shell, there = f"mkdir {canary}", str(canary)
    make = f"__import__('os').mkdir({there!r})"
    by_stack = b"\x80\x04" + short("posix") + short("system") + b"\x93" + text(shell) + b"\x85R."
    by_memo = b"\x80\x04" + short("posix") + b"\x94" + short("system") + b"\x94" + b"0" + b"0"
    by_memo += b"h\x00h\x01\x93" + text(shell) + b"\x85R."
    return {
        "system": START + call(name("posix", "system"), text(shell)) + b".",
        "exec": START + call(name("builtins", "exec"), text(make)) + b".",
        "eval of Python 2": START + call(name("__builtin__", "eval"), text(make)) + b".",
        "a name that is put together": by_stack,
        "a name from the memo": by_memo,
        "an instruction of old": b"(" + text(shell) + b"iposix\nsystem\n.",
        "an object of old": b"(" + name("posix", "system") + text(shell) + b"o.",
        "another module of the same": START + call(name("os", "system"), text(shell)) + b".",
        **harmless_pickles(shell, there),
    }


def harmless_pickles(shell: str, there: str) -> dict[str, bytes]:
    """Pickles that Python's own reader gets nowhere with, but another might."""
    state = call(name("collections", "OrderedDict")) + b"}" + text("__reduce__") + name("posix", "system") + b"sb"
    foreign = name("posïx", "system") + b"0" + call(name("posix", "system"), text(shell))
    return {
        "an attribute of what is allowed": START + call(name("torch.serialization", "os.mkdir"), text(there)) + b".",
        "a loader": START + call(name("torch.serialization", "load"), text(there)) + b".",
        "an object without its making": START + name("subprocess", "Popen") + text(shell) + b"\x85\x81.",
        "a state": START + state + b".",
        "a name that is no ASCII": START + foreign + b".",
    }


def demanding_pickles() -> dict[str, bytes]:
    """Pickles of some hundred bytes that take gigabytes when they are loaded; nothing in them acts."""
    tensor = name("torch", "Tensor")
    return {
        "zeros": START + call(name("builtins", "bytearray"), number(6 * 10**9)) + b".",
        "zeros, as Python 2 calls them": START + call(name("__builtin__", "bytearray"), number(6 * 10**9)) + b".",
        **{codec: START + longer(codec) + b"." for codec in ("hex", "HEX-codec", "quopri", "base_64", "uu")},
        "a tensor of nothing": START + call(tensor, number(40_000), number(40_000)) + b".",
        "a tensor that is copied": START
        + call(name("torch._tensor", "_rebuild_from_type_v2"), tensor, tensor, number(10**9) + b"\x85", b"}")
        + b".",
        "one long number": START + b"\x8b" + struct.pack("<i", 2**31 - 1) + b".",
        "one long text": START + b"X" + struct.pack("<I", 2**32 - 1) + b".",
    }


OLD_START = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)


def as_archive(folder: Path, content: bytes, **others: bytes) -> Path:
    """Write a pickle as PyTorch does, in an archive with its values beside it."""
    path = folder / "new.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("new/data.pkl", content)
        archive.writestr("new/byteorder", "little")
        for key, value in others.items():
            archive.writestr(f"new/{key}", value)
        archive.writestr("new/version", "3\n")
    return path


def as_old_file(folder: Path, content: bytes) -> Path:
    path = folder / "old.pt"
    path.write_bytes(OLD_START + content + pickle.dumps([], 2))
    return path


def as_oldest_file(folder: Path, content: bytes) -> Path:
    """Write a pickle as PyTorch did before 0.1.10: in a tar, of which two parts were unpacked beside others' files."""
    path = folder / "oldest.tar"
    outside = folder / "outside"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for member in ("storages", "tensors", "pickle"):
            entry = tarfile.TarInfo(member)
            body = content if member == "pickle" else pickle.dumps(0, 2)
            entry.size = len(body)
            archive.addfile(entry, io.BytesIO(body))
        link = tarfile.TarInfo("storages")
        link.type, link.linkname = tarfile.SYMTYPE, str(outside)
        archive.addfile(link)
    return path


def bare(folder: Path, content: bytes) -> Path:
    path = folder / "train_data_batch_1"
    path.write_bytes(content)
    return path

"""PyTorch's files without running anything: tensors, numbers and containers, or a refusal that names the rest."""

import io
import pickletools
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from elf.data.sources.pickled import Array, Kind, reconstruct, scalar
from elf.errors import ElfError

LONGEST_PICKLE = 256 * 2**20
"""Bytes of the part of a file that is searched for names; tensors' values lie beside it."""


MOST_ENTRIES = 10**6
LARGEST_REPEATED = 10**7
"""Values of a tensor that may be stored once and claimed often, as expanded labels are."""


# NumPy 2 moved its core; files of both ages name harmless numbers and arrays by these names alone.
HARMLESS = [
    (Kind, "numpy.dtype"),
    (Array, "numpy.ndarray"),
    *((scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((reconstruct, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
]
_KNOWN = {name for _, name in HARMLESS} | {"_codecs.encode"}


def read_torch(path: Path) -> Any:
    """Read a file of ``torch.save`` as nested dictionaries, lists, tensors and numbers.

    Parameters
    ----------
    path : Path
        A file of the present format or of the one before PyTorch 1.6.

    Raises
    ------
    ElfError
        If the file is damaged or no such file, or names anything but tensors, containers and numbers:
        loading that would run code. Nothing is called then.
    """
    _refuse_script(path)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(HARMLESS):
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError as error:
        raise ElfError(f"{path}: does not fit in memory; use a machine with more of it") from error
    except Exception as error:
        # Bytes that are no such file make the reader raise almost anything.
        raise _refusal(path, str(error)) from error
    try:
        return _Plain(path)(content)
    except RecursionError as error:
        raise ElfError(f"{path}: is nested too deeply, or contains itself; it is no set") from error


class _Plain:
    """Copies what was read into plain containers, with an end to what a crafted file can claim."""

    def __init__(self, path: Path) -> None:
        self.path, self.entries = path, 0

    def __call__(self, content: Any) -> Any:
        self.entries += 1
        if self.entries > MOST_ENTRIES:
            raise ElfError(f"{self.path}: is nested so that it has more than {MOST_ENTRIES} entries; it is no set")
        if isinstance(content, Array):
            array = content.array
            content = torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C"))
        if isinstance(content, torch.Tensor):
            return usable(content.detach(), self.path)
        if isinstance(content, dict):
            return {key: self(value) for key, value in content.items()}
        if isinstance(content, list | tuple):
            return [self(value) for value in content]
        return content


def usable(tensor: torch.Tensor, path: Path) -> torch.Tensor:
    """Return a tensor of numbers that every operation knows; unsigned ones of more than 8 bits become int64.

    Raises
    ------
    ElfError
        If it is sparse, complex, quantised, without values, or claims many more values than the file holds.
    """
    plain = tensor.layout == torch.strided and tensor.device.type == "cpu"
    if not plain or tensor.is_complex() or tensor.is_quantized:
        raise ElfError(f"{path}: holds a tensor that is sparse, complex or quantised; save plain numbers")
    stored = tensor.untyped_storage().nbytes()
    if tensor.numel() > LARGEST_REPEATED and tensor.numel() * tensor.element_size() > stored:
        raise ElfError(f"{path}: a tensor claims the shape {tuple(tensor.shape)}, but holds {stored} bytes; not intact")
    if tensor.dtype in (torch.uint16, torch.uint32, torch.uint64):
        signed = tensor.to(torch.int64)
        if tensor.dtype == torch.uint64 and (signed < 0).any():
            raise ElfError(f"{path}: holds whole numbers beyond 64 bits with a sign; save them as int64")
        return signed
    return tensor


def _refusal(path: Path, reason: str) -> ElfError:
    named = sorted(_names(path))
    blamed = re.search(r"GLOBAL ([\w.]+)", reason)
    if blamed:
        named = sorted({*named, blamed[1]})
    if named:
        return ElfError(
            f"{path}: refused, because loading it would run code: it calls {', '.join(named[:5])}; nothing of it was "
            "run. Ask whoever made it for plain tensors, or save them as .npz or .safetensors"
        )
    return ElfError(
        f"{path}: cannot be read as a file of torch.save: it is damaged, cut off or of another kind (a bare pickle?)"
    )


def _names(path: Path) -> set[str]:
    """Return what the pickles in a file would call, besides tensors and harmless numbers; nothing is called."""
    try:
        texts = _pickles(path)
    except Exception:
        # Damaged archives make their reader raise almost anything; such a file is refused in any case.
        return set()
    return {name for text in texts for name in _called(text) if not _is_harmless(name)}


def _pickles(path: Path) -> list[bytes]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            entries = [e for e in archive.infolist() if e.filename.endswith(".pkl") and e.file_size < LONGEST_PICKLE]
            return [archive.read(entry) for entry in entries]
    with open(path, "rb") as stream:
        return [stream.read(LONGEST_PICKLE)]


def _called(text: bytes) -> set[str]:
    stream, found = io.BytesIO(text), set()
    while stream.tell() < len(text):
        texts, memo = [], {}
        try:
            # The opcodes are listed, not carried out.
            for code, argument, _ in pickletools.genops(stream):
                if code.name in ("GLOBAL", "INST"):
                    found.add(argument.replace(" ", "."))
                elif code.name == "STACK_GLOBAL":
                    found.add(".".join(str(part) for part in texts[-2:]))
                elif "UNICODE" in code.name or "STRING" in code.name:
                    texts.append(argument)
                elif code.name == "MEMOIZE" or code.name.endswith("PUT"):
                    memo[len(memo) if argument is None else argument] = texts[-1] if texts else None
                elif code.name.endswith("GET") and isinstance(memo.get(argument), str):
                    texts.append(memo[argument])
        except Exception:
            # The values of old files follow their pickles and are no opcodes.
            return found
    return found


def _is_harmless(name: str) -> bool:
    tensors = r"torch\.(_utils\._rebuild_\w+|\w+Storage|Size|Tensor|device|\w+\d+|nn\.parameter\.Parameter)"
    harmless = name in _KNOWN or name in ("collections.OrderedDict", "collections.defaultdict", "collections.Counter")
    return harmless or re.fullmatch(tensors, name) is not None


def _refuse_script(path: Path) -> None:
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception as error:
        raise ElfError(f"{path}: is a damaged archive ({error}); get an intact copy") from error
    if any(name.split("/")[1:2] == ["code"] or name.endswith("constants.pkl") for name in names):
        raise ElfError(
            f"{path}: refused, because it is a TorchScript program, which would run code; nothing of it was run. "
            "Save its state dict instead"
        )

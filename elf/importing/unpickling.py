"""PyTorch's files without running anything: tensors, numbers and containers, or a refusal that names the rest."""

import encodings
import encodings.aliases
import io
import pickletools
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import psutil
import torch

from elf.data.sources.pickled import Array, Kind, reconstruct, scalar
from elf.errors import ElfError

LONGEST_PICKLE = 256 * 2**20
"""Bytes of the largest part of a file that is searched for names; tensors' values lie beside it."""

PICKLES_OF_OLD_FILES = 5
"""Pickles that a file of before PyTorch 1.6 starts with; the values follow."""

MOST_ENTRIES = 10**6
MOST_PER_BYTE = 8
"""Bytes of a tensor for each that its file holds: small whole numbers of NumPy become int64."""
LARGEST_REPEATED = 10**7
"""Values of a tensor that may be stored once and claimed often, as expanded labels are."""


# NumPy 2 moved its core; files of both ages name harmless numbers and arrays by these names alone.
HARMLESS = [
    (Kind, "numpy.dtype"),
    (Array, "numpy.ndarray"),
    *((scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((reconstruct, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
]
_KNOWN = {name for _, name in HARMLESS} | {"_codecs.encode", "torch.serialization._get_layout"}
_CONTAINERS = {f"collections.{name}" for name in ("OrderedDict", "defaultdict", "Counter")} | {
    f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("set", "complex")
}
# PyTorch would call some more without harm to anybody but the memory: bytearray makes gigabytes of a number.
_TENSORS = re.compile(
    r"torch\.(_utils\._rebuild_(tensor(_v[23])?|parameter(_with_state)?|sparse_tensor|qtensor|meta_tensor_no_storage)"
    r"|(storage\.)?\w+Storage|Size|device|bool|\w+\d+|float8\w+|per_\w+|nn\.parameter\.Parameter)"
)
# Codecs that make bytes longer, again and again; numbers and arrays of NumPy need Latin-1 alone.
_GROWING = {"hex_codec", "base64_codec", "quopri_codec", "uu_codec", "bz2_codec", "zlib_codec"}


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
    held = _held(path)
    named, intact = _names(path)
    if named or not intact:
        raise _refusal(path, named)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(HARMLESS):
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError as error:
        raise ElfError(f"{path}: does not fit in memory; use a machine with more of it") from error
    except Exception as error:
        # Bytes that are no such file make the reader raise almost anything.
        blamed = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise _refusal(path, {blamed[1]} if blamed else set()) from error
    try:
        return _Plain(path, held)(content)
    except RecursionError as error:
        raise ElfError(f"{path}: is nested too deeply, or contains itself; it is no set") from error


class _Plain:
    """Copies what was read into plain containers, with an end to what a crafted file can claim."""

    def __init__(self, path: Path, held: int) -> None:
        self.path, self.held, self.entries = path, held, 0

    def __call__(self, content: Any) -> Any:
        self.entries += 1
        if self.entries > MOST_ENTRIES:
            raise ElfError(f"{self.path}: is nested so that it has more than {MOST_ENTRIES} entries; it is no set")
        if isinstance(content, Array):
            array = content.array
            content = torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C"))
        if isinstance(content, torch.Tensor):
            tensor = usable(content.detach(), self.path)
            if tensor.untyped_storage().nbytes() > MOST_PER_BYTE * self.held:
                raise ElfError(f"{self.path}: a tensor claims more values than the file holds; it is not intact")
            return tensor
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


def _refusal(path: Path, named: set[str]) -> ElfError:
    if named:
        # What they are called is up to whoever made the file.
        shown = ", ".join(ascii(name)[1:-1][:100] for name in sorted(named)[:5])
        return ElfError(
            f"{path}: refused, because loading it would run code: it calls {shown}; nothing of it was "
            "run. Ask whoever made it for plain tensors, or save them as .npz or .safetensors"
        )
    return ElfError(
        f"{path}: cannot be read as a file of torch.save: it is damaged, cut off or of another kind (a bare pickle?)"
    )


def _names(path: Path) -> tuple[set[str], bool]:
    """Return what the pickles in a file would call, besides tensors and harmless numbers, and whether they are intact.

    Nothing is called.
    """
    try:
        scanned = [_called(text) for text in _pickles(path)]
    except Exception:
        # Damaged archives make their reader raise almost anything.
        return set(), False
    named = {name for names, _ in scanned for name in names if not _is_harmless(name)}
    return named, all(intact for _, intact in scanned)


def _pickles(path: Path) -> list[bytes]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if entry.filename.endswith(".pkl")]
            if any(entry.file_size > LONGEST_PICKLE for entry in entries):
                raise ElfError(f"{path}: its pickle is longer than {LONGEST_PICKLE} bytes")
            return [archive.read(entry) for entry in entries]
    with open(path, "rb") as stream:
        return [stream.read(LONGEST_PICKLE)]


def _called(text: bytes) -> tuple[set[str], bool]:
    stream, found = io.BytesIO(text), set()
    for _ in range(PICKLES_OF_OLD_FILES):
        if stream.tell() == len(text):
            break
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
                    if _makes_longer(argument):
                        found.add(f"_codecs.encode with {argument}")
                elif code.name == "MEMOIZE" or code.name.endswith("PUT"):
                    memo[len(memo) if argument is None else argument] = texts[-1] if texts else None
                elif code.name.endswith("GET") and isinstance(memo.get(argument), str):
                    texts.append(memo[argument])
        except Exception:
            return found, False
    if "_codecs.encode" not in found:
        found = {name for name in found if not name.startswith("_codecs.encode with ")}
    return found, True


def _makes_longer(text: str | bytes) -> bool:
    """Return whether a text names a codec that makes bytes of bytes."""
    name = encodings.normalize_encoding(text.decode("latin1") if isinstance(text, bytes) else text[:50]).lower()
    return encodings.aliases.aliases.get(name, name) in _GROWING


def _is_harmless(name: str) -> bool:
    return name in _KNOWN or name in _CONTAINERS or _TENSORS.fullmatch(name) is not None


def _held(path: Path) -> int:
    """Return how many bytes a file holds once unpacked; a program, or what does not fit in memory, is refused."""
    try:
        if not zipfile.is_zipfile(path):
            return path.stat().st_size
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            held = sum(entry.file_size for entry in archive.infolist())
    except Exception as error:
        raise ElfError(f"{path}: is a damaged archive ({error}); get an intact copy") from error
    if len(set(names)) < len(names):
        # One reader takes the first of two, another the last.
        raise ElfError(f"{path}: is a damaged archive (a name occurs twice); get an intact copy")
    refuse_too_large(path, held)
    if any(name.split("/")[1:2] == ["code"] or name.endswith("constants.pkl") for name in names):
        raise ElfError(
            f"{path}: refused, because it is a TorchScript program, which would run code; nothing of it was run. "
            "Save its state dict instead"
        )
    return held


def refuse_too_large(path: Path, held: int) -> None:
    """Raise an error if the content of an archive does not fit in the memory that is free."""
    free = psutil.virtual_memory().available
    if held > free:
        raise ElfError(
            f"{path}: holds {held / 1e9:.1f} GB once unpacked, but {free / 1e9:.1f} GB of memory are free; if that is "
            "what it should hold, use a machine with more memory"
        )

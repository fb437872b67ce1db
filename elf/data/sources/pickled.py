"""Pickled dictionaries of arrays, lists and numbers, without running anything and without loading large arrays."""

import mmap
import pickle
import re
import struct
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from elf.errors import ElfError

LARGE = 2**16
"""Bytes from which on a value stays where it is in the file instead of being copied."""


class Kind:
    """Stands in for NumPy's dtype while a file is read: a name such as ``f8`` and a byte order, nothing that acts."""

    def __init__(self, code: str | bytes, *_: Any) -> None:
        code = _text(code)
        if not isinstance(code, str) or re.fullmatch("[<>=|]?(b1|[iu][1248]|f[248])", code) is None:
            raise pickle.UnpicklingError(f"a NumPy value of type {code!r}, which is no number")
        self.code, self.order = code.lstrip("<>=|"), "<"

    def __setstate__(self, state: tuple) -> None:
        order = _text(state[1])
        self.order = order if order in ("<", ">") else "<"

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.order + self.code)


class Array:
    """Stands in for NumPy's array: built from bytes by us, so that none of NumPy's own unpickling runs."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, fortran, values = state
        flat = np.frombuffer(_bytes(values), kind.dtype)
        self.array = flat.reshape(shape, order="F" if fortran else "C")


def _text(value: Any) -> Any:
    # Python 2 wrote text as bytes.
    return value.decode("latin1") if isinstance(value, bytes) else value


def _bytes(values: Any) -> bytes | memoryview:
    if isinstance(values, memoryview):
        return values
    # Pickles of protocol 2 write bytes as text.
    return values.encode("latin1") if isinstance(values, str) else bytes(values)


def scalar(kind: Kind, values: Any) -> float | int | bool:
    """Stand in for the function that makes one of NumPy's numbers."""
    return np.frombuffer(_bytes(values), kind.dtype, count=1)[0].item()


def reconstruct(*_: Any) -> Array:
    """Stand in for the function that makes an array without values."""
    return Array()


def _from_buffer(values: Any, kind: Kind, shape: tuple, order: str) -> Array:
    array = Array()
    array.__setstate__((1, shape, kind, _text(order) == "F", values))
    return array


def _encode(text: str, _: str) -> bytes:
    return text.encode("latin1")


# NumPy 2 moved its core; files of both ages name harmless numbers and arrays by these names alone.
_KNOWN = {
    "numpy.dtype": Kind,
    "numpy.ndarray": Array,
    "_codecs.encode": _encode,
    **{f"numpy.{core}.multiarray.scalar": scalar for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray._reconstruct": reconstruct for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _from_buffer for core in ("core", "_core")},
}


class _Mapped:
    """A file that gives large parts of itself as views, so that only what is used of them is ever read."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content, self._view, self._place = content, memoryview(content), 0

    def read(self, count: int) -> bytes | memoryview:
        part = self._view[self._place : self._place + count]
        if len(part) < count:
            raise pickle.UnpicklingError("it is cut off")
        self._place += count
        return part if count >= LARGE else bytes(part)

    def readline(self) -> bytes:
        end = self._content.find(b"\n", self._place)
        return bytes(self.read((len(self._view) if end < 0 else end + 1) - self._place))


# The one in C copies every value into memory; both know how to call things, which find_class decides.
class _Restricted(pickle._Unpickler):
    dispatch: ClassVar = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        known = _KNOWN.get(f"{module}.{name}")
        if known is None:
            raise pickle.UnpicklingError(f"it calls {module}.{name}, and loading it would run code")
        return known

    def load_build(self) -> None:
        if not isinstance(self.stack[-2], Kind | Array):
            raise pickle.UnpicklingError("it changes something that is no array")
        super().load_build()

    def load_bytearray8(self) -> None:
        self.append(self.read(struct.unpack("<Q", self.read(8))[0]))

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8


def read_pickle(path: Path) -> dict[str, Any]:
    """Read a pickled dictionary of arrays, lists and numbers; large arrays stay in the file.

    Parameters
    ----------
    path : Path
        Written by Python 2 or 3, in any protocol.

    Returns
    -------
    dict
        With text as keys, whichever they were. Arrays cannot be written to.

    Raises
    ------
    ElfError
        If the file is damaged or names anything but arrays, containers and numbers; nothing of it is called then.
    """
    try:
        with open(path, "rb") as stream:
            content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        # With this encoding what Python 2 wrote as bytes stays bytes, and in the file.
        found = _Restricted(_Mapped(content), encoding="bytes").load()
        return {str(_text(key)): value.array if isinstance(value, Array) else value for key, value in found.items()}
    except Exception as error:
        # Bytes that are no pickle make the reader raise almost anything.
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ElfError(
            f"{path}: refused, or no intact pickle of a dictionary of arrays ({reason}); nothing of it was run; "
            "get an intact copy"
        ) from error

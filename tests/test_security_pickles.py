"""Pickles of other people: nothing in them is called, however it is named, and small ones take no gigabytes.

What tests/test_importing.py, tests/test_downsampled.py and tests/test_data_sources.py show is not shown again.
"""

import pickle

import pytest
from hostile_files import (
    START,
    as_archive,
    as_old_file,
    as_oldest_file,
    bare,
    call,
    demanding_pickles,
    harmful_pickles,
    harmless_pickles,
    name,
    number,
    text,
)

from elf.data.sources.pickled import read_pickle
from elf.importing.reading import read

pytest_plugins = ("hostile_files",)

READERS = {
    "elf import, new file": (read, as_archive),
    "elf import, old file": (read, as_old_file),
    "elf import, oldest file": (read, as_oldest_file),
    "elf import, bare pickle": (read, bare),
    "downsampled ImageNet": (read_pickle, bare),
}


@pytest.mark.parametrize("reader", READERS)
def test_nothing_in_a_pickle_is_called_however_it_is_named(refused, reader, tmp_path):
    canary = tmp_path / "canary"
    pickles = harmful_pickles(canary)
    reading, written = READERS[reader]
    for what, content in pickles.items():
        message = refused(reading, written(tmp_path, content))
        assert "refused" in message or "cannot be read" in message, what
        assert not canary.exists(), what
    assert {file.name for file in tmp_path.iterdir()} == {written(tmp_path, b"").name}


def test_the_harmful_pickles_do_harm(other_processes, tmp_path):
    """Otherwise the test before this would show nothing."""
    canary = tmp_path / "canary"
    harmless = harmless_pickles("", "")
    for what, content in harmful_pickles(canary).items():
        if what not in harmless:
            pickle.loads(content)
            assert canary.exists(), what
            canary.rmdir()


@pytest.mark.parametrize("reader", READERS)
def test_a_small_pickle_takes_no_gigabytes(refused, reader, tmp_path):
    reading, written = READERS[reader]
    for content in demanding_pickles().values():
        refused(reading, written(tmp_path, content))


def test_allowed_names_with_evil_arguments_are_refused(refused, tmp_path):
    """What rebuilds tensors and arrays is given sizes, types and states that it was not made for."""
    storage = b"(" + text("storage") + name("torch", "FloatStorage") + text("0") + text("cpu") + number(10**9) + b"tQ"
    few = b"(" + text("storage") + name("torch", "FloatStorage") + text("0") + text("cpu") + number(4) + b"tQ"
    rebuild, no_hooks = name("torch._utils", "_rebuild_tensor_v2"), b"\x89" + call(name("collections", "OrderedDict"))
    scalar, dtype = name("numpy.core.multiarray", "scalar"), name("numpy", "dtype")
    array = call(name("numpy.core.multiarray", "_reconstruct"), name("numpy", "ndarray"), b"K\x00\x85", text("b"))
    eight = call(dtype, text("f8"), b"\x89", b"\x88")
    nested = b"(cposix\nsystem\n" + text("true") + b"tR"
    evil = {
        "more values than are stored": call(
            rebuild, storage, b"K\x00", number(10**9) + b"\x85", b"K\x01\x85", no_hooks
        ),
        "a place outside": call(rebuild, few, number(10**6), b"K\x04\x85", b"K\x01\x85", no_hooks),
        "strides outside": call(rebuild, few, b"K\x00", b"K\x04\x85", number(10**6) + b"\x85", no_hooks),
        "a negative size": call(rebuild, few, b"K\x00", number(-4) + b"\x85", b"K\x01\x85", no_hooks),
        "objects as a type": call(scalar, call(dtype, text("O")), text("12345678")),
        "a record as a type": call(scalar, call(dtype, text("f8,O")), text("12345678")),
        "a function as a type": call(scalar, name("_codecs", "encode"), text("12345678")),
        "too few bytes": call(scalar, eight, text("1")),
        "a huge array": array + b"(K\x01" + number(10**12) + b"\x85" + eight + b"\x89" + text("12345678") + b"tb",
        "an array of objects": array + b"(K\x01K\x01\x85" + call(dtype, text("O")) + b"\x89]" + nested + b"atb",
    }
    for what, content in evil.items():
        for written in (as_archive, as_old_file):
            values = {"data/0": bytes(16)} if written is as_archive else {}
            message = refused(read, written(tmp_path, START + b"}" + text("images") + content + b"s.", **values))
            assert "refused" in message or "cannot be read" in message, what

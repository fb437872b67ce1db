"""Definitions that change something while their module is imported count, though nobody uses them."""

from itertools import count
from pathlib import Path

import pytest

from elf.artifacts.fingerprint import fingerprint
from elf.errors import ElfError

ACTING = {
    "a class that changes a library": "class Patch:\n    math.pi = 3\n",
    "a class that changes a table of another module": "class Patch:\n    table['a'] = 1\n",
    "a class that another module hears of": "class Patch(Registry):\n    pass\n",
    "a field that is told its name": "class Patch:\n    field = Named()\n",
    "a lambda that is called": "x = (lambda: table.update(a=1))()\n",
    "a lambda that sorts": "x = sorted([1], key=lambda n: table.__setitem__('a', n))\n",
    "a partial that is called": "def put():\n    table['a'] = 1\n\n\nx = functools.partial(put)()\n",
    "a function that is mapped": "def put(n):\n    table[n] = 1\n\n\nx = list(itertools.starmap(put, [[1]]))\n",
    "a library's function that changes what it gets": "x = operator.setitem(table, 'a', 1)\n",
    "a method that is only called like one of Python's": "x = answering.get('a')\n",
}
IDLE = {
    "nothing": "",
    "a class that changes its own table": "class Own:\n    table = {}\n    table[math.pi] = 1\n",
    "a lambda that is not called": "x = lambda: table.update(a=1)\n",
    "a lambda that sorts": "x = sorted([1], key=lambda n: str(n))\n",
    "a partial that is not called": "def put():\n    table['a'] = 1\n\n\nx = functools.partial(put)\n",
    "a method of one of Python's": "x = table.get('a')\n",
}
IMPORTS = """\
import functools
import itertools
import math
import operator
from elf.table import Named, Registry, answering, table
used = functools, itertools, math, operator
"""
FILES = {
    "__init__.py": "",
    "stage.py": "from elf import other\nfrom elf.table import table\n\n\ndef main():\n    return table\n",
    "table.py": """\
class Registry:
    def __init_subclass__(cls):
        table[cls.__name__] = cls


class Named:
    def __set_name__(self, owner, name):
        table[name] = self


class Answering:
    def get(self, name):
        table[name] = self


table = {}
answering = Answering()
""",
}
numbers = count()


def code_of(folder: Path, **files: str) -> str:
    # What was read is kept by path.
    package = folder / f"{next(numbers)}" / "elf"
    package.mkdir(parents=True)
    for name, text in (FILES | {f"{name}.py": text for name, text in files.items()}).items():
        (package / name).write_text(text, encoding="utf-8")
    return fingerprint("elf.stage:main", package=package)


@pytest.mark.parametrize("what", ACTING)
def test_what_acts_counts(tmp_path, what):
    assert code_of(tmp_path, other=IMPORTS + ACTING[what]) != code_of(tmp_path, other=IMPORTS)


@pytest.mark.parametrize("what", IDLE)
def test_what_only_defines_does_not(tmp_path, what):
    assert code_of(tmp_path, other=IMPORTS + IDLE[what]) == code_of(tmp_path, other=IMPORTS)


def test_what_acts_really_does():
    """The cases are what they say: run, each leaves a trace in a module that is not its own."""
    for what, text in ACTING.items():
        known = {}
        exec(FILES["table.py"], known)
        exec(IMPORTS.replace("from elf.table", "# "), names := dict(known))
        before, pi = dict(known["table"]), names["math"].pi
        try:
            exec(text, names)
            assert names["table"] != before or names["math"].pi != pi, what
        finally:
            names["math"].pi = pi


def test_a_type_that_is_named_in_a_string_counts(tmp_path):
    text = "from typing import Optional\n\nlater = {}\nkind = Optional['later']\n\n\ndef main():\n    return kind\n"
    one, other = (text.replace("{}", value) for value in ("int", "float"))
    assert code_of(tmp_path, stage=one) != code_of(tmp_path, stage=other)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (
            "import importlib\n\nget = importlib\n\n\ndef main():\n    return get.import_module('elf.table')\n",
            "importlib",
        ),
        ("import sys\n\n\ndef main():\n    return vars(sys)['modules']\n", "sys"),
        ("import builtins\n\n\ndef main():\n    return builtins.__import__('elf.table')\n", "builtins.__import__"),
        ("import pydoc\n\n\ndef main():\n    return pydoc.locate('elf.table.table')\n", "pydoc.locate"),
        ("import inspect\n\n\ndef main(x):\n    return inspect.getmodule(x).table\n", "inspect.getmodule"),
        ("from pydantic import ImportString\n\n\ndef main(x: ImportString):\n    return x\n", "pydantic.ImportString"),
    ],
)
def test_what_finds_code_by_other_ways_is_refused(tmp_path, text, named):
    with pytest.raises(ElfError, match=f"main uses {named}|get uses {named}"):
        code_of(tmp_path, stage=text)

"""A fingerprint changes with every edit that can change a result, and with no other."""

import ast
import json
import random
import re
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace as Spec

import pytest
from conftest import PROJECT

from elf.artifacts import code
from elf.artifacts import fingerprint as module
from elf.artifacts.definitions import Modules
from elf.artifacts.fingerprint import changed, code_id, fingerprint, reached
from elf.errors import ElfError
from elf.specs import kinds

NETWORKS = {"convnet": "convnet-w128-d3-in", "resnet": "resnet18-in", "vgg": "vgg11-in"}
NETWORKS |= {"torchvision_models": "torchvision:mobilenet_v2"}
CONVNET = NETWORKS["convnet"]


def set_of(method: str, network: str | None = CONVNET, **recipe) -> Spec:
    return Spec(module=method, network=network, recipe=recipe)


STAGES = {
    "prepare": partial(code.prepare_dataset_code, Spec(source="digits")),
    "prepare parquet": partial(code.prepare_dataset_code, Spec(source="parquet")),
    "distill dm": partial(code.distill_code, set_of("dm")),
    "distill dm selected": partial(code.distill_code, set_of("dm", selection="best")),
    "distill mtt": partial(code.distill_code, set_of("mtt", experts=2)),
    "distill frepo selected": partial(code.distill_code, set_of("frepo", "frepoconv-w128-bn", selection="best")),
    "distill random": partial(code.distill_code, set_of("random", None)),
    "distill imported": partial(code.distill_code, set_of("imported")),
    "expert": partial(code.train_expert_code, Spec(network=CONVNET)),
    "teacher": partial(code.train_teacher_code, Spec(network=CONVNET)),
    "features": partial(code.extract_features_code, Spec(teacher_network=CONVNET)),
    **{
        f"evaluate {family} {objective}": partial(
            code.evaluate_code, Spec(network=network, objective=Spec(name=objective))
        )
        for family, network in NETWORKS.items()
        for objective in ("task", "elf", "kd")
    },
    "evaluate convnet frepo": partial(code.evaluate_code, Spec(network=CONVNET, objective=Spec(name="frepo"))),
    "collect": code.collect_code,
    "table": partial(code.code_of, kinds.TABLES),
    "figure3": partial(code.code_of, kinds.FIGURES, "figure3"),
    "figure4": partial(code.code_of, kinds.FIGURES, "figure4"),
    "verdicts": partial(code.code_of, kinds.VERDICTS),
    "report": partial(code.code_of, kinds.REPORT),
    "contact sheet": partial(code.code_of, kinds.SHEETS),
}
EVALUATIONS = {name for name in STAGES if name.startswith("evaluate")}
DISTILLATIONS = {name for name in STAGES if name.startswith("distill")}
COMPUTED = {*EVALUATIONS, *DISTILLATIONS, "prepare", "prepare parquet", "expert", "teacher", "features"}
DRAWN = {"table", "figure3", "figure4", "report", "verdicts"}
WITH_CONVNET = {name for name in EVALUATIONS if " convnet " in name} | {
    *("distill dm", "distill dm selected", "distill mtt", "expert", "teacher", "features"),
    "distill imported",  # Of a network that a set names, the family counts, whether it is built or not.
}
BUILDS = EVALUATIONS | {"expert", "teacher", "features"} | DISTILLATIONS - {"distill random", "distill imported"}
FAMILIES = {family: {name for name in EVALUATIONS if f" {family} " in name} for family in NETWORKS}


def forget() -> None:
    """A process reads each file once; these tests edit files."""
    for remembered in (module._fingerprint, module._reached, module._modules, module._text, module._steps):
        remembered.cache_clear()


@pytest.fixture(scope="module", autouse=True)
def read_once():
    """Read each text once, whatever lies where."""
    read, known = Modules._module, {}

    def reading(modules: Modules, name: str):
        key = (name, str(modules.file(name)), modules.file(name).read_text(encoding="utf-8"))
        if key not in known:
            known[key] = read(modules, name)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Modules, "_module", reading)
        yield
    forget()


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy of the package, of which the fingerprints are taken."""
    copy = tmp_path_factory.mktemp("copy") / "elf"
    shutil.copytree(PROJECT / "elf", copy, ignore=shutil.ignore_patterns("__pycache__"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PACKAGE", copy)
        forget()
        yield copy
    forget()


def digests(stages=STAGES) -> dict[str, str]:
    forget()
    return {name: STAGES[name]() for name in stages}


@pytest.fixture(scope="module")
def before(package) -> dict[str, str]:
    return digests()


def stale_after(package: Path, before: dict[str, str], file: str, edit, stages=STAGES) -> set[str]:
    """Return the stages whose fingerprint changes with an edit of a copy, which is undone again."""
    original = (package / file).read_text(encoding="utf-8")
    try:
        edited = edit(original)
        assert edited != original
        (package / file).write_text(edited, encoding="utf-8")
        after = digests(stages)
    finally:
        (package / file).write_text(original, encoding="utf-8")
    return {name for name in stages if before[name] != after[name]}


def inside(name: str):
    """An edit that adds a statement to the function or class of this name."""
    return partial(edited_inside, name=name)


def edited_inside(text: str, name: str) -> str:
    (node,) = (n for n in ast.parse(text).body if getattr(n, "name", None) == name)
    last = node.body[-1]
    lines = text.splitlines(keepends=True)
    lines[last.lineno - 1 : last.lineno - 1] = [" " * last.col_offset + "ADDED_BY_A_TEST = 1\n"]
    return "".join(lines)


# File and definition: exactly what an edit of it may change.
REACH = {
    ("networks/vgg.py", "build"): FAMILIES["vgg"],
    ("networks/resnet.py", "build"): FAMILIES["resnet"],
    ("networks/torchvision_models.py", "build"): FAMILIES["torchvision_models"],
    ("networks/convnet.py", "build"): WITH_CONVNET,
    ("specs/network.py", "matching_teacher"): BUILDS | DRAWN | {"collect"},
    ("objectives/elf.py", "loss"): {name for name in EVALUATIONS if name.endswith(" elf")},
    ("objectives/kd.py", "loss"): {name for name in EVALUATIONS if name.endswith(" kd")},
    ("distillation/dm.py", "distill"): {"distill dm", "distill dm selected"},
    ("distillation/mtt.py", "distill"): {"distill mtt"},
    ("distillation/random.py", "distill"): {"distill random"},
    ("distillation/shared/selection.py", "selection_for"): {"distill dm selected", "distill frepo selected"},
    ("distillation/shared/selection.py", "_by_frepo"): {"distill frepo selected"},
    ("distillation/shared/selection.py", "_by_evaluation"): {"distill dm selected"},
    ("training/frepo.py", "train"): {"distill frepo selected", "evaluate convnet frepo"},
    ("artifacts/experts.py", "ExpertBuffer"): {"distill mtt"},
    ("importing/using.py", "read_imported"): {"distill imported"},
    ("distillation/shared/images_distilled.py", "images_distilled"): set(),
    ("training/images_seen.py", "images_trained"): set(),
    ("data/sources/digits.py", "read"): {"prepare"},
    ("data/sources/parquet.py", "read"): {"prepare parquet"},
    ("training/protocol.py", "accuracy"): EVALUATIONS | {"teacher", "distill dm selected", "distill frepo selected"},
    ("stages/evaluate.py", "main"): EVALUATIONS,
    ("stages/train_teacher.py", "main"): {"teacher"},
    ("stages/train_teacher.py", "main_keep"): {"teacher"},
    ("stages/extract_features.py", "main"): {"features"},
    ("stages/collect.py", "main"): {"collect"},
    ("status/rows.py", "rows_of"): {"collect"},
    ("status/rows.py", "results_so_far"): set(),
    ("results/figure3.py", "render"): {"figure3"},
    ("results/figure4.py", "render"): {"figure4"},
    ("results/plotting.py", "render"): {"figure3", "figure4"},
    ("study/grid.py", "Grid"): DRAWN | {"collect"},
    ("data/pictures.py", "contact_sheet"): {"contact sheet"},
    ("cli.py", "main"): set(),
    ("artifacts/code.py", "code_of"): set(),
    ("errors.py", "ElfError"): set(STAGES),
}


@pytest.mark.parametrize("what", REACH, ids=":".join)
def test_an_edit_reaches_exactly_what_uses_the_definition(package, before, what):
    file, name = what
    assert stale_after(package, before, file, inside(name)) == REACH[what]


def test_a_definition_that_nobody_uses_makes_nothing_stale(package, before):
    def added(text: str) -> str:
        return text + "\n\ndef added_by_a_test():\n    return 1\n\n\nADDED_BY_A_TEST = added_by_a_test\n"

    stages = ("distill dm", "evaluate vgg elf", "collect")
    for file in (
        "training/protocol.py",
        "specs/network.py",
        "specs/evaluation.py",
        "objectives/elf.py",
        "running/job.py",
    ):
        assert stale_after(package, before, file, added, stages) == set()


def test_a_module_that_does_more_than_define_counts_whole(package, before):
    def doing(text: str) -> str:
        return text + "\ntorch.set_float32_matmul_precision('high')\n"

    # Whoever imports it: also sets that build no network, because other sets of the same command do.
    importing = EVALUATIONS | DISTILLATIONS | {"expert", "teacher", "features"}
    assert stale_after(package, before, "networks/building.py", doing) == importing


def rewritten(text: str) -> str:
    """The same program in another layout: no comments, other line breaks, other docstrings."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body[0].value.value = "Another text."
    return "# a comment\n" + ast.unparse(tree).replace("\n\n", "\n\n\n")


@pytest.mark.parametrize(
    "file",
    ["networks/vgg.py", "training/protocol.py", "objectives/elf.py", "artifacts/files.py", "specs/evaluation.py"],
)
def test_comments_docstrings_and_layout_change_nothing(package, before, file):
    assert stale_after(package, before, file, rewritten) == set()


# Moving, renaming, splitting.


@pytest.fixture
def movable(tmp_path, monkeypatch):
    """Another copy, in which modules are moved."""
    copy = tmp_path / "elf"
    shutil.copytree(PROJECT / "elf", copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(module, "PACKAGE", copy)
    yield copy
    forget()


def rename(package: Path, old: str, new: str) -> None:
    """Move a module, and name it anew where it is imported; its names in code that uses it stay."""
    source, target = (package.parent / f"{name.replace('.', '/')}.py" for name in (old, new))
    target.parent.mkdir(exist_ok=True)
    (target.parent / "__init__.py").touch()
    source.rename(target)
    (old_base, _, old_name), (new_base, _, new_name) = old.rpartition("."), new.rpartition(".")
    for file in package.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        text = re.sub(rf"^from {re.escape(old)} import", f"from {new} import", text, flags=re.MULTILINE)
        one = rf"^from {re.escape(old_base)} import {old_name}(?: as (\w+))?$"
        text = re.sub(
            one, lambda m: f"from {new_base} import {new_name} as {m[1] or old_name}", text, flags=re.MULTILINE
        )
        several = re.search(rf"^from {re.escape(old_base)} import (.*, )?{old_name}(, .*)?$", text, flags=re.MULTILINE)
        if several:
            others = ", ".join(name for name in re.split(", ", several[0].partition("import ")[2]) if name != old_name)
            new_lines = f"from {old_base} import {others}\nfrom {new_base} import {new_name} as {old_name}"
            text = text.replace(several[0], new_lines)
        file.write_text(text, encoding="utf-8")


def split(package: Path, file: str, name: str, new: str) -> None:
    """Move one function with all imports of its module into a module of its own, and import it from there."""
    path = package / file
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    (node,) = (n for n in tree.body if getattr(n, "name", None) == name)
    lines = text.splitlines(keepends=True)
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 1
    own = "".join(lines[first : node.end_lineno])
    words = set(re.findall(r"\w+", own))
    imports = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
    for statement in imports:
        statement.names = [a for a in statement.names if (a.asname or a.name.partition(".")[0]) in words]
    others = [n for n in tree.body if getattr(n, "name", None) in words and n is not node]
    others += [n for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id in words]
    here = "elf." + file.removesuffix(".py").replace("/", ".")
    bound = ", ".join(n.name if hasattr(n, "name") else n.targets[0].id for n in others)
    head = [ast.unparse(statement) for statement in imports if statement.names]
    head += [f"from {here} import {bound}"] if others else []
    (package.parent / f"{new.replace('.', '/')}.py").write_text("\n".join([*head, "\n", own]), encoding="utf-8")
    del lines[first : node.end_lineno]
    after = next(n for n in reversed(tree.body) if isinstance(n, ast.Import | ast.ImportFrom))
    lines.insert(after.end_lineno, f"from {new} import {name}\n")
    path.write_text("".join(lines), encoding="utf-8")
    # As a linter does it: an import that is not used may be there for what it does.
    rewritten = ast.parse("".join(lines))
    used = {n.id for n in ast.walk(rewritten) if isinstance(n, ast.Name)}
    for statement in [n for n in rewritten.body if isinstance(n, ast.Import | ast.ImportFrom)]:
        statement.names = [a for a in statement.names if {a.asname, a.name.partition(".")[0]} & {*used, name}]
        if not statement.names:
            rewritten.body.remove(statement)
    path.write_text(ast.unparse(rewritten), encoding="utf-8")


def test_moved_and_renamed_modules_make_nothing_stale(movable):
    before = digests()
    rename(movable, "elf.training.adam", "elf.ground.optimiser")
    rename(movable, "elf.machine.device", "elf.ground.machine")
    rename(movable, "elf.training.protocol", "elf.ground.protocol")
    rename(movable, "elf.training.seeds_at_once", "elf.seeds_at_once")
    rename(movable, "elf.artifacts.files", "elf.ground.writing")
    rename(movable, "elf.specs.training", "elf.specs.recipes")
    rename(movable, "elf.results.statistics", "elf.numbers.statistics")
    assert digests() == before


def test_split_modules_make_nothing_stale(movable):
    before = digests()
    split(movable, "training/protocol.py", "accuracy", "elf.testing")
    split(movable, "specs/network.py", "matching_teacher", "elf.networks.matching")
    split(movable, "results/statistics.py", "summarise_seeds", "elf.results.seeds")
    split(movable, "running/job.py", "parse_spec", "elf.stages.specifications")
    assert digests() == before
    assert (movable / "testing.py").is_file()


def test_a_moved_module_is_followed(movable):
    """The other way round: after the move, edits of it still count."""
    rename(movable, "elf.training.protocol", "elf.protocol")
    before = digests(["teacher", "distill dm", "collect"])
    stale = stale_after(movable, before, "protocol.py", inside("train"), before)
    assert stale == {"teacher"}


# Random edits.

SAMPLED = ("distill mtt", "evaluate vgg elf", "teacher")


def edits_of(text: str, name: str):
    """Return spans of a definition that may be replaced, with what to put there."""
    spans = []
    # What a module only takes from another has no text of its own.
    node = next((n for n in ast.parse(text).body if name in [getattr(n, "name", None), *assigned(n)]), None)
    if node is None:
        return []
    docs = {id(n.value) for n in ast.walk(node) if isinstance(n, ast.Expr)}
    in_strings = {id(c) for n in ast.walk(node) if isinstance(n, ast.JoinedStr) for c in ast.walk(n)}
    for part in ast.walk(node):
        if id(part) in docs | in_strings:
            continue
        if isinstance(part, ast.Constant) and isinstance(part.value, int | float | str):
            spans.append((part, " 12345 " if not isinstance(part.value, str) else " 'another text' "))
        elif isinstance(part, ast.Return) and part.value is not None:
            spans.append((part.value, " (12345) "))
        elif isinstance(part, ast.Compare):
            spans.append((part, " (1 < 2) "))
    return spans


def assigned(node: ast.AST) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def replaced(text: str, node: ast.AST, new: str) -> str:
    lines = [line.encode() for line in text.splitlines(keepends=True)]
    end = lines[node.end_lineno - 1][node.end_col_offset :]
    head = lines[node.lineno - 1][: node.col_offset]
    lines[node.lineno - 1 : node.end_lineno] = [head + new.encode() + end]
    return b"".join(lines).decode()


def unused(text: str) -> set[str]:
    """Return imported names that are not used: such a module counts whole, because it may be imported for an effect."""
    tree = ast.parse(text)
    imports = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
    names = {a.asname or a.name.partition(".")[0] for statement in imports for a in statement.names}
    return names - {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}


def test_a_hundred_random_edits_make_stale_what_reaches_them(package, before):
    """What a stage reaches is taken from the pristine code; that it is all that runs, another test sees."""
    chosen = random.Random(0)
    reach = {}
    for name in SAMPLED:
        forget()
        asked = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(code, "fingerprint", lambda *roots, without=(), a=asked: a.append((roots, without)))
            STAGES[name]()
        ((roots, without),) = asked
        reach[name] = {t for t in reached(*roots, without=without).texts if t.name}
    every = sorted(set().union(*reach.values()), key=lambda t: (t.module, t.name))
    done = 0
    while done < 100:
        target = chosen.choice(every)
        path = package.parent / f"{target.module.replace('.', '/')}.py"
        file = path.relative_to(package).as_posix()
        spans = edits_of(path.read_text(encoding="utf-8"), target.name) if path.is_file() else []
        if not spans:
            continue
        span = chosen.choice(spans)
        edit = partial(replaced, node=span[0], new=span[1])
        if unused(edit(path.read_text(encoding="utf-8"))):
            continue
        stale = stale_after(package, before, file, edit, SAMPLED)
        assert stale == {name for name in SAMPLED if target in reach[name]}, (target, ast.unparse(span[0]))
        done += 1


# Small packages: what has to count, and what has not.

FILES = {
    "__init__.py": "",
    "stage.py": """\
from elf import tools as t
from elf.base import Base, mark
from elf.choice import chosen
from elf.plain import constant, other as renamed
from elf.package import given
import numpy as np

DEFAULT = t.limit()


@mark
def main(size=DEFAULT, *, often: "Alias" = 3):
    return [helper(np.abs(given(one)), renamed) for one in range(size)], chosen, Child().run(), constant


def helper(value, function=constant):
    return function(value) + t.used(value)


class Child(Base):
    rate = constant

    def run(self):
        from elf.late import late

        return late(self)


Alias = int
unused = 5
""",
    "tools.py": (
        "import math\n\n\n"
        "def used(value):\n    return math.sin(value)\n\n\n"
        "def limit():\n    return 4\n\n\n"
        "def idle():\n    return 1\n"
    ),
    "base.py": (
        "from abc import ABC\n\n\nclass Base(ABC):\n    start = 1\n\n\ndef mark(function):\n    return function\n"
    ),
    "choice.py": "try:\n    from fast import chosen\nexcept ImportError:\n    from elf.slow import chosen\n",
    "slow.py": "def chosen():\n    return 1\n",
    "plain.py": "constant = 7\n\n\ndef other(value):\n    return value\n",
    "package/__init__.py": "from elf.package.one import given\n",
    "package/one.py": "def given(value):\n    return value\n",
    "package/two.py": "def given(value):\n    return value + 0\n",
    "late.py": (
        "def late(value):\n    return ping(value)\n\n\n"
        "def ping(n):\n    return pong(n) if n else 0\n\n\n"
        "def pong(n):\n    return ping(n - 1)\n"
    ),
}
# File, what stands there, what is put there instead: each changes what a call of ``main`` may do.
COUNTS = {
    "a default": ("stage.py", "*, often", "*, more=1, often"),
    "a default that is a name": ("stage.py", "size=DEFAULT", "size=unused"),
    "a decorator": ("stage.py", "@mark\n", ""),
    "what a decorator does": ("base.py", "return function", "return lambda *a: 0"),
    "a base class": ("stage.py", "class Child(Base)", "class Child"),
    "what a base class holds": ("base.py", "start = 1", "start = 2"),
    "its base class": ("base.py", "from abc import ABC", "from enum import Enum as ABC"),
    "a constant": ("plain.py", "constant = 7", "constant = 8"),
    "a constant that is computed": ("tools.py", "return 4", "return 5"),
    "a swapped import of the same signature": ("tools.py", "import math", "import cmath as math"),
    "a swapped library": ("stage.py", "import numpy as np", "import torch as np"),
    "an import of a helper of the same name": ("stage.py", "from elf.package import", "from elf.package.two import"),
    "a re-export": ("package/__init__.py", "package.one", "package.two"),
    "two names swapped": (
        "stage.py",
        "import constant, other as renamed",
        "import constant as renamed, other as constant",
    ),
    "an import inside": ("stage.py", "from elf.late import late", "from elf.slow import chosen as late"),
    "what a string annotation names": ("stage.py", "Alias = int", "Alias = float"),
    "the other way of a choice": ("slow.py", "return 1", "return 2"),
    "a library in a choice": ("choice.py", "from fast", "from faster"),
    "one of two that call each other": ("late.py", "n - 1", "n - 2"),
    "who is called by whom": ("late.py", "return ping(value)", "return pong(value)"),
    "a call at the top": ("tools.py", "import math\n", "import math\nmath.seed(1)\n"),
    "a call at the top of a module whose definitions are not used": ("package/__init__.py", "from", "print()\nfrom"),
    "a call in an assignment to a name that nobody uses": (
        "tools.py",
        "import math\n",
        "import math\n_ = math.modf.set()\nx = call()\n",
    ),
    "an assignment to another module": (
        "tools.py",
        "import math\n",
        "import math\nfrom elf import plain\nplain.constant = 1\n",
    ),
    "a patched function": ("stage.py", "unused = 5", "t.used = max"),
    "a registering decorator": ("tools.py", "def idle", "@register\ndef idle"),
    "an import for what it does": ("tools.py", "import math\n", "import math\nimport effects\n"),
    "a name that is bound again": ("plain.py", "constant = 7\n", "constant = 7\nconstant = 8\n"),
    "a deleted name": ("plain.py", "constant = 7\n", "constant = 7\ndel other\n"),
    "a loop at the top": ("plain.py", "constant = 7\n", "constant = 7\nfor other in ():\n    pass\n"),
    "a shadowed name": ("stage.py", "for one in range(size)", "for renamed in range(size) for one in [renamed]"),
    "annotations that are not evaluated": (
        "stage.py",
        "from elf import tools",
        "from __future__ import annotations\nfrom elf import tools",
    ),
    "a base that acts on those derived from it": (
        "base.py",
        "start = 1",
        "start = 1\n\n    def __init_subclass__(cls):\n        cls.x = 1",
    ),
    "a builtin that is covered": ("stage.py", "unused = 5", "range = list"),
    "a module that answers for names": (
        "tools.py",
        "def idle",
        "def __getattr__(name):\n    return 1\n\n\nused = None\n\n\ndef idle",
    ),
}
COUNTS_NOT = {
    "what nobody uses": ("stage.py", "unused = 5", "unused = 6"),
    "a function that nobody calls": ("tools.py", "return 1", "return 2"),
    "a comment": ("stage.py", "unused = 5", "unused = 5  # why"),
    "a docstring": ("tools.py", "    return math", "    'Text.'\n    return math"),
    "the style of an import": (
        "stage.py",
        "from elf.plain import constant, other as renamed",
        "from elf.plain import constant\nfrom elf.plain import other as renamed",
    ),
    "how a module is called here": ("stage.py", None, None),
    "a logger": ("tools.py", "import math\n", "import logging\nimport math\n\nlog = logging.getLogger(__name__)\n"),
    "a class of fields": (
        "tools.py",
        "import math\n",
        (
            "import math\nfrom dataclasses import dataclass\n\n\n"
            "@dataclass(frozen=True)\nclass Entry:\n    name: str\n\n\n"
            "TABLE = {'a': Entry('a')}\n\n"
        ),
    ),
    "imports for type checkers": (
        "plain.py",
        "constant = 7",
        "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from elf.unseen import x\n\nconstant = 7",
    ),
}


def code_of(folder: Path, files: dict[str, str], *roots: str) -> str:
    copy = folder / "elf"
    shutil.rmtree(copy, ignore_errors=True)
    for name, text in files.items():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text(text, encoding="utf-8")
    forget()
    return fingerprint(*roots, package=copy)


def edited(file: str, old: str | None, new: str | None) -> dict[str, str]:
    if old is None:
        text = FILES[file].replace("tools as t", "tools").replace(" t.", " tools.")
    else:
        assert FILES[file].count(old) >= 1
        text = FILES[file].replace(old, new, 1)
    ast.parse(text)
    return FILES | {file: text}


@pytest.mark.parametrize("edit", COUNTS)
def test_what_may_change_a_result_counts(tmp_path, edit):
    assert code_of(tmp_path, edited(*COUNTS[edit]), "elf.stage:main") != code_of(tmp_path, FILES, "elf.stage:main")


@pytest.mark.parametrize("edit", COUNTS_NOT)
def test_what_cannot_change_a_result_does_not_count(tmp_path, edit):
    assert code_of(tmp_path, edited(*COUNTS_NOT[edit]), "elf.stage:main") == code_of(tmp_path, FILES, "elf.stage:main")


def test_two_functions_of_one_name_that_are_swapped_count(tmp_path):
    """Everything that is reached stays the same; only who calls whom changes."""
    files = {
        "__init__.py": "",
        "a.py": "def go():\n    return 1\n",
        "b.py": "def go():\n    return 2\n",
        "first.py": "from elf.a import go\n\n\ndef first():\n    return go()\n",
        "second.py": "from elf.b import go\n\n\ndef second():\n    return go()\n",
        "stage.py": (
            "from elf.first import first\nfrom elf.second import second\n\n\n"
            "def main():\n    return first() - second()\n"
        ),
    }
    swapped = files | {
        "first.py": files["first.py"].replace("elf.a", "elf.b"),
        "second.py": files["second.py"].replace("elf.b", "elf.a"),
    }
    one, other = (json.loads(code_of(tmp_path, some, "elf.stage:main")) for some in (files, swapped))
    assert changed(one, other) == (module.WIRING,)


def test_a_name_that_is_also_bound_inside_counts_both_ways(tmp_path):
    text = "from elf.a import f\nfrom elf.a import f as g\n\n\ndef main(f):\n    return {}\n"
    files = {"__init__.py": "", "a.py": "def f(x):\n    return x\n"}
    one, other = (code_of(tmp_path, files | {"s.py": text.format(what)}, "elf.s:main") for what in ("f(g)", "g(f)"))
    assert one != other


def test_order_counts_where_statements_act(tmp_path):
    text = "from elf.a import step\n\nfirst = step()\nsecond = step()\n\n\ndef main():\n    return first, second\n"
    other = text.replace("first = step()\nsecond = step()", "second = step()\nfirst = step()")
    files = {
        "__init__.py": "",
        "a.py": "from itertools import count\n\nnumbers = count()\n\n\ndef step():\n    return next(numbers)\n",
    }
    one, two = (code_of(tmp_path, files | {"s.py": some}, "elf.s:main") for some in (text, other))
    assert one != two


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            "import importlib\n\n\ndef main(name):\n    return importlib.import_module(name)\n",
            "importlib.import_module",
        ),
        (
            "from importlib import import_module as get\n\n\ndef main():\n    return get('elf.a')\n",
            "importlib.import_module",
        ),
        ("import sys\n\n\ndef main():\n    return sys.modules['elf.a'].x\n", "sys.modules"),
        ("def main():\n    return __import__('elf.a')\n", "__import__"),
        ("def main():\n    return eval('1')\n", "eval"),
        ("def main(base):\n    return base.__subclasses__()\n", "__subclasses__"),
        ("from elf.a import *\n\n\ndef main():\n    return x\n", "import \\*"),
        ("def main():\n    import elf.a\n    return elf.a.x\n", "from ... import"),
    ],
)
def test_code_that_is_found_by_other_ways_than_names_is_refused(tmp_path, statement, message):
    with pytest.raises(ElfError, match=message):
        code_of(tmp_path, {"__init__.py": "", "a.py": "x = 1\n", "s.py": statement}, "elf.s:main")


@pytest.mark.parametrize(
    "use",
    ["getattr(tools, name)", "vars(tools)[name]", "call(tools)", "[tools]", "globals()[name]"],
)
def test_a_module_that_is_used_as_a_value_counts_whole(tmp_path, use):
    files = {"__init__.py": "", "s.py": f"from elf import tools\n\nidle = 1\n\n\ndef main(name):\n    return {use}\n"}
    one, other = (code_of(tmp_path, files | {"tools.py": f"idle = {n}\n"}, "elf.s:main") for n in (1, 2))
    assert one != other


def test_absent_modules_and_definitions_are_named(tmp_path):
    with pytest.raises(ElfError, match=r"there is no module elf\.distillation\.nothing"):
        fingerprint("elf.distillation.nothing")
    with pytest.raises(ElfError, match="defines no nothing"):
        fingerprint("elf.training.protocol:nothing")
    with pytest.raises(ElfError, match=r"s\.py, line 1: is no Python"):
        code_of(tmp_path, {"__init__.py": "", "s.py": "def main(:\n"}, "elf.s:main")


def test_no_module_is_named_and_the_text_is_canonical(package):
    forget()
    text = code.evaluate_code(Spec(network=CONVNET, objective=Spec(name="elf")))
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    assert "elf." not in text and "__init__" not in text
    assert re.fullmatch("[0-9a-f]{16}", code_id(text))


def test_every_import_by_a_computed_name_is_declared():
    """And no literal name is imported so, which would only hide it."""
    found = set()
    for file in (PROJECT / "elf").rglob("*.py"):
        name = ".".join(file.relative_to(PROJECT).with_suffix("").parts)
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            for call in (n for n in ast.walk(node) if isinstance(n, ast.Call)):
                if "import_module" in ast.unparse(call.func):
                    assert not isinstance(call.args[0], ast.Constant), (name, ast.unparse(call))
                    found.add(f"{name}:{node.name}")
    # What plug-ins say of themselves is run without an import. The command line finds its commands so; it is part of no
    # result.
    plugins = {"elf.specs.plugins:_run", "elf.specs.plugins:use"}
    assert plugins < {*module.BY_NAME} and found == {*module.BY_NAME, "elf.cli:main"} - plugins

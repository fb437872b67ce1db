"""A fingerprint changes with every edit that can change a result, and with no other."""

import ast
import json
import shutil
from pathlib import Path

import pytest
from conftest import PROJECT
from hypothesis import given, settings
from hypothesis import strategies as st

from elf import fingerprint as module
from elf.errors import ElfError
from elf.fingerprint import fingerprint

NETWORKS = ("convnet", "resnet", "vgg", "torchvision_models")
STAGES = {
    "prepare": ("elf.stages.prepare_dataset", "elf.data.sources.digits"),
    "prepare parquet": ("elf.stages.prepare_dataset", "elf.data.sources.parquet"),
    "distill dm": ("elf.stages.distill", "elf.distillation.dm", "elf.networks.convnet"),
    "distill random": ("elf.stages.distill", "elf.distillation.random"),
    "teacher": ("elf.stages.train_teacher", "elf.networks.convnet"),
    "features": ("elf.stages.extract_features", "elf.networks.convnet"),
    **{
        f"evaluate {network} {objective}": (
            "elf.stages.evaluate",
            f"elf.objectives.{objective}",
            f"elf.networks.{network}",
        )
        for network in NETWORKS
        for objective in ("task", "elf", "kd")
    },
    "collect": ("elf.stages.collect",),
    "table": ("elf.stages.table",),
    "figure3": ("elf.stages.figure", "elf.results.figure3"),
    "figure4": ("elf.stages.figure", "elf.results.figure4"),
    "report": ("elf.stages.report",),
    "contact sheet": ("elf.stages.contact_sheet",),
}
EVALUATIONS = {name for name in STAGES if name.startswith("evaluate")}
DRAWN = {"table", "figure3", "figure4", "report"}


@pytest.fixture(scope="module", autouse=True)
def no_stale_cache():
    """A process reads each file once; these tests edit files, so here it is once for each content."""
    original, known = module._read, {}

    def read(name: str, package: Path):
        key = (name, package, module._file(name, package).read_text(encoding="utf-8"))
        if key not in known:
            known[key] = original.__wrapped__(name, package)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_read", read)
        patch.setattr(module, "_fingerprint", module._fingerprint.__wrapped__)
        yield


def digests(package: Path) -> dict[str, str]:
    return {name: fingerprint(*roots, package=package) for name, roots in STAGES.items()}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    package = tmp_path_factory.mktemp("copy") / "elf"
    shutil.copytree(PROJECT / "elf", package, ignore=shutil.ignore_patterns("__pycache__"))
    return package, digests(package)


def stale_after(pristine, file: str, edit) -> set[str]:
    """Return the stages whose fingerprint changes with an edit of a copy, which is undone again."""
    package, before = pristine
    original = (package / file).read_text(encoding="utf-8")
    try:
        (package / file).write_text(edit(original), encoding="utf-8")
        after = digests(package)
    finally:
        (package / file).write_text(original, encoding="utf-8")
    return {name for name in before if before[name] != after[name]}


def one_statement_more(text: str) -> str:
    return text + "\nONE_MORE = 1\n"


# File: exactly what an edit of it may change.
REACH = {
    "networks/vgg.py": {name for name in EVALUATIONS if " vgg " in name},
    "networks/resnet.py": {name for name in EVALUATIONS if " resnet " in name},
    "networks/torchvision_models.py": {name for name in EVALUATIONS if " torchvision_models " in name},
    "networks/convnet.py": {name for name in EVALUATIONS if " convnet " in name}
    | {"distill dm", "teacher", "features"},
    "objectives/elf.py": {name for name in EVALUATIONS if name.endswith(" elf")},
    "objectives/kd.py": {name for name in EVALUATIONS if name.endswith(" kd")},
    "distillation/dm.py": {"distill dm"},
    "distillation/random.py": {"distill random"},
    "distillation/synthetic.py": {"distill dm", "distill random"},
    "data/sources/digits.py": {"prepare"},
    "data/sources/parquet.py": {"prepare parquet"},
    "training.py": EVALUATIONS | {"teacher"},
    "stages/evaluate.py": EVALUATIONS,
    "specs/evaluation.py": EVALUATIONS | DRAWN | {"collect"},
    "specs/synthetic.py": {"distill dm", "distill random", "collect"} | DRAWN,
    "stages/distill.py": {"distill dm", "distill random"},
    "stages/train_teacher.py": {"teacher"},
    "stages/extract_features.py": {"features"},
    "stages/collect.py": {"collect"},
    "results/figure3.py": {"figure3"},
    "results/figure4.py": {"figure4"},
    "config.py": DRAWN | {"collect"},
    "grid.py": DRAWN | {"collect"},
    "data/pictures.py": {"contact sheet"},
    "cli.py": set(),
    "stages/code.py": set(),
    "files.py": set(STAGES),
}


@pytest.mark.parametrize("file", REACH)
def test_an_edit_reaches_exactly_what_uses_the_file(pristine, file):
    assert stale_after(pristine, file, one_statement_more) == REACH[file]


def test_training_is_reached_from_every_evaluation_but_no_plot(pristine):
    stale = stale_after(pristine, "results/plotting.py", one_statement_more)
    assert not stale & (EVALUATIONS | {"teacher", "features", "distill dm", "prepare", "collect"})
    assert {"figure3", "figure4"} <= stale


def rewritten(text: str) -> str:
    """The same program in another layout: no comments, other line breaks, other docstrings."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body[0].value.value = "Another text."
    return "# a comment\n" + ast.unparse(tree).replace("\n\n", "\n\n\n")


@pytest.mark.parametrize(
    "file", ["networks/vgg.py", "training.py", "objectives/elf.py", "files.py", "specs/evaluation.py"]
)
def test_comments_docstrings_and_layout_change_nothing(pristine, file):
    assert rewritten((pristine[0] / file).read_text()) != (pristine[0] / file).read_text()
    assert stale_after(pristine, file, rewritten) == set()


def constants_of(file: Path) -> list[ast.Constant]:
    return [
        node
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and node.col_offset
    ]


@settings(max_examples=10)
@given(st.data())
def test_every_number_counts(pristine, data):
    file = data.draw(st.sampled_from(["networks/vgg.py", "networks/resnet.py", "training.py", "objectives/elf.py"]))
    constant = data.draw(st.sampled_from(constants_of(pristine[0] / file)))

    def edit(text: str) -> str:
        lines = text.splitlines(keepends=True)
        line = lines[constant.lineno - 1].encode()
        start, end = constant.col_offset, constant.end_col_offset
        lines[constant.lineno - 1] = (line[:start] + b" 12345 " + line[end:]).decode()
        return "".join(lines)

    assert stale_after(pristine, file, edit) == REACH[file]


def package_of(folder: Path, files: dict[str, str]) -> Path:
    package = folder / "elf"
    for name, text in {"__init__.py": "", **files}.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text, encoding="utf-8")
    return package


PACKAGE = {
    "a/__init__.py": "from . import sibling\n",
    "a/sibling.py": "import numpy, elf_other\n",
    "a/inner/__init__.py": "",
    "a/inner/deep.py": "from ..cousin import something\nfrom .near import *\nfrom ... import top\n",
    "a/inner/near.py": "",
    "a/cousin.py": "def something():\n    from elf.lazy import x\n",
    "lazy.py": "if __name__ == '__main__':\n    import elf.hidden as h\n",
    "hidden.py": "",
    "top.py": "",
    "unrelated.py": "import elf.a.inner.deep\n",
}


def test_imports_are_followed_wherever_they_stand(tmp_path):
    package = package_of(tmp_path, PACKAGE)
    found = set(json.loads(fingerprint("elf.a.inner.deep", package=package)))
    assert found == {
        "elf",
        "elf.a",
        "elf.a.sibling",
        "elf.a.inner",
        "elf.a.inner.deep",
        "elf.a.inner.near",
        "elf.a.cousin",
        "elf.lazy",
        "elf.hidden",
        "elf.top",
    }
    assert set(json.loads(fingerprint("elf.unrelated", package=package))) == found | {"elf.unrelated"}


def test_imports_in_a_circle_end(tmp_path):
    package = package_of(tmp_path, {"a.py": "from elf import b\n", "b.py": "import elf.a\n"})
    assert set(json.loads(fingerprint("elf.a", package=package))) == {"elf", "elf.a", "elf.b"}


def test_order_of_roots_does_not_matter_and_the_text_is_canonical():
    one, other = (
        fingerprint("elf.objectives.elf", "elf.networks.vgg"),
        fingerprint("elf.networks.vgg", "elf.objectives.elf"),
    )
    assert one == other == json.dumps(json.loads(one), sort_keys=True, separators=(",", ":"))


def test_the_same_text_under_two_names_has_one_digest(tmp_path):
    package = package_of(tmp_path, {"a.py": "x = 1\n", "b.py": "x = 1\n", "c.py": "x = 2\n"})
    found = json.loads(fingerprint("elf.a", "elf.b", "elf.c", package=package))
    assert found["elf.a"] == found["elf.b"] != found["elf.c"]


def test_a_body_of_docstrings_alone_is_empty(tmp_path):
    def digest_of(text):
        return json.loads(fingerprint("elf.a", package=package_of(tmp_path, {"a.py": text})))["elf.a"]

    assert digest_of("def f():\n    '''Text.'''\n") == digest_of("def f():\n    pass\n")
    assert digest_of("def f():\n    return 1\n") != digest_of("def f():\n    pass\n")
    assert digest_of("f = 'text'\n") != digest_of("f = 'other'\n")


def test_an_absent_module_is_named():
    with pytest.raises(ElfError, match=r"there is no module elf\.distillation\.nothing"):
        fingerprint("elf.distillation.nothing")


def test_every_import_of_the_project_is_found(run_python):
    """Compared with what Python itself imports for a stage."""
    code = (
        "import json, sys, elf.stages.evaluate; print(json.dumps([m for m in sys.modules if m.split('.')[0] == 'elf']))"
    )
    done = run_python("-c", code, check=True)
    imported = set(json.loads(done.stdout))
    assert imported - set(module.PLANNING) <= set(json.loads(fingerprint("elf.stages.evaluate"))) | planned_only()


def planned_only() -> set[str]:
    """Modules that only the modules that plan import."""
    names = [imported for name in module.PLANNING for imported in module._read(name, module.PACKAGE)[1]]
    return {name for name in names if name.startswith("elf")}


def test_planning_never_loads_pytorch(run_python):
    """Snakemake reads the configuration, the grid and the fingerprints for every command, and for every job again."""
    code = """\
import sys
from pathlib import Path
import elf.cli, elf.config, elf.config_reading, elf.fingerprint, elf.grid, elf.stages.code, elf.stages.plan
import elf.results.figure3, elf.results.figure4, elf.results.report.pages, elf.results.summary, elf.results.tables
from elf.stages import code
grid = elf.stages.plan.make_plan(Path("config"), "smoke", Path("results")).grid
made = [
    *map(code.prepare_dataset_code, grid.datasets.values()),
    *map(code.distill_code, grid.synthetic_sets.values()),
    *map(code.train_teacher_code, grid.teachers.values()),
    *map(code.extract_features_code, grid.features.values()),
    *map(code.evaluate_code, grid.evaluations.values()),
]
print(len(made), *sorted({"torch", "torchvision", "safetensors.torch"} & set(sys.modules)))
"""
    done = run_python("-c", code, check=True)
    count, *heavy = done.stdout.split()
    assert int(count) > 0
    assert heavy == []

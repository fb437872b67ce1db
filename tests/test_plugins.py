"""What plug-ins say of themselves: read without PyTorch, checked, and counted where a result depends on it."""

import importlib
import inspect
import shutil

import pytest
from conftest import PROJECT

from elf.artifacts.fingerprint import fingerprint
from elf.errors import ElfError
from elf.specs import plugins
from elf.specs.kinds import EVALUATIONS
from elf.specs.objective import OBJECTIVES, Objective
from elf.study.config import ObjectiveConfig
from elf.study.plan import make_plan

MODULES = {name: importlib.import_module(OBJECTIVES.module(name)) for name in OBJECTIVES.names()}
SMOOTH = '''"""Cross-entropy with smoothed labels (Szegedy et al., 2016)."""

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from elf.networks.split import SplitNetwork
from elf.specs.labels import CROSS_ENTROPY
from elf.specs.objective import ObjectiveSettings

LABEL = "+ smoothing"
TAKES = {"hard": CROSS_ENTROPY["hard"]}


class Settings(ObjectiveSettings):
    """Settings of the loss."""

    epsilon: float = Field(default=0.1, ge=0, lt=1, description="Share of all classes together.")


def loss(network: SplitNetwork, images: Tensor, labels: Tensor, targets=None, *, epsilon: float = 0.1) -> Tensor:
    """Return the loss of a batch."""
    return functional.cross_entropy(network(images), labels, label_smoothing=epsilon)


def lowest(labels: Tensor, targets=None, *, epsilon: float = 0.1) -> float:
    """Return a value that the loss does not fall below."""
    return 0.0
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Return a copy of the package, in which plug-ins are looked for."""
    copy = tmp_path / "elf"
    shutil.copytree(PROJECT / "elf", copy, ignore=shutil.ignore_patterns("__pycache__", "*.csv", "*.j2"))
    monkeypatch.setattr(plugins, "PACKAGE", copy)
    return copy


def test_objectives_are_the_modules_that_define_a_loss():
    assert OBJECTIVES.names() == ["elf", "frepo", "kd", "squared", "task"]


@pytest.mark.parametrize("name", OBJECTIVES.names())
def test_settings_are_the_arguments_of_the_loss(name):
    module, said = MODULES[name], OBJECTIVES.read(name)
    given = inspect.signature(module.loss).parameters.values()
    given = {one.name: one.default for one in given if one.kind is one.KEYWORD_ONLY}
    assert given == said.Settings().model_dump() == Objective(name=name).settings
    # What is read without running the module is what the module holds.
    for key in ("LABEL", "TAKES", "NEEDS", "RECIPE", "COLUMNS"):
        assert getattr(said, key) == getattr(module, key, type(said).model_fields[key].get_default())


def test_what_they_say_is_read_without_pytorch(run_python):
    program = (
        "import sys; from elf.specs.objective import OBJECTIVES as rooms; "
        "[rooms.read(name) for name in rooms.names()]; assert not {'torch', 'elf.objectives.elf'} & {*sys.modules}"
    )
    run_python("-c", program, check=True)


def test_a_new_objective_is_one_file(package):
    before = {name: _code(Objective(name=name), package) for name in OBJECTIVES.names()}
    (package / "objectives" / "smooth.py").write_text(SMOOTH)
    objectives = [*ObjectiveConfig(name="smooth", epsilon=[0, 0.25]).expand(), Objective(name="smooth")]
    assert [one.settings for one in objectives] == [{"epsilon": 0.0}, {"epsilon": 0.25}, {"epsilon": 0.1}]
    assert [one.label for one in objectives] == [f"smooth[epsilon={value}]" for value in ("0", "0.25", "0.1")]
    assert [one.slug for one in objectives] == [f"smooth-epsilon{value}" for value in ("0", "0.25", "0.1")]
    assert not objectives[0].needs_teacher and objectives[0].column("temperature") is None
    assert objectives[0].canonical() == '{"epsilon":0.0,"name":"smooth"}'
    assert {name: _code(Objective(name=name), package) for name in before} == before


def test_an_objective_holds_its_own_settings_alone():
    assert Objective(name="task").canonical() == '{"name":"task"}'
    assert Objective(name="kd", weight=2).canonical() == '{"name":"kd","temperature":4.0,"weight":2.0}'
    assert Objective(name="kd", weight=2).column("kd_weight") == 2 and Objective(name="kd").column("distance") is None


@pytest.mark.parametrize(
    ("old", "new", "stale"),
    [
        ('LABEL = "+ KD"', 'LABEL = "+ logits"', []),
        ('description="Divides', 'description="Both: divides', []),
        ("TAKES = CROSS_ENTROPY", "TAKES = {**CROSS_ENTROPY}", ["kd"]),
        ("weight * temperature**2", "weight * temperature**3", ["kd"]),
    ],
)
def test_of_what_they_say_only_that_counts_which_decides_on_results(package, old, new, stale):
    before = {name: _code(Objective(name=name), package) for name in OBJECTIVES.names()}
    file = package / "objectives" / "kd.py"
    other = package.with_name("other")
    shutil.copytree(package, other)
    edited = file.read_text().replace(old, new)
    assert edited != file.read_text()
    (other / "objectives" / "kd.py").write_text(edited)
    after = {name: _code(Objective(name=name), other) for name in before}
    assert [name for name in before if before[name] != after[name]] == stale


MISTAKES = {
    "no label": ('LABEL = "+ smoothing"\n', "", "LABEL: is missing; every objective says this of itself"),
    "unknown kind": ('{"hard": ', '{"harsh": ', "TAKES.harsh"),
    "unknown need": ("TAKES =", 'NEEDS = "gradients"\nTAKES =', "NEEDS: Input should be 'features' or 'logits'"),
    "syntax": ("LABEL = ", "LABEL == = ", "smooth.py, line 11: is no Python that can be read (invalid syntax)"),
    "undefined": ("CROSS_ENTROPY[", "CROSS[", "smooth.py, line 12: what it says of itself cannot be read: NameError"),
    "column without setting": ("TAKES =", 'COLUMNS = {"eps": "variant"}\nTAKES =', "'eps' is none of its settings"),
    "unknown column": ("TAKES =", 'COLUMNS = {"epsilon": "eps"}\nTAKES =', "COLUMNS.epsilon: Input should be"),
    "setting that has no default": ("default=0.1, ", "", "Settings: the setting 'epsilon' has no default"),
    "setting that means something else": ("    epsilon:", "    labels:", "no setting may be called 'labels'"),
    "settings of another kind": (
        "(ObjectiveSettings)",
        "",
        "Settings: Input should be a subclass of ObjectiveSettings",
    ),
    "no loss": ("def loss(", "def lose(", "there is no objective 'smooth'; allowed: elf, frepo"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_what_one_says_is_one_line(package, mistake):
    old, new, said = MISTAKES[mistake]
    file = package / "objectives" / "smooth.py"
    assert old in SMOOTH
    file.write_text(SMOOTH.replace(old, new))
    with pytest.raises(ElfError) as caught:
        OBJECTIVES.read("smooth")
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert mistake == "no loss" or str(caught.value).startswith(str(file))


def test_annotations_may_be_postponed(package):
    text = SMOOTH.replace('2016)."""\n', '2016)."""\n\nfrom __future__ import annotations\n')
    text = text.replace("from pydantic", "from typing import Literal\n\nfrom pydantic")
    text = text.replace("    epsilon:", '    kind: Kind = Field(default="a", description="None.")\n    epsilon:')
    text = text.replace("\n\nclass Settings", '\nKind = Literal["a", "b"]\n\n\nclass Settings')
    (package / "objectives" / "smooth.py").write_text(text)
    assert Objective(name="smooth", kind="b").slug == "smooth-kindb-epsilon0.1"
    with pytest.raises(ValueError, match="kind: found 'c'"):
        Objective(name="smooth", kind="c")


@pytest.mark.parametrize(
    ("old", "new", "drawn", "collected"),
    [
        ('LABEL = "+ KD"', 'LABEL = "+ logits"', True, False),
        ('"weight": "kd_weight"', '"weight": "lambda_rear"', True, True),
    ],
)
def test_what_people_read_makes_drawings_stale_where_it_is_shown(package, monkeypatch, old, new, drawn, collected):
    def digests() -> dict:
        plan = make_plan(PROJECT / "config", "demo", package / "results")
        return {name: (plan.experiment_digest(name), plan.results_digest(name)) for name in plan.grid.cells}

    other = package.with_name("other")
    shutil.copytree(package, other)
    (other / "objectives" / "kd.py").write_text((package / "objectives" / "kd.py").read_text().replace(old, new))
    before = digests()
    monkeypatch.setattr(plugins, "PACKAGE", other)
    after = digests()
    stale = {name: tuple(a != b for a, b in zip(before[name], after[name], strict=True)) for name in before}
    assert stale == {"table05": (drawn, collected), "figure4": (False, False)}


def _code(objective: Objective, package) -> str:
    module = OBJECTIVES.module(objective.name)
    return fingerprint(*(f"{module}:{name}" for name in (*OBJECTIVES.functions, "TAKES")), package=package)


def test_evaluations_depend_on_their_objective():
    spec = type("Spec", (), {"objective": Objective(name="kd"), "network": "convnet-w8-d3-in"})()
    assert {f"elf.objectives.kd:{name}" for name in ("loss", "lowest", "TAKES")} < {*EVALUATIONS.named(spec)}

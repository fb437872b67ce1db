"""docs/adding.md, followed to the letter: what it adds is planned, and nothing that was computed becomes stale."""

import importlib
import re
import shutil
import textwrap

import pytest
import torch
from conftest import PROJECT
from fabricated_runs import configuration, finish, plan_of, states

from elf.artifacts import fingerprint as fingerprints
from elf.artifacts.manifest import describe
from elf.artifacts.tensors import write_tensors
from elf.distillation.shared.synthetic import RealImages
from elf.errors import ElfError
from elf.importing.sets import import_set
from elf.specs import plugins
from elf.specs.kinds import COLLECTED, DRAWN, KINDS
from elf.specs.method import METHODS
from elf.specs.objective import OBJECTIVES, Objective
from elf.stages.prepare_dataset import prepare_dataset
from elf.status.jobs import jobs_of
from elf.study.config_reading import plugins_folder

GUIDE = (PROJECT / "docs" / "adding.md").read_text(encoding="utf-8")
BLOCKS = {
    name: textwrap.dedent(text)
    for name, text in re.findall(r"^ *```\w+\n *# (\S+)\n((?:.*\n)*?) *```$", GUIDE, re.MULTILINE)
}

SHARED = ("config/datasets.yaml",)
"""Files that an addition adds to."""


class Study:
    """A finished study, and the place where its plug-ins lie: the package, or a folder of the user's."""

    def __init__(self, folder, place: str) -> None:
        self.folder, self.place, self.config = folder, place, folder / "config"

    def add(self, name: str, text: str | None = None) -> None:
        text = BLOCKS[name] if text is None else text
        inside = {"package": "elf", "user": "mine"}[self.place]
        file = self.folder / (name if name.startswith("config/") else f"{inside}/{name}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text((file.read_text() if name in SHARED else "") + text)
        if self.place == "user" and not name.startswith("config/"):
            self.edit("config.yaml", "scale: smoke\n", "scale: smoke\nplugins: mine\n")

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.config / name).read_text()
        if new not in text:
            assert text.count(old) == 1
            (self.config / name).write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    configuration(folder)
    finish(plan_of(folder))
    return folder


@pytest.fixture(params=["package", "user"])
def study(request, finished, tmp_path, monkeypatch):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.delenv("ELF_PLUGINS", raising=False)
    if request.param == "package":
        shutil.copytree(PROJECT / "elf", tmp_path / "elf", ignore=shutil.ignore_patterns("__pycache__"))
        for module in (plugins, fingerprints):
            monkeypatch.setattr(module, "PACKAGE", tmp_path / "elf")
    yield Study(tmp_path, request.param)
    plugins.use(None)


def added(study: Study, before, experiment: str) -> list[str]:
    """Return the jobs that an addition has added, after checking that it has made stale what it may, and that alone."""
    old, new = jobs_of(before), jobs_of(plan := plan_of(study.folder))
    assert old.keys() <= new.keys()
    found = states(plan)
    stale = {path for path in old if found[path].reasons and old[path].group != DRAWN}
    gathered = {path for path in stale if old[path].group == COLLECTED}
    assert stale == gathered == {f"collected/{experiment}.parquet", "results.parquet"}
    for name in before.grid.cells:
        digests = [(p.experiment_digest(name), p.results_digest(name)) for p in (before, plan)]
        assert (digests[0] == digests[1]) == (name != experiment)
    return sorted(new.keys() - old.keys())


def test_an_objective(study):
    before = plan_of(study.folder)
    study.add("objectives/smooth.py")
    block = "{method: [dm, random], eval_network: [resnet18-in, vgg11-bn]}"
    objectives = "objective: [{name: task}, {name: smooth, epsilon: [0.05, 0.1]}]"
    study.edit("scales/tiny.yaml", block, f"{block[:-1]}, {objectives}}}")
    assert added(study, before, "table05") == sorted(
        f"evaluations/digits/{images}/{network}/smooth-epsilon{epsilon}-lr0.01/seeds0-1.parquet"
        for images in ("dm-convnet-w2-d3-in-ipc10-seed0", "random-ipc10-seed0")
        for network in ("resnet18-w1-in", "vgg11-w1-bn")
        for epsilon in (0.05, 0.1)
    )
    plan = plan_of(study.folder)
    labels = {cell.columns["objective"] for cell in plan.grid.cells["table05"]}
    assert labels >= {"task", "smooth[epsilon=0.05]", "smooth[epsilon=0.1]"}
    # An edit of it makes stale what was made with it, and that alone.
    finish(plan)
    assert not any(state.reasons for path, state in states(plan).items() if jobs_of(plan)[path].group != DRAWN)
    study.add("objectives/smooth.py", BLOCKS["objectives/smooth.py"].replace("g=epsilon", "g=0.5"))
    forget()
    stale = {p for p, s in states(plan_of(study.folder)).items() if s.reasons and jobs_of(plan)[p].kind in KINDS}
    assert {p for p in stale if p.startswith("evaluations/")} == {p for p in jobs_of(plan) if "smooth" in p}


def test_a_method_that_iterates(study):
    before = plan_of(study.folder)
    study.add("distillation/averages.py")
    study.add("config/recipes/averages.yaml")
    study.edit("scales/tiny.yaml", "methods: [dm,", "methods: [averages, dm,")
    study.edit("scales/tiny.yaml", "aligned: {method: [dm, random]}", "aligned: {method: [dm, random, averages]}")
    assert added(study, before, "table05") == [
        "evaluations/digits/averages-ipc10-seed0/convnet-w2-d3-in/task-lr0.01/seeds0-1.parquet",
        "synthetic/digits/averages-ipc10-seed0/contact_sheet.png",
        "synthetic/digits/averages-ipc10-seed0/images.safetensors",
    ]


BLOCK = """\
  birds:
    dataset: birds
    ipc: [10]
    method: [random]
    distill_network: [convnet-w128-d3-in]
    eval_network: [resnet18-in]
    objective: [{name: task}]
"""


@pytest.mark.parametrize("study", ["user"], indirect=True)
def test_a_data_set_with_constants_of_its_own(study):
    before = plan_of(study.folder)
    study.add("config/datasets.yaml")
    study.edit("experiments/table05.yaml", "blocks:\n", f"blocks:\n{BLOCK}")
    assert added(study, before, "table05") == [
        "datasets/birds/images.safetensors",
        "evaluations/birds/random-ipc10-seed0/resnet18-w1-in/task-lr0.01/seeds0-1.parquet",
        "synthetic/birds/random-ipc10-seed0/contact_sheet.png",
        "synthetic/birds/random-ipc10-seed0/images.safetensors",
    ]
    spec = plan_of(study.folder).grid.datasets["datasets/birds"]
    assert (spec.normalisation, spec.mean, spec.std) == ("own", (0.48, 0.50, 0.42), (0.24, 0.23, 0.26))
    _, preprocessing = prepare_dataset(spec.model_copy(update={"source": "digits", "location": None}), study.folder)
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 3, 1, 1)
    expected = [(0 - 0.48) / 0.24, (0.2 - 0.5) / 0.23, (1 - 0.42) / 0.26]
    torch.testing.assert_close(preprocessing.transform(pixels).flatten(), torch.tensor(expected))


def test_constants_that_only_a_data_set_has_are_not_guessed(tmp_path):
    file = tmp_path / "birds.safetensors"
    said = {"space": "normalised", "constants": "own", "dataset": "birds", "labels": "hard"}
    manifest = describe("exported set", said, inputs={}, code="{}", measured={"device": "cpu"})
    write_tensors(file, {"images": torch.zeros(2, 3, 8, 8), "labels": torch.tensor([0, 1])}, manifest)
    with pytest.raises(ElfError, match="constants that only its data set birds has"):
        import_set([file])


@pytest.mark.parametrize("study", ["user"], indirect=True)
def test_plug_ins_of_a_user_compute(study):
    study.add("objectives/smooth.py")
    study.add("distillation/averages.py")
    plugins.use(plugins_folder(study.config))
    objective = importlib.import_module(OBJECTIVES.module("smooth"))
    logits, labels = torch.randn(6, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0, 1])
    smoothed = torch.full((6, 4), 0.2 / 4, dtype=torch.float64)
    smoothed[range(6), labels] += 0.8
    expected = -(smoothed * logits.log_softmax(1)).sum(1).mean()
    settings = Objective(name="smooth", epsilon=0.2).settings
    torch.testing.assert_close(objective.loss(lambda images: images, logits, labels, None, **settings), expected)

    method = importlib.import_module(METHODS.module("averages"))
    real = RealImages(torch.arange(12.0).reshape(12, 1, 1, 1).expand(12, 3, 2, 2), torch.arange(12) % 2, 2)
    given = {"iterations": 200, "share": 0.5, "batch_real": 6}
    made = method.distill(real, settings=given, ipc=2, network=None, seed=0, progress=lambda *_: None)
    means = torch.tensor([5.0, 5.0, 6.0, 6.0]).reshape(4, 1, 1, 1).expand(4, 3, 2, 2)
    torch.testing.assert_close(made.images, means)
    assert method.__name__ == "elf_plugins.distillation.averages" and made.labels.tolist() == [0, 0, 1, 1]


MISTAKES = {
    "syntax": ("objectives/smooth.py", lambda text: text.replace("LABEL =", "LABEL"), "is no Python that can be read"),
    "nothing required": (
        "objectives/smooth.py",
        lambda text: "LABEL = 1\n",
        "defines no loss, which every objective has",
    ),
    "no label": ("objectives/smooth.py", lambda text: text.replace("LABEL", "NAME"), "LABEL: is missing"),
    "no distill": ("distillation/averages.py", lambda text: "", "defines no distill, which every method has"),
    "name of another": (
        "objectives/kd.py",
        lambda text: BLOCKS["objectives/smooth.py"],
        "elf/objectives has a kd.py, too",
    ),
    "unknown room": (
        "objective/smooth.py",
        lambda text: "",
        "holds no plug-ins that are known; allowed: objectives, dis",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_of_a_user_is_one_line_at_the_start(tmp_path, monkeypatch, mistake):
    monkeypatch.delenv("ELF_PLUGINS", raising=False)
    configuration(tmp_path)
    study = Study(tmp_path, "user")
    name, change, said = MISTAKES[mistake]
    study.add(name, change(BLOCKS.get(name, "")))
    with pytest.raises(ElfError, match=re.escape(said)) as caught:
        plan_of(tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path / "mine") in str(caught.value)
    plugins.use(None)


def test_the_folder_of_a_user_may_be_named_in_three_places(tmp_path, monkeypatch):
    monkeypatch.delenv("ELF_PLUGINS", raising=False)
    config = configuration(tmp_path)
    assert plugins_folder(config) is None
    (config / "config.yaml").write_text("scale: smoke\nplugins: mine\n")
    assert plugins_folder(config) == tmp_path / "mine"
    monkeypatch.setenv("ELF_PLUGINS", "/theirs")
    assert str(plugins_folder(config)) == "/theirs"
    assert plugins_folder(config, "others") == tmp_path / "others"
    monkeypatch.setenv("ELF_PLUGINS", "")
    assert plugins_folder(config) is None
    with pytest.raises(ElfError, match="there is no folder"):
        plugins.use_checked(tmp_path / "others", ())
    plugins.use(None)


def forget() -> None:
    """A process reads each file once; these tests edit files."""
    for module in (plugins, fingerprints):
        for remembered in vars(module).values():
            if hasattr(remembered, "cache_clear") and remembered.__module__ == module.__name__:
                remembered.cache_clear()

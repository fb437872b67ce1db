"""Every mistake ends as one line that names the file, the key, what was found and what is allowed."""

import shutil
from pathlib import Path

import pytest
from conftest import PROJECT
from hypothesis import given
from hypothesis import strategies as st

from elf.data.preprocessing import CONSTANTS, WHITENED
from elf.errors import ElfError
from elf.study.config import NORMALISATIONS
from elf.study.config_reading import load_settings, merged, read_yaml
from elf.study.grid import build_grid

CONFIG = PROJECT / "config"
SCALES = sorted(path.stem for path in (CONFIG / "scales").glob("*.yaml"))

TOP = "config.yaml"
DATASETS = "datasets.yaml"
SCALE = "scales/small.yaml"
TABLE = "experiments/table05.yaml"
DM = "recipes/dm.yaml"
EVALUATION = "recipes/evaluation.yaml"

FILES = {
    TOP: "scale: small\n",
    DATASETS: """\
digits:
  source: digits
  side: 32
  normalisation: digits
places:
  source: folder
  location: some-places
  side: 64
  normalisation: imagenet
""",
    SCALE: """\
description: small scale
methods: [dm, random]
experiments: [table05]
width: 0.5
stand_ins: {cifar10: digits}
recipes:
  evaluation: {epochs: 10}
changes:
  table05:
    blocks:
      elf: {teacher_epoch: 6}
""",
    TABLE: """\
title: A table
kind: table
number: 5
blocks:
  baseline:
    dataset: cifar10
    ipc: [10]
    method: [dm, mtt]
    distill_network: [convnet-w128-d3-in]
    eval_network: [resnet18-in]
    objective: [{name: task}]
  elf:
    dataset: cifar10
    ipc: [10]
    method: [dm, mtt]
    distill_network: [convnet-w128-d3-in]
    eval_network: [resnet18-in]
    objective: [{name: elf}]
    teacher_epoch: {dm: 30, mtt: 50}
    lr: {dm: 0.005, mtt: 0.01}
""",
}
ELF_BLOCK = "objective: [{name: elf}]"


@pytest.fixture
def config(tmp_path) -> Path:
    folder = tmp_path / "config"
    shutil.copytree(CONFIG / "recipes", folder / "recipes")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def edit(config: Path, file: str, old: str, new: str) -> None:
    text = (config / file).read_text(encoding="utf-8")
    assert old in text
    (config / file).write_text(text.replace(old, new, 1), encoding="utf-8")


def grid_of(config: Path, scale: str | None = None):
    return build_grid(load_settings(config, scale), config / "no data")


def test_the_configuration_that_the_mistakes_are_made_in_is_sound(config):
    assert len(grid_of(config).evaluations) == 2


# File, what stands there, what is written instead, what the message has to say besides the file.
MISTAKES = {
    "unknown key at the top": (TOP, "scale:", "colour: red\nscale:", "colour: unknown key; allowed: plugins, scale"),
    "missing key": (TOP, "scale: small", "{}", "scale: this key is missing"),
    "wrong type of the scale": (TOP, "small", "3", "scale: found 3: Input should be a valid string"),
    "unknown scale": (TOP, "small", "large", "scale: there is no {config}/scales/large.yaml; allowed: small"),
    "empty file": (TOP, "scale: small", "", "found NoneType, expected a mapping"),
    "a list instead of keys": (TOP, "scale: small", "- small", "found list, expected a mapping"),
    "broken YAML": (TABLE, "blocks:", "blocks: [", "not valid YAML: while parsing"),
    "the same key twice": (TABLE, "kind: table", "kind: table\nkind: figure", "the key 'kind' occurs twice"),
    "the same key twice, deeply": (TABLE, "ipc: [10]", "ipc: [10]\n    ipc: [50]", "the key 'ipc' occurs twice"),
    "a number as a key": (TABLE, "title:", "5: x\ntitle:", "the key 5 is no text"),
    "unknown source of a dataset": (DATASETS, "source: digits", "source: web", "digits.source: found 'web'"),
    "unknown key of a dataset": (
        DATASETS,
        "side: 32",
        "side: 32\n  sides: 1",
        "digits.sides: unknown key; allowed: constants, image_column, label_column, location, normalisation, obtain",
    ),
    "a dataset that is no mapping": (DATASETS, "places:", "pictures: 5\nplaces:", "pictures: found 5"),
    "side as text": (
        DATASETS,
        "side: 32",
        "side: large",
        "digits.side: found 'large': Input should be a valid integer",
    ),
    "normalised twice": (
        DATASETS,
        "  normalisation: digits\n",
        "  normalisation: digits\n  constants: {mean: [0, 0, 0], std: [1, 1, 1]}\n",
        "digits.constants: stand in place of a normalisation",
    ),
    "normalised by nothing": (
        DATASETS,
        "  normalisation: digits\n",
        "",
        "digits.normalisation: this key is missing, and there are no constants in its place",
    ),
    "two channels": (
        DATASETS,
        "normalisation: digits\n",
        "constants: {mean: [0, 0], std: [1, 1, 1]}\n",
        "digits.constants.mean: found [0, 0]: List should have at least 3 items",
    ),
    "no spread": (
        DATASETS,
        "normalisation: digits\n",
        "constants: {mean: [0, 0, 0], std: [1, 0, 1]}\n",
        "digits.constants.std.1: found 0: Input should be greater than 0",
    ),
    "unknown normalisation": (
        DATASETS,
        ": imagenet",
        ": imagnet",
        "found 'imagnet': Input should be 'cifar', 'cifar100-dc'",
    ),
    "unknown key of a scale": (
        SCALE,
        "width:",
        "widht:",
        "widht: unknown key; allowed: changes, comparable, datasets, desc",
    ),
    "width out of bounds": (SCALE, "0.5", "2", "width: found 2: Input should be less than or equal to 1"),
    "seeds as text": (SCALE, "width:", "seeds: five\nwidth:", "seeds: found 'five': Input should be a valid integer"),
    "seeds as a truth value": (SCALE, "width:", "seeds: yes\nwidth:", "seeds: found True: Input should be a valid int"),
    "no seeds": (SCALE, "width:", "seeds: 0\nwidth:", "seeds: found 0: Input should be greater than or equal to 1"),
    "a method without a recipe": (
        SCALE,
        "random]",
        "randm]",
        "methods: unknown 'randm'; allowed: dm, dsa, frepo, herding, k-center, k-means, mtt, mtt-dc-bench, "
        "mtt-dc-bench-last, random, tesla",
    ),
    "a recipe that is no method": (
        SCALE,
        "random]",
        "teacher]",
        "methods: unknown 'teacher'; allowed: dm, dsa, frepo, ",
    ),
    "unknown experiment": (SCALE, "[table05]", "[table06]", "experiments: unknown 'table06'; allowed: table05"),
    "unknown stand-in": (SCALE, "cifar10: digits", "cifar10: digit", "stand_ins: unknown 'digit'; allowed: digits, pl"),
    "a stand-in for nothing": (SCALE, "cifar10: digits", "cifar10: digits, cifer10: digits", "unknown 'cifer10'"),
    "changes of an unknown dataset": (
        SCALE,
        "width:",
        "datasets: {digit: {side: 8}}\nwidth:",
        "unknown 'digit'; allowed",
    ),
    "unknown key in such changes": (
        SCALE,
        "width:",
        "datasets: {digits: {sid: 8}}\nwidth:",
        "datasets.digits.sid: unkn",
    ),
    "wrong type in such changes": (
        SCALE,
        "width:",
        "datasets: {digits: {side: x}}\nwidth:",
        "datasets.digits.side: found",
    ),
    "unknown recipe": (
        SCALE,
        "evaluation:",
        "evaluations:",
        "recipes: unknown 'evaluations'; allowed: dm, dsa, evaluation, expert, ",
    ),
    "unknown hyper-parameter": (SCALE, "epochs: 10", "epoch: 10", "recipes.evaluation: unknown 'epoch'; allowed: augm"),
    "fractional epochs": (
        SCALE,
        "epochs: 10",
        "epochs: 1.5",
        "recipes.evaluation.epochs: found 1.5, expected a value of",
    ),
    "epochs below the bound": (
        SCALE,
        "epochs: 10",
        "epochs: 0",
        "recipes.evaluation.epochs: found 0, allowed: 1 to inf",
    ),
    "a rate at an open bound": (
        SCALE,
        "epochs: 10",
        "lr: 0",
        "recipes.evaluation.lr: found 0.0: Input should be greater",
    ),
    "a momentum at an open bound": (
        SCALE,
        "epochs: 10",
        "momentum: 1",
        "recipes.evaluation.momentum: found 1.0: Input sh",
    ),
    "a number for a truth value": (
        SCALE,
        "epochs: 10",
        "lr_drop: 1",
        "recipes.evaluation.lr_drop: found 1, expected a",
    ),
    "a truth value for a number": (
        SCALE,
        "epochs: 10",
        "epochs: yes",
        "recipes.evaluation.epochs: found True, expected",
    ),
    "not among the choices": (
        SCALE,
        "epochs: 10",
        "augmentation: flip",
        "found 'flip', allowed: color_crop_cutout_flip_sc",
    ),
    "not a number": (SCALE, "epochs: 10", "lr: .nan", "recipes.evaluation.lr"),
    "changes of an unknown experiment": (
        SCALE,
        "  table05:",
        "  table50:",
        "changes: unknown 'table50'; allowed: table05",
    ),
    "changes of an unknown block": (
        SCALE,
        "      elf:",
        "      fle:",
        "changes.table05.blocks: unknown 'fle'; allowed: b",
    ),
    "unknown key in changes": (
        SCALE,
        "teacher_epoch:",
        "epoch:",
        "changes.table05.blocks.elf.epoch: unknown key; allowed:",
    ),
    "changes that are no mapping": (
        SCALE,
        "      elf: {teacher_epoch: 6}",
        "      - elf",
        "changes.table05.blocks: found",
    ),
    "unknown kind": (TABLE, "kind: table", "kind: tabel", "kind: found 'tabel': Input should be 'table' or 'figure'"),
    "a number that the file has not": (
        TABLE,
        "number: 5",
        "number: 6",
        "the rules draw table06 from a file of that name",
    ),
    "images per class as text": (
        TABLE,
        "ipc: [10]",
        "ipc: [ten]",
        "blocks.baseline.ipc.0: found 'ten': Input should be a",
    ),
    "no images per class": (TABLE, "ipc: [10]", "ipc: [0]", "blocks.baseline.ipc.0: found 0: Input should be greater"),
    "a number instead of a list": (
        TABLE,
        "ipc: [10]",
        "ipc: 10",
        "blocks.baseline.ipc: found 10: Input should be a valid",
    ),
    "unknown key of a block": (
        TABLE,
        "ipc: [10]",
        "icp: [10]\n    ipc: [10]",
        "blocks.baseline.icp: unknown key; allowed:",
    ),
    "unknown network": (
        TABLE,
        "[resnet18-in]",
        "[resnet-in]",
        "blocks.baseline: unknown network 'resnet-in'; allowed are",
    ),
    "unknown dataset": (
        TABLE,
        "dataset: cifar10",
        "dataset: cifar",
        "blocks.baseline: dataset: unknown 'cifar'; config/da",
    ),
    "unknown method": (
        TABLE,
        "[dm, mtt]",
        "[dm, mmt]",
        "blocks.baseline: method: unknown method 'mmt'; allowed: dm, dsa",
    ),
    "a recipe named as a method": (
        TABLE,
        "[dm, mtt]",
        "[dm, teacher]",
        "method: unknown method 'teacher'; allowed: dm",
    ),
    "unknown objective": (
        TABLE,
        "name: elf",
        "name: fle",
        "blocks.elf.objective.0.name: there is no objective 'fle'; allowed: elf, frepo, kd, squared, task",
    ),
    "unknown key of an objective": (
        TABLE,
        "{name: elf}",
        "{name: elf, term: x}",
        "objective.0.term: unknown key; allowed",
    ),
    "unknown loss terms": (
        TABLE,
        "{name: elf}",
        "{name: elf, terms: [front]}",
        "objective.0.terms.0: found 'front': Input",
    ),
    "unknown distance": (
        TABLE,
        "{name: elf}",
        "{name: elf, distance: [l2]}",
        "objective.0.distance.0: found 'l2': Input",
    ),
    "negative weight": (
        TABLE,
        "{name: elf}",
        "{name: elf, lambda_rear: [-1]}",
        "objective.0.lambda_rear.0: found -1: Inp",
    ),
    "infinite weight": (
        TABLE,
        "{name: elf}",
        "{name: elf, lambda_rear: [.inf]}",
        "objective.0.lambda_rear.0: found inf: I",
    ),
    "epoch of a misspelt method": (
        TABLE,
        "{dm: 30",
        "{dmm: 30",
        "blocks.elf: teacher_epoch: unknown method 'dmm'; allowed: dm",
    ),
    "negative epoch": (
        TABLE,
        "{dm: 30",
        "{dm: -1",
        "blocks.elf.teacher_epoch.dm: found -1: Input should be greater than",
    ),
    "fractional epoch": (
        TABLE,
        "{dm: 30",
        "{dm: 1.5",
        "blocks.elf.teacher_epoch.dm: found 1.5: Input should be a valid int",
    ),
    "rate of a misspelt method": (
        TABLE,
        "lr: {dm:",
        "lr: {dmm:",
        "blocks.elf: lr: unknown method 'dmm'; allowed: dm, dsa",
    ),
    "rate of a forgotten method": (
        TABLE,
        "lr: {dm: 0.005, ",
        "lr: {",
        "blocks.elf: lr: no value is given for the method 'dm'",
    ),
    "rate as text": (
        TABLE,
        "lr: {dm: 0.005",
        "lr: {dm: fast",
        "blocks.elf.lr.dm: found 'fast': Input should be a valid num",
    ),
    "a rate of any other type": (
        TABLE,
        "lr: {dm: 0.005, mtt: 0.01}",
        "lr: fast",
        "found 'fast': Input should be a valid nu",
    ),
    "rate of zero": (
        TABLE,
        "lr: {dm: 0.005",
        "lr: {dm: 0",
        "blocks.elf.lr.dm: found 0: Input should be greater than 0",
    ),
    "not in a recipe's file": (
        DM,
        "minimum: 0",
        "minimun: 0",
        "values.iterations.minimun: unknown key; allowed: choices",
    ),
    "value below its own bound": (
        DM,
        "value: 20000",
        "value: -5",
        "values.iterations.value: found -5, allowed: 0 to inf",
    ),
    "unknown kind of source": (
        DM,
        "official code",
        "hearsay",
        "values.iterations.source: found 'hearsay': Input should be",
    ),
    "training without a value": (EVALUATION, "  epochs:", "  epoch:", "values.epochs: this key is missing"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_that_names_file_key_and_what_is_allowed(config, mistake):
    file, old, new, said = MISTAKES[mistake]
    if "misspelt method" in mistake or "forgotten" in mistake:
        edit(config, SCALE, "elf: {teacher_epoch: 6}", "elf: {enabled: true}")
    edit(config, file, old, new)
    with pytest.raises(ElfError) as caught:
        grid_of(config)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith((f"{config / file}: ", f"config/{file}"))
    assert said.format(config=config) in message


VARIANTS = {
    "unknown axis": ("{when: {ipcs: [1]}, values: {}}", "variants.0.when.ipcs: unknown key; allowed: dataset, ipc"),
    "unknown key": ("{when: {}, values: {rate: %s}}", "variants.0.values: unknown 'rate'; allowed: align_corners"),
    "out of bounds": ("{when: {}, values: {lr: %s}}", "variants.0.values.lr.value: found -3.0, allowed: 0 to inf"),
}


@pytest.mark.parametrize("mistake", VARIANTS)
def test_variants_of_a_recipe_are_held_to_its_bounds(config, mistake):
    variant, said = VARIANTS[mistake]
    entry = "{value: -3.0, source: paper, where: there}"
    edit(config, DM, "variants:", f"variants:\n  - {variant.replace('%s', entry)}")
    with pytest.raises(ElfError) as caught:
        grid_of(config)
    assert str(caught.value) == f"{config / DM}: {said}" or str(caught.value).startswith(f"{config / DM}: {said},")


@pytest.mark.parametrize("file", [TOP, DATASETS, SCALE, EVALUATION, TABLE])
def test_an_absent_file_is_named(config, file):
    (config / file).unlink()
    with pytest.raises(ElfError) as caught:
        grid_of(config)
    assert Path(file).stem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text_is_named(config):
    (config / TABLE).write_bytes(b"title: \xff\xfe\n")
    with pytest.raises(ElfError, match=r"table05\.yaml: not valid YAML"):
        grid_of(config)


def test_an_epoch_that_no_teacher_reaches_names_block_and_last_epoch(config):
    edit(config, SCALE, "teacher_epoch: 6", "teacher_epoch: [6, 201]")
    with pytest.raises(ElfError, match=r"scales/small.*: blocks\.elf: teacher_epoch: 201 .* ends after 200 epochs"):
        grid_of(config)
    edit(config, SCALE, "[6, 201]", "[6, 200]")
    grid_of(config)


def test_a_shorter_training_of_teachers_ends_their_epochs(config):
    edit(config, SCALE, "evaluation: {", "teacher: {epochs: 5}\n  evaluation: {")
    with pytest.raises(ElfError, match=r"teacher_epoch: 6 is asked for, .* ends after 5 epochs"):
        grid_of(config)


def test_an_objective_with_a_teacher_needs_an_epoch(config):
    edit(config, SCALE, "teacher_epoch: 6", "teacher_epoch: []")
    with pytest.raises(ElfError, match=r"blocks\.elf: teacher_epoch: this key is missing"):
        grid_of(config)


def test_a_teacher_whose_map_does_not_fit_is_refused_with_one_that_fits(config):
    edit(config, TABLE, ELF_BLOCK, f"{ELF_BLOCK}\n    teacher_network: convnet-w128-d3-in")
    with pytest.raises(ElfError, match=r"convnet-w64-d3-in gives maps of 64x4x4 .* 256x4x4; convnet-w256-d3-in fits"):
        grid_of(config)
    edit(config, TABLE, "teacher_network: convnet-w128-d3-in", "teacher_network: convnet-w512-d3-in")
    assert len(grid_of(config).teachers) == 1


def test_a_width_that_no_network_can_have_is_refused(config):
    edit(config, SCALE, "0.5", "0.01")
    with pytest.raises(ElfError, match=r"width multiplier 0.01: convnet-w128-d3-in would get width 1.28"):
        grid_of(config)


def test_layout_of_a_dataset_is_found_out(config, tmp_path):
    edit(config, DATASETS, "source: folder", "source: auto")
    edit(config, SCALE, "cifar10: digits", "cifar10: places")

    def source():
        (spec,) = build_grid(load_settings(config), tmp_path).datasets.values()
        return spec.source, spec.location

    assert source() == ("folder", "some-places")
    (tmp_path / "some-places").mkdir()
    (tmp_path / "some-places" / "val_data.npz").touch()
    assert source() == ("downsampled", "some-places")
    (tmp_path / "some-places" / "train-0.parquet").touch()
    assert source() == ("parquet", "some-places")


def test_normalisations_are_those_that_exist(config):
    assert set(NORMALISATIONS) == {*CONSTANTS, *WHITENED}
    for name in NORMALISATIONS:
        edit(
            config,
            DATASETS,
            "side: 32\n  normalisation: ",
            f"side: 32\n  normalisation: {name} #",
        )
        assert load_settings(config).datasets["digits"].normalisation == name


@pytest.mark.parametrize("scale", SCALES)
def test_shipped_scales_give_a_grid_in_which_everything_has_its_inputs(scale, tmp_path):
    grid = build_grid(load_settings(CONFIG, scale), tmp_path)
    assert grid.evaluations
    for spec in grid.evaluations.values():
        assert f"datasets/{spec.dataset}" in grid.datasets
        assert f"synthetic/{spec.dataset}/{spec.synthetic_set}" in grid.synthetic_sets
        if spec.objective.needs_teacher:
            teacher = f"teachers/{spec.dataset}/{spec.teacher_network}"
            assert spec.teacher_epoch in grid.checkpoints[teacher]
            assert max(grid.checkpoints[teacher]) <= grid.teachers[teacher].recipe.epochs
            features = f"{spec.synthetic_set}/{spec.teacher_network}-epoch{spec.teacher_epoch}.safetensors"
            assert f"features/{spec.dataset}/{features}" in grid.features
    assert set(grid.checkpoints) == set(grid.teachers)


def test_a_scale_replaces_values_of_recipes_and_says_so(config):
    entry = load_settings(config).recipes["evaluation"].sourced("cifar10", 10)["epochs"]
    assert (entry.value, entry.source, entry.where) == (10, "own choice", "budget of the scale small")
    assert (entry.minimum, load_settings(CONFIG, "paper").recipes["evaluation"].values["epochs"].value) == (1, 1000)


def test_a_whole_number_instead_of_a_fraction_is_no_change(config):
    edit(config, SCALE, "evaluation: {", "dm: {lr: 1}\n  evaluation: {")
    value = load_settings(config).recipes["dm"].values["lr"].value
    assert (value, type(value)) == (1.0, float)


def test_variants_hold_where_their_condition_does_and_end_where_a_scale_decides(config):
    variants = (
        "  - {when: {dataset: [cifar100], ipc: [10]}, values: {lr: {value: 3.0, source: paper, where: a}}}\n"
        "  - {when: {ipc: [50]}, values: {lr: {value: 5.0, source: paper, where: b}}}\n"
    )
    edit(config, DM, "variants:\n", f"variants:\n{variants}")
    recipe = load_settings(config).recipes["dm"]
    found = {(d, i): recipe.sourced(d, i)["lr"].value for d in ("cifar10", "cifar100") for i in (10, 50)}
    assert found == {("cifar10", 10): 1.0, ("cifar100", 10): 3.0, ("cifar10", 50): 5.0, ("cifar100", 50): 5.0}
    edit(config, SCALE, "evaluation: {", "dm: {lr: 2.0}\n  evaluation: {")
    recipe = load_settings(config).recipes["dm"]
    assert {recipe.sourced(d, i)["lr"].value for d in ("cifar10", "cifar100") for i in (10, 50)} == {2.0}


def test_powers_of_ten_are_numbers(tmp_path):
    (tmp_path / "a.yaml").write_text("a: 1e-3\nb: -2E+1\nc: 1.5e-3\nd: e1\n")
    assert read_yaml(tmp_path / "a.yaml") == {"a": 0.001, "b": -20.0, "c": 0.0015, "d": "e1"}


TREES = st.recursive(
    st.integers(0, 9) | st.lists(st.integers(0, 9), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
MAPPINGS = st.dictionaries(st.sampled_from("abc"), TREES, max_size=3)


def leaves(tree, path=()):
    """Everything below a mapping that is not itself a filled mapping, by its path."""
    found = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            found |= leaves(value, (*path, key))
        else:
            found[(*path, key)] = value
    return found


@given(MAPPINGS, MAPPINGS)
def test_merging_keeps_what_is_not_changed_and_changes_the_rest(base, changes):
    untouched = str(base)
    result = leaves(merged(base, changes))
    assert str(base) == untouched
    changed = leaves(changes)
    for path, value in result.items():
        if path in changed and changed[path] != {}:
            assert value == changed[path]
        elif path not in changed:
            assert leaves(base)[path] == value
    for path, value in changed.items():
        if value != {}:
            assert result[path] == value


def test_merging_replaces_lists_and_merges_mappings():
    base = {"blocks": {"elf": {"method": ["dm", "mtt"], "lr": {"dm": 1, "mtt": 2}}, "kd": {"lr": 3}}}
    changes = {"blocks": {"elf": {"method": ["random"], "lr": {"dm": 5}}, "kd": {"lr": {"dm": 7}}}}
    assert merged(base, changes) == {
        "blocks": {"elf": {"method": ["random"], "lr": {"dm": 5, "mtt": 2}}, "kd": {"lr": {"dm": 7}}}
    }

"""From experiments to runs: the cells of the paper, each run once, no two runs on one path."""

import json
from pathlib import Path
from typing import get_args

import pytest
from conftest import PROJECT
from hypothesis import given
from hypothesis import strategies as st

from elf.errors import ElfError
from elf.specs.dataset import DatasetSpec
from elf.specs.evaluation import EvaluationSpec, Objective
from elf.specs.features import FeaturesSpec
from elf.specs.kinds import experts_of
from elf.specs.network import parse
from elf.specs.objective import OBJECTIVES
from elf.specs.synthetic import SyntheticSpec
from elf.specs.teacher import TeacherSpec
from elf.specs.training import TrainingRecipe
from elf.study.cell_recipes import all_recipes
from elf.study.cells import Cell, FullDataCell
from elf.study.config import Experiment, Settings
from elf.study.config_reading import load_settings
from elf.study.grid import Grid, build_grid, shards
from elf.study.images import data_folder
from elf.study.plan import Plan

CONFIG = PROJECT / "config"
TERMS = get_args(OBJECTIVES.read("elf").Settings.model_fields["terms"].annotation)
SCALES = sorted(path.stem for path in (CONFIG / "scales").glob("*.yaml"))
COLLECTIONS = ("datasets", "experts", "synthetic_sets", "teachers", "features", "evaluations")


def grid_of(scale: str, tmp_path: Path) -> Grid:
    return build_grid(load_settings(CONFIG, scale), tmp_path)


def test_recipes_at_the_scale_of_the_paper(tmp_path):
    """The numbers of the specification's sections on evaluation, teachers, experts and methods."""
    grid = grid_of("paper", tmp_path)
    for spec in grid.evaluations.values():
        assert set(spec.seeds) <= {0, 1, 2, 3, 4}
        if spec.objective.name != "frepo":
            recipe = spec.recipe
            assert (recipe.passes, recipe.momentum, recipe.weight_decay, recipe.drop_after) == (1001, 0.9, 5e-4, 501)
    for spec in grid.teachers.values():
        recipe = spec.recipe
        assert (recipe.passes, recipe.lr, recipe.momentum, recipe.weight_decay) == (200, 0.01, 0.9, 5e-4)
        assert (recipe.batch_size, recipe.drop_after) == (256, 101)
    sets = {
        (spec.method, spec.network): spec.recipe
        for spec in grid.synthetic_sets.values()
        if spec.dataset in ("cifar10", "cifar10-frepo") and spec.ipc == 10
    }
    for norm in ("in", "bn"):
        network = f"convnet-w128-d3-{norm}"
        dm, dsa, mtt = (sets[method, network] for method in ("dm", "dsa", "mtt"))
        assert (dm["iterations"], dm["lr"], dm["momentum"], dm["batch_real"]) == (20000, 1.0, 0.5, 256)
        assert (dsa["iterations"], dsa["outer_loop"], dsa["inner_loop"], dsa["lr"]) == (1000, 10, 50, 0.1)
        assert (dsa["distance"], dsa["lr_network"], dsa["batch_real"]) == ("ours", 0.01, 256)
        assert (mtt["iterations"], mtt["synthetic_steps"], mtt["expert_epochs"]) == (5000, 30, 2)
        assert (mtt["max_start_epoch"], mtt["lr_img"], mtt["lr_lr"], mtt["lr_teacher"]) == (15, 1000, 1e-5, 0.01)
        assert (mtt["experts"], mtt["gradient"]) == (100, "unrolled")
    frepo = sets["frepo", "frepoconv-w128-bn"]
    assert (frepo["iterations"], frepo["lr"], frepo["batch_real"], frepo["pool_size"]) == (500000, 3e-4, 1024, 10)
    assert frepo["mirror"] is True
    buffers = {}
    for spec in grid.experts.values():
        buffers.setdefault((spec.dataset, spec.network), []).append(spec)
        assert (spec.recipe.lr, spec.recipe.momentum, spec.recipe.weight_decay) == (0.01, 0, 0)
    # Tables 1 and 3 share a buffer: 50 images per class read start epochs up to 39 and what lies 2 epochs after.
    last = {key: specs[0].epochs[-1] for key, specs in buffers.items()}
    assert last == {
        ("cifar10", "convnet-w128-d3-in"): 41,
        ("cifar10", "convnet-w128-d3-bn"): 41,
        ("cifar100", "convnet-w128-d3-in"): 41,
        ("cifar100", "convnet-w128-d3-bn"): 41,
        ("cifar100", "convnet-w512-d3-in"): 41,
        ("cifar100-zca", "convnet-w512-d3-in"): 22,  # start epochs to 19 for 1 image per class, 3 epochs each
        ("tiny-imagenet", "convnet-w128-d4-in"): 41,
        ("imagenet-1k", "convnet-w128-d4-in"): 12,
    }
    assert {key: len(specs) for key, specs in buffers.items()} == {
        key: 50 if key[0] == "imagenet-1k" else 100 for key in last
    }


TRAJECTORIES = ("synthetic_steps", "expert_epochs", "max_start_epoch", "lr_img", "lr_lr", "lr_teacher", "batch_syn")


@pytest.mark.parametrize(
    ("name", "dataset", "ipc", "keys", "values", "source"),
    [
        ("mtt", "cifar100-zca", 1, TRAJECTORIES[:6], (20, 3, 20, 1000, 1e-5, 0.01), "mtt-distillation, readme"),
        ("mtt", "cifar100-zca", 10, TRAJECTORIES[:6], (20, 2, 20, 1000, 1e-5, 0.01), "command is without ZCA"),
        ("mtt", "tiny-imagenet", 10, TRAJECTORIES, (20, 2, 40, 10000, 1e-4, 0.01, 200), "names no depth"),
        ("tesla", "cifar10", 1, TRAJECTORIES[:6], (50, 2, 5, 1000, 1e-7, 0.01), "tesla, readme"),
        ("tesla", "cifar100-zca", 50, TRAJECTORIES, (80, 2, 40, 1000, 1e-5, 0.01, 125), "tesla, readme"),
        ("tesla", "cifar10", 10, ("experts",), (100,), "tesla, readme"),
        ("tesla", "imagenet-1k", 10, ("experts",), (50,), "tesla, readme"),
        ("dsa", "cifar10", 20, ("outer_loop", "inner_loop"), (20, 25), "get_loops"),
        ("dsa", "cifar10", 30, ("outer_loop", "inner_loop"), (30, 20), "get_loops"),
        ("dsa", "cifar10", 40, ("outer_loop", "inner_loop"), (40, 15), "get_loops"),
        ("dsa", "cifar10", 5, ("outer_loop", "inner_loop"), (10, 50), "refuses"),
        ("dsa", "cifar10", 10, ("selection_networks",), (5,), "ELF, script"),
        ("frepo", "cifar10", 50, ("mirror",), (True,), "CIFAR-10"),
        ("frepo", "tiny-imagenet", 1, ("mirror",), (True,), "1 image"),
        ("frepo", "imagenet-1k", 1, ("mirror",), (False,), "none for ImageNet"),
    ],
)
def test_values_are_those_of_the_scripts_and_say_which(name, dataset, ipc, keys, values, source):
    sourced = load_settings(CONFIG, "paper").recipes[name].sourced(dataset, ipc)
    assert tuple(sourced[key].value for key in keys) == values
    assert all(source in sourced[key].where for key in keys)


def test_experts_keep_what_any_recipe_of_the_grid_reads(tmp_path):
    settings = load_settings(CONFIG, "paper")
    more = settings.experiments["table01"].model_dump()
    more["blocks"] = {"mtt": more["blocks"]["aligned"] | {"method": ["mtt"], "ipc": [10, 50]}}
    experiments = {"table01": Experiment(**more)}
    scale = settings.scale.model_copy(update={"experiments": ["table01"]})
    grid = build_grid(settings.model_copy(update={"experiments": experiments, "scale": scale}), tmp_path)
    # 10 images read start epochs 0 to 14 and targets up to 16, 50 images 0 to 39 and up to 41.
    assert {spec.epochs for spec in grid.experts.values()} == {tuple(range(42))}
    ten = next(spec for spec in grid.synthetic_sets.values() if spec.ipc == 10)
    assert experts_of(ten) == [f"experts/cifar10/convnet-w128-d3-in/expert{i}.safetensors" for i in range(100)]


def with_recipe(tmp_path: Path, *, alone: bool = False, **changes) -> Grid:
    """Return one cell of MTT or DSA with changed hyper-parameters, beside the unchanged one or alone."""
    settings = load_settings(CONFIG, "paper")
    block = settings.experiments["table01"].blocks["aligned"].model_dump()
    method = "dsa" if "distance" in changes else "mtt"
    experiment = {"title": "t", "kind": "table", "number": 1}
    changed = {"b": block | {"method": [method], "recipe": changes}}
    experiment["blocks"] = changed if alone else {"a": block | {"method": [method]}} | changed
    scale = settings.scale.model_copy(update={"experiments": ["table01"]})
    changed = {"experiments": {"table01": Experiment(**experiment)}, "scale": scale}
    return build_grid(settings.model_copy(update=changed), tmp_path)


@pytest.mark.parametrize(
    ("changes", "variant"),
    [
        ({"distance": "mse"}, "mse"),
        ({"gradient": "constant-memory"}, "constant-memory"),
        ({"selection": "best_on_test"}, "best_on_test"),
        ({"gradient": "constant-memory", "selection": "validation"}, "constant-memory-validation"),
    ],
)
def test_a_variant_of_a_method_has_a_name_of_its_own_beside_the_default(tmp_path, changes, variant):
    grid = with_recipe(tmp_path, **changes)
    names = sorted((spec.variant or "", spec.name) for spec in grid.synthetic_sets.values())
    assert [found for found, _ in names] == ["", variant]
    assert names[1][1] == names[0][1].replace("-seed0", f"-{variant}-seed0")
    assert len({json.dumps(cell.columns, sort_keys=True) for cell in grid.cells["table01"]}) == 2


def test_settings_of_the_selection_count_only_where_something_is_selected(tmp_path):
    grid = with_recipe(tmp_path, selection="validation", selection_every=50, validation_per_class=7)
    plain, validated = sorted(grid.synthetic_sets.values(), key=lambda spec: spec.variant or "")
    assert plain.recipe["selection"] == "final"
    assert not [key for key in plain.recipe if key.startswith(("selection_", "validation_"))]
    assert (validated.recipe["selection_every"], validated.recipe["validation_per_class"]) == (50, 7)
    # What a method is selected on, its experts must not have seen.
    assert validated.held_out_per_class == 7
    assert {spec.held_out_per_class for spec in grid.experts.values()} == {0, 7}
    assert len(grid.experts) == 200
    assert all("-without7/" in path for path in experts_of(validated))
    on_test = with_recipe(tmp_path, selection="best_on_test").synthetic_sets.values()
    assert not any("validation_per_class" in spec.recipe for spec in on_test)


def test_report_names_the_values_that_a_set_was_made_with(tmp_path):
    """Not those that its recipe would have; protocols and experts among them, and nothing that was not read."""
    grid = with_recipe(tmp_path, gradient="constant-memory")
    plan = Plan(load_settings(CONFIG, "paper"), grid, tmp_path)
    found = {(line["recipe"], line["key"], line["value"], line["source"]) for line in all_recipes(plan)}
    assert {
        ("mtt", "gradient", "unrolled", "official code"),
        ("mtt", "gradient", "constant-memory", "own choice"),
    } < found
    assert ("expert", "momentum", 0.0, "official code") in found
    assert ("evaluation", "epochs", 1000, "paper") in found
    assert not [line for line in found if line[1].startswith("selection_")]
    frepo = {line["recipe"] for line in all_recipes(Plan(plan.settings, grid_of("paper", tmp_path), tmp_path))}
    assert {"dm", "dsa", "mtt", "tesla", "frepo", "expert", "teacher", "evaluation", "frepo-evaluation"} == frepo


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gradients": "constant-memory"}, "recipe: mtt has no 'gradients'; allowed: .*gradient"),
        ({"gradient": "none"}, "recipe.gradient: found 'none', allowed: unrolled, constant-memory"),
        ({"experts": 2.5}, "recipe.experts: found 2.5, expected a value of type int"),
        ({"max_start_epoch": 60, "alone": True}, "expert.yaml, scale paper: epochs: found 50, .* up to epoch 61"),
        ({"max_start_epoch": 14}, "two different runs would both be written to .*: they differ in recipe"),
    ],
)
def test_a_hyper_parameter_that_cannot_be_is_named(tmp_path, changes, message):
    with pytest.raises(ElfError, match=message):
        with_recipe(tmp_path, **changes)


@pytest.mark.parametrize("scale", SCALES)
def test_table_and_figures_share_their_runs(scale, tmp_path):
    settings = load_settings(CONFIG, scale)
    grid = build_grid(settings, tmp_path)
    cells = [cell for name in grid.cells for cell in grid.cells[name] if isinstance(cell, Cell)]
    needed = {spec.path for cell in cells for spec in shards(cell.evaluation, settings.scale.shard_size(cell.dataset))}
    assert {str(path) for path in needed} == set(grid.evaluations)
    assert len({cell.evaluation for cell in cells}) * settings.scale.seeds == sum(
        len(spec.seeds) for spec in grid.evaluations.values()
    )
    if len(settings.scale.experiments) > 1:
        assert len(cells) * settings.scale.seeds > sum(len(spec.seeds) for spec in grid.evaluations.values())


@pytest.mark.parametrize("scale", SCALES)
def test_no_cell_is_shown_twice(scale, tmp_path):
    for cells in grid_of(scale, tmp_path).cells.values():
        labels = [json.dumps(cell.columns, sort_keys=True) for cell in cells]
        assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("scale", SCALES)
def test_every_path_is_that_of_its_specification_alone(scale, tmp_path):
    grid = grid_of(scale, tmp_path)
    everything = [(path, spec) for name in COLLECTIONS for path, spec in getattr(grid, name).items()]
    assert len({path for path, _ in everything}) == len(everything)
    assert len({(type(spec), spec.canonical()) for _, spec in everything}) == len(everything)
    for path, spec in everything:
        assert path == str(spec.path if hasattr(spec, "path") else spec.folder)


def changed_settings(scale: str, changes: dict) -> Settings:
    settings = load_settings(CONFIG, scale)
    return settings.model_copy(update={"scale": settings.scale.model_copy(update=changes)})


@given(
    seeds=st.integers(1, 12),
    more=st.integers(0, 12),
    per_job=st.integers(1, 5),
    scale=st.sampled_from(["smoke", "paper"]),
)
def test_more_seeds_add_shards_and_leave_full_ones_as_they_are(seeds, more, per_job, scale):
    jobs = {"seeds_per_job": per_job, "seeds_per_job_for": {}}
    few, many = (
        build_grid(changed_settings(scale, {"seeds": count} | jobs), Path("absent")) for count in (seeds, seeds + more)
    )
    for path, spec in few.evaluations.items():
        if len(spec.seeds) == per_job:
            assert many.evaluations[path] == spec
    for grid, count in ((few, seeds), (many, seeds + more)):
        found: dict[str, list[int]] = {}
        for path, spec in grid.evaluations.items():
            assert 1 <= len(spec.seeds) <= per_job
            found.setdefault(path.rsplit("/", 1)[0], []).extend(spec.seeds)
        assert all(sorted(numbers) == list(range(count)) for numbers in found.values())
    for name in ("datasets", "synthetic_sets", "teachers", "features", "checkpoints"):
        assert getattr(few, name) == getattr(many, name)


def test_trainings_that_take_long_are_jobs_of_their_own(tmp_path):
    grid = grid_of("paper", tmp_path)
    sizes = {spec.dataset: len(spec.seeds) for spec in grid.evaluations.values()}
    assert sizes["tiny-imagenet"] == sizes["imagenet-1k"] == 1
    assert {size for dataset, size in sizes.items() if "imagenet" not in dataset} == {5}


@given(seeds=st.integers(1, 40), per_job=st.integers(1, 10))
def test_shards_are_the_seeds_cut_in_order(seeds, per_job):
    spec = an_evaluation(seeds=tuple(range(seeds)))
    parts = list(shards(spec, per_job))
    assert sum((part.seeds for part in parts), ()) == spec.seeds
    assert all(part.model_copy(update={"seeds": spec.seeds}) == spec for part in parts)
    assert len({part.path for part in parts}) == len(parts) == -(-seeds // per_job)


def test_two_runs_on_one_path_are_refused():
    grid = Grid()
    spec = an_evaluation()
    other = spec.model_copy(update={"recipe": spec.recipe.model_copy(update={"epochs": 7})})
    assert other.path == spec.path
    grid.add("evaluations", spec.path, spec)
    grid.add("evaluations", spec.path, spec.model_copy())
    with pytest.raises(ElfError, match=r"two different runs .* evaluations/digits/.* they differ in recipe"):
        grid.add("evaluations", spec.path, other)


def test_stand_ins_that_would_mix_two_recipes_are_refused():
    """Two datasets of the paper with recipes of their own cannot both be played by the same stand-in."""
    settings = changed_settings("smoke", {})
    recipe = settings.recipes["dm"]
    entry = recipe.values["lr"].model_copy(update={"value": 3.0})
    variant = {"when": {"dataset": ["cifar100"]}, "values": {"lr": entry}}
    recipe = type(recipe).model_validate(recipe.model_dump() | {"variants": [variant]})
    settings = settings.model_copy(update={"recipes": settings.recipes | {"dm": recipe}})
    with pytest.raises(ElfError, match="synthetic/digits/dm-convnet-w8-d3-in-ipc10-seed0: they differ in recipe"):
        build_grid(settings, Path("absent"))


def test_two_datasets_with_one_stand_in_keep_their_cells():
    """They share the run, yet a table has a place for each."""
    settings = load_settings(CONFIG, "smoke")
    table = settings.experiments["table05"]
    other = table.blocks["baseline"].model_copy(update={"dataset": "cifar100"})
    table = table.model_copy(update={"blocks": {"one": table.blocks["baseline"], "two": other}})
    settings = settings.model_copy(
        update={
            "experiments": settings.experiments | {"table05": table},
            "scale": settings.scale.model_copy(update={"experiments": ["table05"]}),
        }
    )
    grid = build_grid(settings, Path("absent"))
    by_dataset = {name: 0 for name in ("cifar10", "cifar100")}
    for cell in grid.cells["table05"]:
        by_dataset[cell.paper_dataset] += 1
    assert by_dataset["cifar10"] == by_dataset["cifar100"] == len(grid.evaluations)


def test_methods_that_a_scale_does_not_run_have_no_cells(tmp_path):
    grid = build_grid(changed_settings("paper", {"methods": []}), tmp_path)
    assert not grid.evaluations and not grid.synthetic_sets
    # What needs no distillation is still there.
    assert len(grid.full_data) == 28 and all(isinstance(c, FullDataCell) for cs in grid.cells.values() for c in cs)


def test_a_scale_changes_every_width(tmp_path):
    narrow, wide = (build_grid(changed_settings("paper", {"width": w}), tmp_path) for w in (0.125, 1.0))
    for collection in ("evaluations", "teachers", "experts"):
        specs = [list(getattr(grid, collection).values()) for grid in (narrow, wide)]
        names = [[parse(spec.network) for spec in each] for each in specs]
        assert [name.width for name in names[0]] == [name.width // 8 for name in names[1]]
        assert [(name.family, name.norm, name.depth) for name in names[0]] == [
            (name.family, name.norm, name.depth) for name in names[1]
        ]
    assert not set(narrow.evaluations) & set(wide.evaluations)


def test_data_folder_is_the_one_of_the_environment(monkeypatch):
    monkeypatch.delenv("ELF_DATA_DIR", raising=False)
    assert data_folder() == Path("data")
    monkeypatch.setenv("ELF_DATA_DIR", "/some where")
    assert data_folder() == Path("/some where")


def a_recipe(**changes) -> TrainingRecipe:
    values = {"epochs": 3, "final_pass": True, "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0, "batch_size": 8}
    return TrainingRecipe(**values | {"lr_drop": True, "augmentation": "none"} | changes)


def an_evaluation(**changes) -> EvaluationSpec:
    values = {"dataset": "digits", "synthetic_set": "random-ipc1-seed0", "network": "vgg11-w1-bn", "seeds": (0,)}
    return EvaluationSpec(**values | {"objective": Objective(name="task"), "recipe": a_recipe()} | changes)


NUMBERS = st.floats(0.0, 1e6) | st.sampled_from([0.1, 0.30000000000000004, 5e-324, 1e-7])
NETWORKS = st.sampled_from(["convnet-w2-d3-in", "resnet18-bn", "vgg11-w1-in", "torchvision:mobilenet_v2"])
RECIPES = st.builds(
    TrainingRecipe,
    epochs=st.integers(1, 2000),
    final_pass=st.booleans(),
    lr=NUMBERS.filter(bool),
    momentum=st.floats(0, 1, exclude_max=True),
    weight_decay=NUMBERS,
    batch_size=st.integers(1, 512),
    lr_drop=st.booleans(),
    augmentation=st.sampled_from(["none", "color_crop_cutout_flip_scale_rotate"]),
)
OBJECTIVES = (
    st.just(Objective(name="task"))
    | st.builds(Objective, name=st.just("kd"), temperature=NUMBERS.filter(bool), weight=NUMBERS)
    | st.builds(
        Objective,
        name=st.just("elf"),
        terms=st.sampled_from(TERMS),
        distance=st.sampled_from(["ce", "mae", "mse", "cos"]),
        lambda_front=NUMBERS,
        lambda_rear=NUMBERS,
        variant=st.sampled_from(["official", "paper"]),
    )
)
NAMES = st.sampled_from(["digits", 'Zoë\'s "birds" 鳥'])
SPECS = (
    st.builds(
        DatasetSpec,
        name=NAMES,
        source=st.sampled_from(["digits", "folder"]),
        side=st.integers(4, 256),
        normalisation=NAMES,
    )
    | st.builds(
        SyntheticSpec,
        dataset=NAMES,
        method=NAMES,
        module=st.just("dm"),
        variant=st.none() | NAMES,
        network=st.none() | NETWORKS,
        ipc=st.integers(1, 50),
        seed=st.integers(0, 9),
        recipe=st.dictionaries(st.sampled_from("abcd"), st.booleans() | st.integers() | NUMBERS | NAMES),
    )
    | st.builds(TeacherSpec, dataset=NAMES, network=NETWORKS, seed=st.integers(0, 9), recipe=RECIPES)
    | st.builds(
        FeaturesSpec, dataset=NAMES, synthetic_set=NAMES, teacher_network=NETWORKS, teacher_epoch=st.integers(0, 9)
    )
    | st.builds(
        EvaluationSpec,
        dataset=NAMES,
        synthetic_set=NAMES,
        network=NETWORKS,
        objective=OBJECTIVES,
        recipe=RECIPES,
        seeds=st.lists(st.integers(0, 9), min_size=1, max_size=3).map(tuple),
    )
)


@given(SPECS)
def test_specifications_survive_their_text(spec):
    """What a job is told on its command line is what the grid meant, to the last bit and the last type."""
    text = spec.canonical()
    again = type(spec).model_validate_json(text)
    assert again == spec
    assert again.canonical() == text
    assert "\n" not in text
    shuffled = json.dumps(dict(reversed(json.loads(text).items())), indent=1)
    assert type(spec).model_validate_json(shuffled).canonical() == text


# Paths round numbers to six digits; the grid refuses what then falls together, so numbers here have fewer.
FEW_DIGITS = st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.5, 10.0, 1e-5, 1e6])
CELLS = st.tuples(
    st.sampled_from(["a", "b"]),
    st.sampled_from(["s", "t"]),
    NETWORKS,
    st.just(Objective(name="task"))
    | st.builds(Objective, name=st.just("kd"), temperature=FEW_DIGITS.filter(bool), weight=FEW_DIGITS)
    | st.builds(
        Objective,
        name=st.just("elf"),
        terms=st.sampled_from(TERMS),
        distance=st.sampled_from(["ce", "mae", "mse", "cos"]),
        lambda_front=FEW_DIGITS,
        lambda_rear=FEW_DIGITS,
        variant=st.sampled_from(["official", "paper"]),
    ),
    st.sampled_from(["convnet-w2-d3-in", "convnet-w8-d3-in"]),
    st.integers(0, 3),
    FEW_DIGITS.filter(bool),
)


@given(st.lists(CELLS, min_size=2, max_size=30))
def test_different_cells_have_different_paths(cells):
    specs = set()
    for dataset, synthetic_set, network, objective, teacher, epoch, lr in cells:
        taught = {"teacher_network": teacher, "teacher_epoch": epoch} if objective.needs_teacher else {}
        where = {"dataset": dataset, "synthetic_set": synthetic_set, "network": network}
        specs.add(an_evaluation(**where, objective=objective, recipe=a_recipe(lr=lr), **taught))
    assert len({spec.path for spec in specs}) == len(specs)


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        (EvaluationSpec, {"seeds": ()}),
        (EvaluationSpec, {"surprise": 1}),
        (EvaluationSpec, {"objective": {"name": "elf", "terms": "front"}}),
        (EvaluationSpec, {"objective": {"name": "kd", "weight": float("nan")}}),
    ],
)
def test_specifications_refuse_what_they_do_not_know(model, changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        model.model_validate(an_evaluation().model_dump() | changes)

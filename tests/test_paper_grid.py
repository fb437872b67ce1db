"""The runs at the scale of the paper are those that were listed from its tables, independently of the configuration."""

import csv
import re
from pathlib import Path

import pytest
from conftest import PROJECT

from elf.specs.kinds import experts_of
from elf.study.cells import Cell, FullDataCell
from elf.study.config_reading import load_settings
from elf.study.grid import Grid, build_grid

LISTS = Path(__file__).parent / "paper"
FRONT_REAR_TASK = {
    "task": "task",
    "task+front+rear": "elf",
    "task+rear": "elf[rear+task]",
    "task+front": "elf[front+task]",
    "front+rear": "elf[front+rear]",
}


@pytest.fixture(scope="module")
def grid(tmp_path_factory) -> Grid:
    return build_grid(load_settings(PROJECT / "config", "paper"), tmp_path_factory.mktemp("data"))


def listed(name: str) -> list[dict]:
    with (LISTS / f"grid_{name}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def dataset(row: dict) -> str:
    name = {"CIFAR-10": "cifar10", "CIFAR-100": "cifar100", "TinyImageNet": "tiny-imagenet"}
    ending = {"0": "", "1": "-zca", "frepo": "-frepo"}[row.get("zca", "0")]
    return name.get(row["dataset"], "imagenet-1k") + ending


def network(name: str) -> str:
    """Return our name of ``ConvNetD4W128-IN``, ``ResNet18-BN``, ``VGG11-IN`` or ``FrePoConv-BN``."""
    if name == "FrePoConv-BN":
        return "frepoconv-w128-bn"
    convnet = re.fullmatch(r"ConvNet(?:D(\d))?W(\d+)-(IN|BN)", name)
    if convnet:
        return f"convnet-w{convnet[2]}-d{convnet[1] or 3}-{convnet[3].lower()}"
    return name.lower()


def tables(grid: Grid, kind: type) -> dict:
    """Return the cells of all tables, each with the numbers of the tables that show it."""
    shown: dict = {}
    for name, cells in grid.cells.items():
        # Table 10 shows what the cells of others were made with.
        if name.startswith("table") and name != "table10":
            for cell in cells:
                if isinstance(cell, kind):
                    key = cell.evaluation.path if kind is Cell else cell.checkpoint
                    shown.setdefault(key, (cell, set()))[1].add(int(name.removeprefix("table")))
    return shown


def numbers(row: dict) -> frozenset[int]:
    return frozenset(map(int, row["tables"].split(";")))


def test_evaluations(grid):
    wanted = {}
    for row in listed("evaluations"):
        frepo = row["zca"] == "frepo"
        key = (
            dataset(row),
            row["method"].lower(),
            network(row["distill_model"]),
            int(row["ipc"]),
            network(row["eval_model"]),
            "frepo" if frepo else FRONT_REAR_TASK[row["loss_terms"]],
            # Without a front term no distance is used, whatever stands in the specification.
            row["distance"].lower() or None,
            network(row["feature_model"]) if row["feature_model"] else None,
            int(row["feature_epoch"]) if row["feature_epoch"] else None,
            None if frepo else (float(row["lr"]), int(row["epochs"]), int(row["batch"])),
        )
        wanted[key] = (numbers(row), int(row["seeds"]))
    found = {}
    for cell, shown in tables(grid, Cell).values():
        spec = cell.evaluation
        elf, frepo = spec.objective.name == "elf", spec.objective.name == "frepo"
        key = (
            spec.dataset,
            cell.synthetic.method,
            cell.synthetic.network,
            cell.synthetic.ipc,
            spec.network,
            spec.objective.label,
            spec.objective.distance if elf and "front" in spec.objective.terms else None,
            spec.teacher_network,
            spec.teacher_epoch,
            None if frepo else (spec.recipe.lr, spec.recipe.epochs, spec.recipe.batch_size),
        )
        found[key] = (frozenset(shown), len(spec.seeds))
        if elf:
            assert (spec.objective.lambda_front, spec.objective.lambda_rear) == (1, 1)
    assert len(wanted) == 223
    assert found == wanted


def test_synthetic_sets(grid):
    wanted = {
        (dataset(row), row["method"].lower(), network(row["distill_model"]), int(row["ipc"])): (
            numbers(row),
            row["needs_expert_buffer"] == "1",
        )
        for row in listed("distillations")
    }
    found: dict = {}
    for cell, shown in tables(grid, Cell).values():
        spec = cell.synthetic
        key = (spec.dataset, spec.method, spec.network, spec.ipc)
        numbers_so_far, experts = found.get(key, (frozenset(), bool(experts_of(spec))))
        found[key] = (numbers_so_far | shown, experts)
    assert len(wanted) == len(grid.synthetic_sets) == 24
    assert found == wanted


def test_feature_models(grid):
    wanted = {
        (dataset(row), network(row["model"])): (
            numbers(row),
            frozenset(map(int, row["checkpoints_used"].split(";"))),
        )
        for row in listed("feature_teachers")
    }
    found: dict = {}
    for cell, shown in tables(grid, Cell).values():
        spec = cell.evaluation
        if spec.teacher_network:
            before, epochs = found.get((spec.dataset, spec.teacher_network), (frozenset(), frozenset()))
            found[spec.dataset, spec.teacher_network] = (before | shown, epochs | {spec.teacher_epoch})
    assert len(wanted) == 13
    assert found == wanted


def test_full_data_references(grid):
    rows = listed("full_data")
    wanted = {(dataset(row), network(row["model"])): numbers(row) for row in rows}
    cells = tables(grid, FullDataCell).values()
    assert len(wanted) == len(grid.full_data) == 28
    assert {(cell.dataset, cell.teacher.network): frozenset(shown) for cell, shown in cells} == wanted
    # The last state of a training that also gives features, where the list says so.
    teachers = {(dataset(row), network(row["model"])) for row in listed("feature_teachers")}
    shared = {(dataset(row), network(row["model"])) for row in rows if row["doubles_as_feature_teacher"] == "1"}
    assert shared == teachers & wanted.keys()
    for cell, _ in cells:
        epochs = grid.checkpoints[str(cell.teacher.folder)]
        assert 200 in epochs and (len(epochs) > 1) == ((cell.dataset, cell.teacher.network) in shared)


def test_buffers_of_experts(grid):
    buffers: dict = {}
    for spec in grid.experts.values():
        buffers[spec.dataset, spec.network] = buffers.get((spec.dataset, spec.network), 0) + 1
    assert len(buffers) == 8
    assert sum(buffers.values()) == 750


def test_figures_share_the_runs_of_the_tables(grid):
    sets = {str(cell.synthetic.folder) for cell, _ in tables(grid, Cell).values()}
    sixth = {cell.evaluation.path for cell in grid.cells["table06"] if isinstance(cell, Cell)}
    first = {cell.evaluation.path for cell in grid.cells["figure1"]}
    assert first < sixth and len(first) == 22
    weights = {
        tuple(cell.evaluation.objective.column(name) for name in ("lambda_front", "lambda_rear"))
        for cell in grid.cells["figure3"]
    }
    grid_of_weights = (0, 0.1, 0.5, 1, 2, 5, 10)
    assert weights == {(None, None)} | {(w, 1) for w in grid_of_weights} | {(1, w) for w in grid_of_weights}
    assert {cell.evaluation.network for cell in grid.cells["figure3"]} == {"resnet18-in"}
    epochs = {(cell.evaluation.network, cell.evaluation.teacher_epoch) for cell in grid.cells["figure4"]}
    assert {epoch for _, epoch in epochs} == {None, 10, 20, 30, 50, 80, 100, 150, 200}
    assert len(epochs) == 5 * 9
    for name in ("figure3", "figure4"):
        assert {str(cell.synthetic.folder) for cell in grid.cells[name]} <= sets


def test_every_table_and_figure_of_the_paper_is_there(grid):
    tables_of_the_paper = {f"table{number:02d}" for number in range(1, 13)}
    assert set(grid.cells) == tables_of_the_paper | {"figure1", "figure3", "figure4"}

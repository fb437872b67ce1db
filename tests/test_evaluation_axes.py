"""Values of an evaluation as axes of a block: in specification, path, row, table and caption; and old results."""

from collections import Counter
from itertools import product
from pathlib import Path

import pandas as pd
import pytest
from conftest import PROJECT
from fabricated_results import ABOUT, cell, seeds

from elf.errors import ElfError
from elf.results.columns import gather
from elf.results.layout import lay_out
from elf.results.reading import read_results
from elf.running.drawing import about
from elf.specs.network import parse
from elf.study.cells import FullDataCell
from elf.study.config import Experiment
from elf.study.config_reading import load_settings
from elf.study.grid import build_grid
from elf.study.plan import Plan
from elf.verdicts.observations import is_of_paper

CONFIG = PROJECT / "config"
IN, BN = "convnet-w128-d3-in", "convnet-w128-d3-bn"


def plan_of(scale: str = "paper", **changes) -> Plan:
    """Return the plan of one block of Table 1: MTT's images, on a network without and one with batch norms."""
    settings = load_settings(CONFIG, scale)
    block = settings.experiments["table01"].blocks["aligned"].model_dump() | {"method": ["mtt"], "aligned": False}
    block |= {"distill_network": [IN], "eval_network": [IN, BN]} | changes
    experiment = Experiment(title="t", kind="table", number=1, blocks={"b": block})
    scale_of_one = settings.scale.model_copy(update={"experiments": ["table01"]})
    settings = settings.model_copy(update={"experiments": {"table01": experiment}, "scale": scale_of_one})
    return Plan(settings, build_grid(settings, Path("absent")), Path("absent"))


def rows(plan: Plan) -> list[dict]:
    return [cell.columns for cell in plan.grid.cells["table01"]]


# --- four parts at the paper's scale ----------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "splits"), [("paper", 4), ("smoke", 1), ("laptop", 1)])
def test_networks_with_batch_norms_have_the_parts_of_the_scale_and_others_no_such_setting(scale, splits, tmp_path):
    settings = load_settings(CONFIG, scale)
    grid = build_grid(settings, tmp_path)
    trainings = [*grid.evaluations.values(), *grid.teachers.values(), *grid.experts.values()]
    seen = Counter()
    for spec in trainings:
        if getattr(spec, "objective", None) is not None and spec.objective.name == "frepo":
            continue
        with_batch_norm = parse(spec.network).norm == "bn"
        found = spec.model_dump(mode="json")["recipe"].get("batch_norm_splits", "no such setting")
        assert found == (splits if with_batch_norm else "no such setting")
        assert ("batch_norm_splits" in spec.canonical()) == with_batch_norm
        seen[type(spec).__name__, with_batch_norm] += 1
    assert seen["EvaluationSpec", True] and seen["EvaluationSpec", False]
    assert not any("batch_norm_splits" in path for path in grid.evaluations)
    for spec in grid.synthetic_sets.values():
        with_batch_norm = spec.network is not None and parse(spec.network).norm == "bn"
        wanted = {"mtt": splits, "dsa": 1}.get(spec.method) if with_batch_norm else None
        assert spec.recipe.get("batch_norm_splits") == wanted
        assert "batch_norm_splits" not in spec.name
    full = {c.columns["batch_norm_splits"] for cs in grid.cells.values() for c in cs if isinstance(c, FullDataCell)}
    assert full == ({1, 4} if scale == "paper" else {1} if scale == "smoke" else set())


# --- axes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "other"), [("paper", 1), ("smoke", 4)])
def test_parts_are_an_axis_of_networks_with_batch_norms_alone(scale, other):
    plain, both = plan_of(scale), plan_of(scale, evaluation={"batch_norm_splits": [1, 4]})
    assert set(plain.grid.evaluations) < set(both.grid.evaluations)
    (new,) = set(both.grid.evaluations) - set(plain.grid.evaluations)
    assert f"-batch_norm_splits{other}/" in new
    assert both.grid.evaluations[new].recipe.batch_norm_splits == other
    found = [(row["paper_eval_network"], row["batch_norm_splits"], row["training_variant"]) for row in rows(both)]
    own = 5 - other
    assert found.count((IN, 1, None)) == 1 and len(found) == 3
    assert (BN, other, f"batch_norm_splits{other}") in found and (BN, own, None) in found
    said = f"batch_norm_splits {other} stands in for the scale's value in the training of 1 of 3 cells"
    assert said in about(both, "table01")["stand_ins"] and "batch_norm" not in about(plain, "table01")["stand_ins"]
    assert both.experiment_digest("table01") != plain.experiment_digest("table01")


def test_a_single_value_that_differs_is_said_as_well():
    plan = plan_of(evaluation={"batch_norm_splits": 1, "momentum": 0.5})
    variants = {row["paper_eval_network"]: row["training_variant"] for row in rows(plan)}
    assert variants == {IN: "momentum0.5", BN: "batch_norm_splits1-momentum0.5"}
    for path, spec in plan.grid.evaluations.items():
        assert spec.recipe.momentum == 0.5 and f"-{spec.training_variant}/" in path
    assert (
        "momentum 0.5 stands in for the scale's value in the training of 2 of 2" in about(plan, "table01")["stand_ins"]
    )


def test_what_equals_the_scales_value_is_the_run_of_the_scale():
    plain, same = plan_of(), plan_of(evaluation={"momentum": [0.9], "batch_norm_splits": 4, "epochs": 1000})
    assert plain.grid.evaluations == same.grid.evaluations and rows(plain) == rows(same)


def test_every_value_can_be_an_axis():
    axes = {
        "epochs": [5, 6], "final_pass": False, "lr": [0.1, 0.2], "momentum": [0, 0.5], "weight_decay": 0.0,
        "batch_size": 8, "lr_drop": False, "augmentation": "none", "precision": ["float32", "bfloat16"],
        "memory_format": "contiguous", "batch_norm_splits": [1, 2],
    }  # fmt: skip
    assert axes.keys() == load_settings(CONFIG, "paper").recipes["evaluation"].values.keys()
    plan = plan_of(evaluation=axes)
    assert len(rows(plan)) == len(plan.grid.evaluations) == 16 + 32
    assert all(path.count("bfloat16") <= 1 for path in plan.grid.evaluations)
    recipes = {spec.recipe for spec in plan.grid.evaluations.values() if spec.network == BN}
    combinations = set(product((5, 6), (0.1, 0.2), (0.0, 0.5), ("float32", "bfloat16"), (1, 2)))
    assert {(r.epochs, r.lr, r.momentum, r.precision, r.batch_norm_splits) for r in recipes} == combinations


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"evaluation": {"splits": 4}},
            r"evaluation: evaluation has no 'splits'; allowed: augmentation, batch_norm",
        ),
        ({"evaluation": {"batch_norm_splits": [1, 0]}}, "evaluation.batch_norm_splits: found 0, allowed: 1 to inf"),
        ({"evaluation": {"batch_norm_splits": 2.5}}, "evaluation.batch_norm_splits: found 2.5, expected .* int"),
        ({"evaluation": {"momentum": 1.0}}, "evaluation.momentum: Input should be less than 1"),
        ({"evaluation": {"epochs": []}}, "evaluation.epochs: names no value"),
        ({"evaluation": {"lr": [0.1]}, "lr": 0.1}, "evaluation.lr: the block's own lr says it already"),
        (
            {"evaluation": {"batch_norm_splits": 4}, "objective": [{"name": "frepo"}]},
            "evaluation: frepo-evaluation has no 'batch_norm_splits'",
        ),
    ],
)
def test_what_cannot_be_is_named(changes, message):
    with pytest.raises((ElfError, ValueError), match=message):
        plan_of(**changes)


def test_dsa_in_parts_is_a_set_of_another_name():
    changes = {"method": ["dsa"], "recipe": {"batch_norm_splits": 4}}
    (on_bn,) = plan_of(distill_network=[BN], **changes).grid.synthetic_sets.values()
    assert on_bn.variant == "batch_norm_splits4" and on_bn.recipe["batch_norm_splits"] == 4
    (on_in,) = plan_of(**changes).grid.synthetic_sets.values()
    assert on_in.variant is None and "batch_norm_splits" not in on_in.recipe


# --- tables and results -----------------------------------------------------------------------------------


def test_a_table_has_a_row_for_each_value():
    network = "convnet-w128-d3-bn"
    keys = [
        cell(network=network, batch_norm_splits=4),
        cell(network=network, batch_norm_splits=1, training_variant="batch_norm_splits1"),
        cell(network=network, batch_norm_splits=4, training_variant="momentum0"),
        cell(network="resnet18-in"),
    ]
    results = pd.DataFrame([row for index, key in enumerate(keys) for row in seeds(key, [0.1 * (index + 1)] * 2)])
    table = lay_out(pd.DataFrame(keys), results, ABOUT)
    labels = {row.label: [c.summary.mean for c in row.cells.values()] for row in table.groups[0].rows}
    assert len(labels) == 4 and all("batch norm pieces" in label for label in labels)
    two = lay_out(pd.DataFrame(keys[:2]), results, ABOUT).groups[0].rows
    assert [row.label for row in two] == ["baseline, batch norm pieces 4", "baseline, batch norm pieces 1"]
    assert [[c.summary.mean for c in row.cells.values()] for row in two] == [[0.1], [pytest.approx(0.2)]]
    assert [is_of_paper(c) for c in gather(pd.DataFrame(keys), results)] == [True, False, False, True]


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_results_without_the_column_are_read_as_one_piece(tmp_path, ending):
    rows = pd.DataFrame(seeds(cell(), [0.1, 0.2])).drop(columns=["batch_norm_splits", "training_variant"])
    file = tmp_path / f"results.{ending}"
    {"parquet": rows.to_parquet, "csv": rows.to_csv}[ending](file, index=False)
    read = read_results(file)
    keys = [cell(), cell(batch_norm_splits=4)]
    assert [len(c.rows) for c in gather(pd.DataFrame(keys), read)] == [2, 0]


def test_published_results_of_before_the_column_are_of_one_piece():
    read = read_results(PROJECT / "docs" / "results" / "laptop" / "results.parquet")
    assert set(read["batch_norm_splits"]) == {1} and read["training_variant"].isna().all()

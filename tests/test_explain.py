"""What a number is made of: the names of cells, the chain of files, what changed since, and what is printed."""

import json
import shutil

import pyarrow
import pyarrow.parquet
import pytest
from conftest import PROJECT
from fabricated_runs import configuration, finish, plan_of, write

from elf.artifacts.manifest import read_manifest
from elf.cli import main as elf
from elf.status.cell_names import Names, words_of
from elf.status.explanation import explain, printed
from elf.status.explanation_text import render
from elf.status.jobs import jobs_of
from elf.study.plan import make_plan

SCALES = ("smoke", "laptop", "paper")
DM = "synthetic/digits/dm-convnet-w2-d3-in-ipc10-seed0/images.safetensors"
FOLDER = "evaluations/digits/dm-convnet-w2-d3-in-ipc10-seed0/resnet18-w1-in"
SHARD = f"{FOLDER}/elf-ce-front1-rear1-convnet-w8-d3-in-epoch1-lr0.01/seeds0-1.parquet"
FEATURES = "features/digits/dm-convnet-w2-d3-in-ipc10-seed0/convnet-w8-d3-in-epoch1.safetensors"
TEACHER = "teachers/digits/convnet-w8-d3-in/epoch1.safetensors"
DATASET = "datasets/digits/images.safetensors"
CELL = "table05/dm/resnet18-in/elf"


def names_of(plan, experiment):
    cells = plan.grid.cells[experiment]
    return Names([words_of(cell.columns) for cell in cells]), cells


@pytest.mark.parametrize("scale", SCALES)
def test_every_cell_has_a_name_that_no_other_has(scale):
    plan = make_plan(PROJECT / "config", scale, PROJECT / "results")
    for experiment in plan.grid.cells:
        names, cells = names_of(plan, experiment)
        for index in range(len(cells)):
            assert names.matching(names.shortest(index).split("/")) == [index], names.shortest(index)


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("table05/dm/resnet18-in/elf", {"method": "dm", "paper_eval_network": "resnet18-in", "objective": "elf"}),
        ("table05/ELF/ResNet18-IN/dm", {"method": "dm", "paper_eval_network": "resnet18-in", "objective": "elf"}),
        ("table05/dm/resnet18-bn/baseline", {"paper_eval_network": "resnet18-bn", "objective": "task"}),
        ("table05/full-data/vgg11-bn", {"method": "full-data", "paper_eval_network": "vgg11-bn"}),
        ("table09/ipc10/elf[front+task]", {"ipc": 10, "objective": "elf[front+task]"}),
        ("figure4/resnet18-in/elf/epoch50", {"teacher_epoch": 50, "paper_eval_network": "resnet18-in"}),
        ("table12/mtt/vgg11-bn/cos", {"method": "mtt", "distance": "cos", "paper_eval_network": "vgg11-bn"}),
        ("figure3/front0.1", {"lambda_front": 0.1}),
        ("table08/ipc1/resnet18-in/teacher-resnet18-in", {"paper_teacher_network": "resnet18-in", "ipc": 1}),
        (
            "table01/mtt/convnet-w128-d3-in/from-convnet-w128-d3-bn",
            {"paper_eval_network": "convnet-w128-d3-in", "paper_distill_network": "convnet-w128-d3-bn"},
        ),
    ],
)
def test_names_as_readers_see_them(name, columns):
    plan = make_plan(PROJECT / "config", "paper", PROJECT / "results")
    experiment, *words = name.split("/")
    names, cells = names_of(plan, experiment)
    (index,) = names.matching(words)
    assert columns.items() <= cells[index].columns.items()


def test_a_network_alone_is_the_evaluated_one():
    plan = make_plan(PROJECT / "config", "paper", PROJECT / "results")
    names, cells = names_of(plan, "table01")
    found = names.matching(["dm", "convnet-w128-d3-bn"])
    assert {cells[index].paper_eval_network for index in found} == {"convnet-w128-d3-bn"}
    assert len(found) == 2
    both = names.matching(["dm", "convnet-w128-d3-bn", "vgg11-in"])
    assert [cells[index].paper_distill_network for index in both] == ["convnet-w128-d3-bn"]


def test_the_networks_of_a_scale_are_known_by_their_own_names():
    plan = make_plan(PROJECT / "config", "laptop", PROJECT / "results")
    names, _ = names_of(plan, "table05")
    assert names.matching(["dm", "resnet18-w8-in", "elf"]) == names.matching(["dm", "resnet18-in", "elf"])


def test_what_the_paper_prints():
    plan = make_plan(PROJECT / "config", "paper", PROJECT / "results")

    def found(experiment, *words):
        names, cells = names_of(plan, experiment)
        (index,) = names.matching(words)
        return [(row["table"], row["kind"], row["mean"]) for row in printed(experiment, cells[index])]

    assert found("table05", "dm", "convnet-w128-d3-in") == [(5, "accuracy", 49.52)]
    assert found("table09", "ipc1", "elf[rear+task]") == [(9, "accuracy", 14.05)]
    assert found("table05", "full-data", "vgg11-bn") == [(5, "accuracy", 90.46)]
    # Weights other than one are in no table; a figure shows what tables print.
    assert found("figure3", "front0.1") == []
    assert {table for table, _, _ in found("figure3", "task")} >= {6, 9}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explained")
    configuration(folder)
    finish(plan_of(folder))
    return folder


def explained(folder, name=CELL):
    plan = plan_of(folder)
    experiment, *words = name.split("/")
    names, cells = names_of(plan, experiment)
    (index,) = names.matching(words)
    return explain(plan, experiment, names.shortest(index), cells[index], folder / "no images")


def test_a_number_and_its_files(folder):
    found = explained(folder)
    assert found["current"]
    assert found["number"]["seeds"] == {"0": 50.0, "1": 60.0}
    assert (found["number"]["mean"], found["number"]["std"]) == pytest.approx((55.0, 5.0))
    assert [file["path"] for file in found["files"]] == [SHARD, FEATURES, TEACHER, DM, DATASET]
    assert {file["state"] for file in found["files"]} == {"current"}
    assert all(entry["fits"] for file in found["files"] for entry in file["inputs"])
    ids = {file["kind"]: file["id"] for file in found["files"]}
    inputs = {entry["role"]: entry["id"] for entry in found["files"][0]["inputs"]}
    assert inputs == {
        "dataset": ids["datasets"],
        "synthetic set": ids["synthetic sets"],
        "features": ids["features"],
    }
    assert found["command"] == (f"snakemake --profile profiles/local --force results/tiny/{SHARD} --config scale=tiny")
    assert found["specification"]["evaluation"]["network"] == "resnet18-w1-in"
    assert json.loads(json.dumps(found)) == found


def test_recipes_have_sources_and_say_who_changed_them(folder):
    recipes = explained(folder)["recipes"]
    assert set(recipes) == {"synthetic images", "evaluation", "teacher"}
    lines = {(line["recipe"], line["key"]): line for own in recipes.values() for line in own}
    iterations = lines["dm", "iterations"]
    assert (iterations["value"], iterations["source"], iterations["changed by"]) == (2, "own choice", "scale")
    assert lines["evaluation", "momentum"]["source"] == "official code"
    assert lines["evaluation", "momentum"]["changed by"] is None


def test_experts_are_files_and_are_summarised(folder):
    found = explained(folder, "table01/mtt/aligned")
    experts = [file for file in found["files"] if file["kind"] == "experts"]
    assert [file["path"].rpartition("/")[2] for file in experts] == ["expert0.safetensors", "expert1.safetensors"]
    text = render(found)
    assert "experts        2 trajectories in experts/digits/convnet-w2-d3-in/" in text
    assert f"ids {experts[0]['id']}, {experts[1]['id']}" in text
    assert "2 experts (as it lies there)" in text
    assert all(len(line) <= 100 for line in text.splitlines() if "/seeds" not in line)


def test_full_data(folder):
    found = explained(folder, "table05/full-data/vgg11-bn")
    assert found["number"]["seeds"] == {"3407": pytest.approx(70.0)}
    assert [file["kind"] for file in found["files"]] == ["teacher checkpoints", "datasets"]
    assert "measured   70.00 %" in render(found)


def test_what_was_not_made_yet(tmp_path):
    configuration(tmp_path)
    found = explained(tmp_path)
    assert found["number"] is None
    assert not found["current"]
    assert "--force" not in found["command"]
    text = render(found)
    assert "measured   not run\n" in text
    assert text.count("not made yet") == 5


@pytest.fixture
def changed(folder, tmp_path):
    """Function that writes a file anew in a copy of the folder, and returns what is then said of the cell's files."""
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)

    def change(path, **others):
        plan = plan_of(copy)
        write(plan, jobs_of(plan)[path], **others)
        found = explained(copy)
        return found, {file["path"]: file["reasons"] for file in found["files"]}

    change.folder = copy
    return change


def test_other_code_is_named(changed, folder):
    code = read_manifest(folder / "results" / "tiny" / DM)["code"] | {"distill": "another"}
    found, reasons = changed(DM, code=code)
    assert reasons[DM] == [{"cause": "code", "details": ["distill"]}]
    assert reasons[SHARD] == [{"cause": "follows", "details": ["synthetic sets", "features"]}]
    assert found["number"] is not None
    assert "--force" not in found["command"]
    text = render(found)
    assert "made by other code: changed: distill" in text
    assert "state      to be made again, see below" in text


def test_another_state_of_an_input_is_named(changed):
    found, reasons = changed(DM, content=1.0)
    assert reasons[DM] == []
    assert reasons[SHARD][0] == {"cause": "input", "details": ["synthetic set"]}
    assert reasons[FEATURES] == [{"cause": "input", "details": ["synthetic set"]}]
    assert [entry["fits"] for entry in found["files"][0]["inputs"] if entry["role"] == "synthetic set"] == [False]
    assert "another state lies there now" in render(found)


def test_a_number_of_other_settings_is_none_of_this_cell(changed):
    found, reasons = changed(SHARD, spec={"network": "vgg11-in"})
    assert reasons[SHARD] == [{"cause": "settings", "details": ["network"]}]
    assert found["number"] is None
    assert "not run with these settings" in render(found)


def test_damaged_files_are_named(changed):
    results = changed.folder / "results" / "tiny"
    (results / FEATURES).write_bytes(b"broken")
    found = explained(changed.folder)
    features = next(file for file in found["files"] if file["path"] == FEATURES)
    assert features["state"] == "damaged"
    assert str(results / FEATURES) in features["reasons"][0]["details"][0]
    assert "damaged:" in render(found)


def test_altered_rows_are_no_number(changed):
    file = changed.folder / "results" / "tiny" / SHARD
    table = pyarrow.parquet.read_table(file)
    better = table.set_column(1, "accuracy", pyarrow.array([0.99, 0.99]))
    pyarrow.parquet.write_table(better.replace_schema_metadata(table.schema.metadata), file)
    found = explained(changed.folder)
    assert found["number"] is None
    assert found["files"][0]["state"] == "damaged"
    assert "--force" in found["command"]


def command(folder, *arguments) -> list[str]:
    options = ["--config", str(folder / "config"), "--results-folder", str(folder / "results"), "--scale", "tiny"]
    return ["explain", *arguments, *options]


def test_the_command_prints_a_cell(folder, capsys):
    assert elf(command(folder, CELL)) == 0
    text = capsys.readouterr().out
    assert text.startswith("table05/dm/resnet18-in/elf at the scale tiny\n")
    assert "measured   55.00 ± 5.00 % (population std), 2 seeds, 95 % t-interval" in text
    assert elf(command(folder, CELL, "--json")) == 0
    assert json.loads(capsys.readouterr().out)["cell"] == "dm/resnet18-in/elf"


def test_the_command_lists_cells(folder, capsys):
    assert elf(command(folder, "table5")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(plan_of(folder).grid.cells["table05"])
    assert any(line.split() == ["table05/dm/resnet18-in/elf", "55.00", "±", "5.00", "%"] for line in lines)
    assert elf(command(folder, "table05/vgg11-bn", "--json")) == 1
    streams = capsys.readouterr()
    assert {"cell", "number", "current"} == json.loads(streams.out)[0].keys()
    assert streams.err == (
        "elf explain: error: table05/vgg11-bn is the name of 5 cells; add a word, as in the names listed above\n"
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "table02/dm",
            "'table02' is no table or figure of the scale tiny; allowed: table01, table05, figure3, figure4",
        ),
        (
            "table05/dmm",
            "no cell of table05 has the word 'dmm'; known are method dm, random, full-data; network convnet-w128-d3-in",
        ),
        ("table05/random/kd", "no cell of table05 has all of random, kd; the first of them go with method random; "),
    ],
)
def test_a_wrong_name_is_answered_with_those_there_are(folder, capsys, name, message):
    assert elf(command(folder, name)) == 1
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.startswith(f"elf explain: error: {message}")

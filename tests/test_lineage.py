"""Report and ``elf explain`` name the same files behind a number, in the same order, wherever they come from."""

import pytest
import torch
from fabricated_runs import configuration, finish, plan_of, states, write

from elf.artifacts.lineage import CHANGED, MISSING, THERE, Manifests
from elf.artifacts.manifest import describe, read_manifest
from elf.artifacts.tensors import write_tensors
from elf.cli import main
from elf.errors import ElfError
from elf.importing.recipes import write_recipe
from elf.report.costs import cost_of
from elf.status.explanation import explain
from elf.status.explanation_text import render
from elf.status.jobs import jobs_of
from elf.status.origins import artifacts_of, results_of
from elf.status.states import DAMAGED, INPUT, check_can_run

IMPORTED = "imported/theirs.safetensors"
SET = "synthetic/digits/theirs-ipc10-seed0/images.safetensors"
SHARD = "evaluations/digits/theirs-ipc10-seed0/convnet-w2-d3-in/task-lr0.01/seeds0-1.parquet"


def import_set(folder, content: float = 0.0) -> None:
    """Write a set from elsewhere as ``elf import`` does, but with made up content."""
    code = '{"elf.stages.import_files":"0"}'
    measured = {"device": "cpu", "wall_seconds": 7.0}
    manifest = describe("imported set", {"name": "theirs"}, inputs={}, code=code, measured=measured)
    file = folder / IMPORTED
    file.parent.mkdir(exist_ok=True)
    manifest = write_tensors(file, {"images": torch.tensor([content])}, manifest)
    recipe = folder / "config/recipes/theirs.yaml"
    identifier, sources = manifest["id"], [("theirs.npz", "0")]
    write_recipe(recipe, description="A set", file=IMPORTED, identifier=identifier, sources=sources)


@pytest.fixture
def folder(tmp_path):
    scale = configuration(tmp_path) / "scales/tiny.yaml"
    text = scale.read_text().replace("methods: [dm, dsa,", "methods: [theirs, dm, dsa,")
    scale.write_text(text.replace("method: [tesla, herding", "method: [theirs, tesla, herding"))
    import_set(tmp_path)
    finish(plan_of(tmp_path))
    return tmp_path


def cell_of(plan, experiment: str, **columns):
    (cell,) = [cell for cell in plan.grid.cells[experiment] if columns.items() <= cell.columns.items()]
    return cell


def theirs(plan):
    return cell_of(plan, "table01", method="theirs")


def explained(folder, cell_in=theirs):
    plan = plan_of(folder)
    return explain(plan, "table01", "theirs", cell_in(plan), folder / "no images")


def of_report(folder, cell_in=theirs):
    plan = plan_of(folder)
    return [*artifacts_of(jobs_of(plan), results_of(plan, cell_in(plan)), Manifests(plan.folder, lenient=True))]


def test_a_file_from_elsewhere_is_part_of_the_lineage(folder):
    found = explained(folder)
    assert found["current"]
    assert [file["path"] for file in found["files"]] == [SHARD, SET, IMPORTED, "datasets/digits/images.safetensors"]
    imported, made = found["files"][2], found["files"][1]
    assert imported["id"] == read_manifest(folder / IMPORTED)["id"]
    assert {"role": "imported set", "path": IMPORTED, "id": imported["id"], "fits": True} in made["inputs"]
    assert f"imported set   {IMPORTED}" in render(found)
    artifacts = of_report(folder)
    assert [artifact.path for artifact in artifacts] == [file["path"] for file in found["files"]]
    assert artifacts[2].id == imported["id"]
    # What others computed cost them, not this run.
    assert cost_of("all", artifacts).jobs == len(artifacts) - 1


@pytest.mark.parametrize("experiment", ["table01", "table05", "figure4"])
def test_report_and_explanation_have_one_lineage(folder, experiment):
    plan = plan_of(folder)
    for cell in plan.grid.cells[experiment]:
        paths = [file["path"] for file in explained(folder, lambda plan, cell=cell: cell)["files"]]
        assert [artifact.path for artifact in of_report(folder, lambda plan, cell=cell: cell)] == paths


def test_without_the_file_all_stays_as_it_is_but_nothing_can_be_made_from_it(folder):
    (folder / IMPORTED).unlink()
    plan = plan_of(folder)
    assert not any(state.reasons for state in states(plan).values())
    assert states(plan)[SET].lacks == IMPORTED
    assert states(plan)[SHARD].lacks is None
    found = explained(folder)
    assert found["current"]
    assert [file["state"] for file in found["files"]] == ["current", "current", "gone", "current"]
    assert "no longer there, so that what was made from it cannot be made again" in render(found)
    assert [artifact.state for artifact in of_report(folder)] == [THERE, THERE, MISSING, THERE]
    check_can_run(plan, jobs_of(plan), states(plan), ["table01"])
    with pytest.raises(ElfError, match=f"{IMPORTED}: there is no such file, and {SET} is made from it"):
        check_can_run(plan, jobs_of(plan), states(plan), [f"{plan.folder}/{SET}"])


def test_a_changed_recipe_without_the_file_is_said(folder):
    """The set cannot be made again, so that it is no job; but the number is none of the recipe that is there."""
    import_set(folder, content=1.0)
    (folder / IMPORTED).unlink()
    plan = plan_of(folder)
    assert states(plan)[SET].done
    assert states(plan)[SET].reasons[0].details == ("recipe.id",)
    found = explained(folder)
    assert not found["current"]
    assert "made with other settings: recipe.id" in render(found)


def test_the_command_ends_where_snakemake_does(folder, capsys):
    (folder / IMPORTED).unlink()
    (folder / "results/tiny" / SET).unlink()
    options = ["--config", f"{folder}/config", "--results-folder", f"{folder}/results", "--scale", "tiny"]
    (folder / "results/tiny/tables/table01.html").unlink()
    # It can be drawn from what was collected.
    assert main(["plan", "table01", *options]) == 0
    (folder / "results/tiny/collected/table01.parquet").unlink()
    capsys.readouterr()
    assert main(["plan", "table01", *options]) == 1
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err == (
        f"elf plan: error: {IMPORTED}: there is no such file, and {SET} is made from it; bring it back, or import it "
        "again ('elf import --name theirs --force')\n"
    )


def test_another_set_or_a_damaged_file_is_named(folder):
    write(plan_of(folder), jobs_of(plan_of(folder))[SET])
    manifest = read_manifest(folder / IMPORTED)
    write_tensors(folder / IMPORTED, {"images": torch.tensor([1.0])}, manifest)
    found = explained(folder)
    assert found["files"][1]["reasons"][0] == {"cause": INPUT, "details": ["imported set"]}
    assert of_report(folder)[2].state == CHANGED
    (folder / IMPORTED).write_bytes(b"broken")
    assert explained(folder)["files"][2]["state"] == DAMAGED


def test_a_file_is_compared_with_all_that_was_made_from_it(folder):
    """Of two evaluations the second was trained on another state of the set than the one that lies there."""
    plan = plan_of(folder)
    dm = [path for path in jobs_of(plan) if path.startswith("evaluations/digits/dm-") and "task" in path][:2]
    jobs = jobs_of(plan)
    source = jobs[dm[0]].inputs["synthetic set"]
    before = read_manifest(plan.folder / source)["id"]
    write(plan, jobs[source], content=1.0)
    write(plan, jobs[dm[0]])
    found = {a.path: a for a in artifacts_of(jobs, dm, Manifests(plan.folder))}
    assert (found[source].state, found[source].id) == (CHANGED, before)

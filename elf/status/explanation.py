"""What a number is made of, as plain data: seeds, the paper's number, files, recipes, and the command that makes it."""

import math
import shlex
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from elf.artifacts.manifest import Manifest
from elf.artifacts.tables import read_table
from elf.errors import ElfError
from elf.results.columns import Cell as Gathered
from elf.results.statistics import summarise_seeds
from elf.specs.shard import SHARD
from elf.status.jobs import Job, jobs_of, lineage, selected
from elf.status.origins import results_of
from elf.status.states import DAMAGED, SETTINGS, State, elsewhere, fits, given_manifest, states_of
from elf.study.cell_recipes import recipes_of
from elf.study.cells import Cell, FullDataCell
from elf.study.plan import Plan
from elf.verdicts.observations import is_of_paper, setting_of, setting_of_row
from elf.verdicts.printed import read_printed


def explain(plan: Plan, experiment: str, name: str, cell: Cell | FullDataCell, data_folder: Path) -> dict:
    """Return all that is known of a number.

    Parameters
    ----------
    plan : Plan
    experiment, name : str
        Table or figure, and what the cell is called in it.
    cell : Cell or FullDataCell
    data_folder : Path
        Folder of the real images; only the names and sizes of files are looked at.

    Returns
    -------
    dict
        Of texts, numbers, lists and dicts, ready to be written as JSON.
    """
    targets = results_of(plan, cell)
    jobs = selected(plan, jobs_of(plan), [f"{plan.folder.as_posix()}/{target}" for target in targets])
    states = states_of(jobs, plan.folder, data_folder)
    number, damaged = accuracies(plan.folder, cell, targets, states)
    made_of = lineage(jobs, targets)
    files = [entry for job in made_of for entry in _files(plan.folder, job, states)]
    for file in files:
        if file["path"] in damaged:
            file |= {"state": "damaged", "reasons": [{"cause": "damaged", "details": [damaged[file["path"]]]}]}
    current = not damaged and not any(states[job.path].reasons for job in made_of)
    return {
        "experiment": experiment,
        "cell": name,
        "scale": plan.settings.name,
        "number": summary(number),
        "current": current,
        "paper": printed(experiment, cell),
        "not comparable": _not_comparable(plan, cell),
        "columns": cell.columns,
        "specification": _specification(cell),
        "files": files,
        "recipes": _recipes(plan, cell),
        "command": _command(plan, targets, damaged, force=current),
    }


def accuracies(
    folder: Path, cell: Cell | FullDataCell, targets: list[str], states: Mapping[str, State]
) -> tuple[dict[int, float], dict[str, str]]:
    """Return the accuracy of each seed (fraction of the test set), and what is wrong with files by their path.

    Files that were made with other settings hold no number of this cell.
    """
    found: dict[int, float] = {}
    damaged: dict[str, str] = {}
    for target in targets:
        manifest = states[target].manifest
        if manifest is None or states[target].details(SETTINGS) is not None:
            continue
        if isinstance(cell, FullDataCell):
            return {cell.teacher.seed: manifest["spec"]["test_accuracy"]}, damaged
        try:
            rows, _ = read_table(folder / target, "evaluation shard", SHARD)
        except ElfError as error:
            damaged[target] = str(error)
            continue
        found |= {row["seed"]: row["accuracy"] for row in rows.to_pylist()}
    return found, damaged


def summary(found: Mapping[int, float]) -> dict | None:
    """Return mean, population standard deviation and 95 % interval in percent; None without seeds."""
    if not found:
        return None
    statistics = summarise_seeds(list(found.values()))
    percent = {key: 100 * getattr(statistics, key) for key in ("mean", "std", "low", "high")}
    numbers = {key: None if math.isnan(value) else value for key, value in percent.items()}
    return numbers | {"seeds": {str(seed): 100 * fraction for seed, fraction in found.items()}}


def printed(experiment: str, cell: Cell | FullDataCell) -> list[dict]:
    """Return what the paper prints for a cell: in the table itself, or else in others."""
    gathered = Gathered(cell.columns, cell.columns["aligned"], pd.DataFrame())
    if not is_of_paper(gathered):
        return []
    setting = setting_of(gathered)
    rows = [row for row in read_printed().to_dict("records") if setting_of_row(row) == setting]
    own = [row for row in rows if row["experiment"] == experiment]
    keys = ("table", "row", "kind", "mean", "std", "teacher_epoch", "note")
    return [{key: None if pd.isna(row[key]) else row[key] for key in keys} for row in own or rows]


def _not_comparable(plan: Plan, cell: Cell | FullDataCell) -> list[str]:
    reasons = [] if plan.settings.name == "paper" else [f"the scale is {plan.settings.name}"]
    if cell.dataset != cell.paper_dataset:
        reasons.append(f"{cell.dataset} stands in for {cell.paper_dataset}")
    return reasons


def _specification(cell: Cell | FullDataCell) -> dict:
    if isinstance(cell, FullDataCell):
        return {"training": cell.teacher.model_dump(mode="json")}
    return {
        "evaluation": cell.evaluation.model_dump(mode="json"),
        "synthetic set": cell.synthetic.model_dump(mode="json"),
    }


def _files(folder: Path, job: Job, states: Mapping[str, State]) -> Iterator[dict]:
    """Yield what is known of a file, and of those from elsewhere that it is made from."""
    yield _file(folder, job, states)
    for role, path in job.given.items():
        file, manifest = elsewhere(folder, path), given_manifest(folder, path)
        cause = None if manifest else DAMAGED if file.is_file() else "gone"
        reasons = [{"cause": cause, "details": []}] if cause else []
        entry = {"kind": role, "path": path, "state": cause or "current", "reasons": reasons}
        yield entry | (_made(file, manifest, []) if manifest else {})


def _file(folder: Path, job: Job, states: Mapping[str, State]) -> dict:
    """Return what is known of a file, and whether its inputs are those that are there."""
    state, path = states[job.path], folder / job.path
    entry = {
        "kind": job.kind,
        "path": job.path,
        "state": "current" if state.done else state.first,
        "reasons": [{"cause": reason.cause, "details": list(reason.details)} for reason in state.reasons],
    }
    if state.manifest is None:
        return entry
    sources = [(role, source, states[source].manifest) for role, source in job.inputs.items()]
    sources += [(role, source, given_manifest(folder, source)) for role, source in job.given.items()]
    return entry | _made(path, state.manifest, [_input(state.manifest, *source) for source in sources])


def _made(file: Path, manifest: Manifest, inputs: list[dict]) -> dict:
    """Return how a file was made."""
    measured = manifest["measured"]
    return {
        "id": manifest["id"],
        "code_id": manifest["code_id"],
        "device": measured.get("device"),
        "wall_seconds": measured.get("wall_seconds"),
        "versions": manifest["versions"],
        "written": datetime.fromtimestamp(file.stat().st_mtime, UTC).isoformat(timespec="seconds"),
        "inputs": inputs,
    }


def _input(manifest: Manifest, role: str, path: str, source: Manifest | None) -> dict:
    recorded = manifest["inputs"].get(role, {}).get("id")
    fit = None if source is None else fits(manifest, role, source)
    return {"role": role, "path": path, "id": recorded, "fits": fit}


def _recipes(plan: Plan, cell: Cell | FullDataCell) -> dict[str, list[dict]]:
    """Return the recipes of a cell; ``changed by`` says whether the scale or the experiment changed a value."""

    def changed_by(line: Mapping) -> str | None:
        if line["where"] == f"budget of the scale {plan.settings.name}":
            return "scale"
        return "experiment" if line["where"].partition(";")[0] == "experiment" else None

    recipes = recipes_of(plan.settings, cell)
    return {what: [line | {"changed by": changed_by(line)} for line in lines] for what, lines in recipes.items()}


def _command(plan: Plan, targets: list[str], damaged: Mapping[str, str], *, force: bool) -> str:
    """Return the one command that makes the number again.

    Snakemake makes whatever is missing or stale before a target. It does not see damage inside a file, so that a
    damaged one is forced, and so is a number of which nothing is stale.
    """
    files = " ".join(shlex.quote(f"results/{plan.settings.name}/{target}") for target in targets)
    forced = "--force " if force or damaged else ""
    return f"snakemake --profile profiles/local {forced}{files} --config scale={shlex.quote(plan.settings.name)}"

"""The rows of results, one for each seed, from the files that the grid asks for: all, or those that are there."""

import glob
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from elf.artifacts.lineage import THERE, Manifests
from elf.artifacts.manifest import Manifest, read_manifest
from elf.artifacts.tables import read_table
from elf.errors import ElfError
from elf.results.columns import RESULTS
from elf.specs.column import Images, Run
from elf.specs.columns import of_checkpoint, of_row
from elf.specs.evaluation import EvaluationSpec
from elf.specs.shard import SHARD
from elf.specs.teacher import TeacherSpec
from elf.study.grid import Grid
from elf.study.plan import Plan


def collect(
    scale: str,
    folder: Path,
    evaluations: dict[str, EvaluationSpec],
    synthetic: dict[str, Manifest],
    sources: dict[str, str],
) -> Iterator[dict]:
    """Yield the rows of all shards, each checked to be what the grid asks for.

    Parameters
    ----------
    scale : str
        Name of the scale.
    folder : Path
        Results folder of the scale.
    evaluations : dict of str to EvaluationSpec
        Specification by path of the shard below ``folder``.
    synthetic : dict of str to manifest
        Manifests of the synthetic sets, by ``dataset/name``.
    sources : dict of str to str
        How the images of each dataset were stored.

    Raises
    ------
    ElfError
        If a shard is damaged, or holds other seeds or settings than the grid asks for.
    """
    for path, spec in evaluations.items():
        table, manifest = read_table(folder / path, "evaluation shard", SHARD)
        if manifest["spec"] != spec.model_dump(mode="json"):
            raise ElfError(f"{folder / path}: was made with other settings; delete it and start again")
        rows = table.to_pylist()
        if [row["seed"] for row in rows] != list(spec.seeds):
            raise ElfError(f"{folder / path}: holds other seeds than {list(spec.seeds)}; delete it and start again")
        source = synthetic[f"{spec.dataset}/{spec.synthetic_set}"]
        for row in rows:
            if row["synthetic_set_id"] != source["id"]:
                raise ElfError(
                    f"{folder / path}: was trained on another state of {spec.dataset}/{spec.synthetic_set}; "
                    "delete it and start again"
                )
            images = Images.recorded(source["spec"])
            run = Run(evaluation=spec, images=images, scale=scale, source=sources[spec.dataset], shard=path)
            yield of_row(run) | row


def full_data_rows(scale: str, folder: Path, trainings: dict[str, TeacherSpec], datasets: dict[str, Manifest]):
    """Yield a row for each training on all real images: the test accuracy of its last state.

    Parameters
    ----------
    scale, folder
        As for :func:`collect`.
    trainings : dict of str to TeacherSpec
        Specification by path of the last checkpoint below ``folder``.
    datasets : dict of str to manifest
        Manifests of the datasets, by name.

    Raises
    ------
    ElfError
        If a checkpoint is damaged, or comes from another training or dataset than the grid asks for.
    """
    for path, spec in trainings.items():
        manifest = read_manifest(folder / path, "teacher checkpoint")
        dataset = datasets[spec.dataset]
        if not spec.model_dump(mode="json").items() <= manifest["spec"].items():
            raise ElfError(f"{folder / path}: was made with other settings; delete it and start again")
        if manifest["inputs"]["dataset"]["id"] != dataset["id"]:
            raise ElfError(
                f"{folder / path}: was trained on another state of {spec.dataset}; delete it and start again"
            )
        run = Run.on_all_images(spec, scale=scale, source=dataset["spec"]["source"], shard=path)
        yield of_row(run) | of_checkpoint(manifest)


def _those_there(grid: Grid, folder: Path) -> Grid:
    """Return what has been run, with the synthetic sets and datasets that it needs."""
    evaluations = {path: spec for path, spec in grid.evaluations.items() if (folder / path).is_file()}
    full_data = {path: spec for path, spec in grid.full_data.items() if (folder / path).is_file()}
    sets = {f"{spec.dataset}/{spec.synthetic_set}" for spec in evaluations.values()}
    datasets = {spec.dataset for spec in (*evaluations.values(), *full_data.values())}
    return Grid(
        datasets={path: spec for path, spec in grid.datasets.items() if spec.name in datasets},
        synthetic_sets={p: spec for p, spec in grid.synthetic_sets.items() if f"{spec.dataset}/{spec.name}" in sets},
        evaluations=evaluations,
        full_data=full_data,
    )


def rows_of(
    plan: Plan, experiment: str | None = None, *, partial: bool = False
) -> tuple[list[dict], dict[str, Manifest]]:
    """Return the rows of one experiment, or of all, and the manifests of what they come from, by role.

    Parameters
    ----------
    plan : Plan
    experiment : str or None
    partial : bool
        Whether to leave out what has not been run yet, instead of raising an error.
    """
    folder, scale = plan.folder, plan.settings.name
    wanted = plan.collected(experiment)
    if partial:
        wanted = _those_there(wanted, folder)
    synthetic = {
        f"{spec.dataset}/{spec.name}": read_manifest(folder / path / "images.safetensors", "synthetic set")
        for path, spec in wanted.synthetic_sets.items()
    }
    datasets = {
        spec.name: read_manifest(folder / path / "images.safetensors", "dataset")
        for path, spec in wanted.datasets.items()
    }
    sources = {name: manifest["spec"]["source"] for name, manifest in datasets.items()}
    rows = list(collect(scale, folder, wanted.evaluations, synthetic, sources))
    rows += full_data_rows(scale, folder, wanted.full_data, datasets)
    return rows, {f"synthetic set {name}": manifest for name, manifest in synthetic.items()}


def remove_seed_states(shard: Path) -> None:
    """Remove what an evaluation on a cluster kept of its finished seeds, in case that another of its group failed."""
    for state in shard.parent.glob(f".{glob.escape(shard.name)}.seed*.resume"):
        state.unlink(missing_ok=True)


def results_so_far(plan: Plan, manifests: Manifests) -> tuple[pd.DataFrame, list[str]]:
    """Return one row a seed of all evaluations that are there, and why others were left out.

    Parameters
    ----------
    plan : Plan
    manifests : Manifests
        Of the results folder; lenient.
    """
    grid, scale, folder = plan.grid, plan.settings.name, plan.folder
    datasets = {
        spec.name: manifests.get(f"{path}/images.safetensors")
        for path, spec in grid.datasets.items()
        if manifests.state(f"{path}/images.safetensors") == THERE
    }
    synthetic = {
        f"{spec.dataset}/{spec.name}": manifests.get(f"{path}/images.safetensors")
        for path, spec in grid.synthetic_sets.items()
        if manifests.state(f"{path}/images.safetensors") == THERE
    }
    sources = {name: manifest["spec"]["source"] for name, manifest in datasets.items()}
    rows, problems = [], []

    def take(path: str, needed: bool, read) -> None:
        if not (folder / path).is_file():
            return
        if not needed:
            problems.append(f"{path}: what it was made from is missing or unreadable")
            return
        try:
            rows.extend(read())
        except ElfError as error:
            problems.append(str(error).removeprefix(f"{folder}/"))

    for path, spec in grid.evaluations.items():
        name = f"{spec.dataset}/{spec.synthetic_set}"
        take(
            path,
            name in synthetic and spec.dataset in datasets,
            lambda path=path, spec=spec: list(collect(scale, folder, {path: spec}, synthetic, sources)),
        )
    for path, spec in grid.full_data.items():
        take(
            path,
            spec.dataset in datasets,
            lambda path=path, spec=spec: list(full_data_rows(scale, folder, {path: spec}, datasets)),
        )
    return pd.DataFrame(rows, columns=RESULTS.names), problems

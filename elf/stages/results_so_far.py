"""The results that a run has so far; a file that does not fit is named instead of ending everything."""

import pandas as pd

from elf.artifacts.lineage import THERE, Manifests
from elf.errors import ElfError
from elf.results.schema import RESULTS
from elf.stages.collect import collect, full_data_rows
from elf.study.plan import Plan


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

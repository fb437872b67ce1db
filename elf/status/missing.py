"""What is said before anything starts when real images are missing, and what can be made without them."""

from collections.abc import Callable, Iterable
from pathlib import Path

from elf.status.jobs import jobs_of, selected
from elf.study.images import missing_data, prepared_without_images
from elf.study.plan import Plan


def missing_images(plan: Plan, targets: Iterable[str], data_folder: Path) -> dict[str, str]:
    """Return what is missing of each dataset that targets need, by its name; nothing if it can be downloaded.

    Parameters
    ----------
    plan : Plan
    targets : iterable of str
        As for :func:`elf.status.jobs.selected`.
    data_folder : Path
        Folder of the real images.
    """
    jobs = selected(plan, jobs_of(plan), targets).values()
    specs = [job.spec for job in jobs if job.kind == "datasets"]
    problems = {spec.name: missing_data(spec, data_folder) for spec in specs}
    kept = [spec.name for spec in specs if prepared_without_images(spec, data_folder, plan.folder)]
    return {name: problem for name, problem in problems.items() if problem and name not in kept}


def missing_report(
    plan: Plan, targets: Iterable[str], data_folder: Path, command: Callable[[list[str]], str], *, dry_run: bool
) -> str | None:
    """Return what images are missing for some targets, and the command that makes what needs none of them.

    Parameters
    ----------
    plan : Plan
    targets : iterable of str
    data_folder : Path
    command : callable (list of str) -> str
        Gives the command line that was called, for other targets.
    dry_run : bool
        Whether the jobs are only listed.

    Returns
    -------
    str or None
        Several lines; None if nothing is missing.
    """
    targets = list(targets)
    missing = missing_images(plan, targets, data_folder)
    if not missing:
        return None
    lines = ["images are missing" + ("; with them, this would run:" if dry_run else ", so nothing was started:")]
    needing = {name: _experiments_needing(plan, name) for name in missing}
    for name, problem in missing.items():
        needed = f", for {', '.join(needing[name])}" if needing[name] else ""
        obtain = plan.settings.datasets[name].obtain
        lines.append(f"- {name}{needed}: {problem}." + (f" {obtain}" if obtain else ""))
    affected = sorted(set().union(*needing.values()))
    if spared := _spared(plan, targets, affected):
        lines += ["What needs none of them is made by", f"    {command(spared)}"]
    remove = f"'experiments' in config/scales/{plan.settings.name}.yaml"
    lines.append(f"To do without them for good, remove {', '.join(affected)} from {remove}.")
    return "\n".join(lines)


def _experiments_needing(plan: Plan, dataset: str) -> list[str]:
    """Return the tables and figures with a cell that is measured on a dataset."""
    return [name for name, cells in plan.grid.cells.items() if any(cell.dataset == dataset for cell in cells)]


def _spared(plan: Plan, targets: list[str], affected: list[str]) -> list[str]:
    """Return the tables and figures without missing images: of those that were asked for, or else of all."""
    spared = [name for name in plan.grid.cells if name not in affected]
    kinds = {"all_tables": "table", "all_figures": "figure"}
    asked = [
        name
        for name in spared
        if name in targets or any(plan.settings.experiments[name].kind == kinds.get(target) for target in targets)
    ]
    return asked or spared

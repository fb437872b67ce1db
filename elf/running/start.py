"""What happens once, after Snakemake has read the rules and before it looks at any file."""

import logging
import os
import re
import sys
from collections.abc import Collection
from pathlib import Path

from elf.artifacts.files import bring_to_present
from elf.errors import ElfError
from elf.guards.claim import claim, runs_jobs
from elf.guards.command_line import Started, started, with_targets
from elf.guards.slurm_watch import start_watch
from elf.guards.starting import check_start
from elf.running.opening import opening, sees_gpu
from elf.status.jobs import jobs_of, no_target, selected
from elf.status.missing import missing_report
from elf.study.images import data_folder
from elf.study.plan import Plan


def start(plan: Plan, rules: Collection[str], logger: logging.Logger) -> None:
    """Say what is going to run, refuse what cannot, claim the scale and watch over its jobs.

    Parameters
    ----------
    plan : Plan
    rules : collection of str
        Names of all rules.
    logger : Logger
        Snakemake's.

    Raises
    ------
    ElfError
        If a target does not exist, images are missing, jobs could not start or somebody else runs the scale.
    """
    how = started()
    runs = runs_jobs(sys.argv[1:]) and not how.dry_run
    for target in how.targets:
        check_target(plan, target, rules)
    if runs or how.dry_run:
        _say(plan, how, logger, runs=runs)
    if not runs:
        return
    check_start(how, [plan.folder, Path("logs") / plan.settings.name, Path("timings") / plan.settings.name])
    claim(plan.settings.name, logger.info)
    start_watch(Path.cwd(), logger)
    for file in bring_to_present(plan.folder.rglob("*")):
        logger.warning(f"{file}: lies in the future; its time is set to now")


def check_target(plan: Plan, target: str, rules: Collection[str]) -> None:
    """Raise an error for a target that is neither a rule nor a path, and for a table or figure that is not made."""
    drawn = re.fullmatch("(table|figure)[0-9]+", Path(target).stem)
    is_path = "/" in target or Path(target).exists()
    if (drawn and drawn[0] not in plan.grid.cells) or not (target in rules or is_path):
        raise no_target(target, plan)


def _say(plan: Plan, how: Started, logger: logging.Logger, *, runs: bool) -> None:
    try:
        selected(plan, jobs_of(plan), how.targets)
        targets = how.targets
    except ElfError:
        # Files that only Snakemake knows, such as cards: what they need is not counted.
        targets = None
    cores = os.cpu_count() if how.executor == "local" and not sees_gpu() else None
    for line in opening(plan, targets, cores):
        logger.info(line)
    if targets is None:
        return
    report = missing_report(plan, targets, data_folder(), _for_targets, dry_run=not runs)
    if report and runs:
        raise ElfError(report)
    if report:
        logger.warning(report)


def _for_targets(targets: list[str]) -> str:
    from snakemake.cli import get_argument_parser

    return with_targets(targets, sys.argv[1:], get_argument_parser().parse_args)

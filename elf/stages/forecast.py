"""Say what is left to do for some targets, and what it takes: jobs, hours, disk, the longest chain."""

import argparse
import shutil
from pathlib import Path

from elf.errors import ElfError
from elf.planning.calibration import Calibration, read_calibration, write_calibration
from elf.planning.fitting import Measurement, calibrate
from elf.planning.forecast import forecast, timings_of
from elf.planning.forecast_text import render
from elf.planning.measuring import measurements
from elf.status.jobs import jobs_of, selected
from elf.status.states import check_can_run, states_of
from elf.study.images import data_folder
from elf.study.plan import arguments_of_scale, load_plan

DEVICES = (1, 4, 16, 64)


def main(argv: list[str]) -> None:
    """Run the command."""
    parser = arguments_of_scale("plan", __doc__)
    parser.add_argument(
        "targets",
        nargs="*",
        metavar="TARGET",
        help="tables and figures such as table05, all_tables, all_figures, report, or paths of results (default: all)",
    )
    parser.add_argument(
        "--devices",
        nargs="+",
        type=_positive,
        default=DEVICES,
        metavar="N",
        help="numbers of devices (default: 1 4 16 64)",
    )
    parser.add_argument("--calibration", type=Path, metavar="FILE", help="speeds of a device (default: finished jobs)")
    parser.add_argument(
        "--calibrate",
        type=Path,
        metavar="FILE",
        help="only write the speeds that finished jobs show, of --scale or all",
    )
    arguments = parser.parse_args(argv)
    if arguments.calibrate is not None:
        _calibrate(arguments.results_folder, arguments.scale, arguments.calibrate)
        return
    plan = load_plan(arguments)
    jobs = selected(plan, jobs_of(plan), arguments.targets)
    states = states_of(jobs, plan.folder, data_folder())
    check_can_run(plan, jobs, states, arguments.targets)
    calibration, hint = _speeds(arguments, plan.settings.name)
    found = forecast(plan, jobs, states, calibration, arguments.devices)
    what = ", ".join(arguments.targets) or "everything"
    title = f"Scale {plan.settings.name}, {what}: {found.to_do:,} of {len(jobs):,} jobs are to do."
    print(render(found, title, _free(plan.folder), hint))


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, allowed are 1 and more")
    return int(text)


def _speeds(arguments: argparse.Namespace, scale: str) -> tuple[Calibration | None, str | None]:
    """Return the calibration to use, or why there is none."""
    if arguments.calibration is not None:
        return read_calibration(arguments.calibration), None
    finished = _finished(arguments.results_folder, scale)
    if finished:
        return calibrate(finished), None
    where = arguments.results_folder / scale
    return None, (
        f"cannot be estimated, because no job in {where} is finished and --calibration names no speeds. Give those of "
        "another scale or machine ('elf plan --calibrate FILE' writes them), or write some (docs/planning.md)."
    )


def _finished(results: Path, scale: str | None) -> list[Measurement]:
    scales = [results / scale] if scale else sorted(path for path in results.glob("*") if path.is_dir())
    return [measurement for folder in scales for measurement in measurements(folder, timings_of(folder))]


def _calibrate(results: Path, scale: str | None, file: Path) -> None:
    finished = _finished(results, scale)
    if not finished:
        where = results / scale if scale else results
        raise ElfError(
            f"{where}: no job is finished there, so that no speed is known; run some, such as table01 of smoke"
        )
    calibration = calibrate(finished)
    write_calibration(file, calibration)
    others = sorted({measurement.device for measurement in finished} - {calibration.device})
    left_out = f"; left out: {', '.join(others)}" if others else ""
    of_device = sum(measurement.device == calibration.device for measurement in finished)
    print(f"{file}: {calibration.device}, from {of_device} finished jobs{left_out}")


def _free(folder: Path) -> int | None:
    existing = next((path for path in (folder, *folder.absolute().parents) if path.is_dir()), None)
    return existing and shutil.disk_usage(existing).free

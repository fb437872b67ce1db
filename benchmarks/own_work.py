"""How much of a run of the workflow its jobs spend on their own work, and how long a job takes to begin with it.

    python -m benchmarks.own_work [--folder docs/results/own_work]

What `make demo` runs is run in a copy of the project, on all cores. Snakemake's benchmark records say how long the
process of each job took, and the ledger in its manifest how much of that came after Python had started, read its
libraries and checked its arguments. The rest of the wall time is Snakemake's, or cores that had nothing to do.
"""

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from benchmarks.publishing import publish
from benchmarks.workflow_speed import copy_of_the_project, snakemake
from elf.artifacts.manifest import read_manifest

CORES = len(os.sched_getaffinity(0))
TARGETS = ("table05", "figure4")
STARTS = 5
GOALS = {"own work": 0.6, "first step": 5}

OUTPUTS = {
    "prepare_dataset": "datasets/{}/images.safetensors",
    "train_expert": "experts/{}.safetensors",
    "distill": "synthetic/{}/images.safetensors",
    "train_teacher": "teachers/{}.safetensors",
    "extract_features": "features/{}.safetensors",
    "evaluate": "evaluations/{}.parquet",
}
"""By rule: the file with the ledger of a job, as its benchmark record is called."""

FIRST_STEP = """
import sys, time
from elf import cli, training

def first_step(*_, **__):
    print(time.time(), flush=True)
    raise SystemExit

training.step = first_step
sys.exit(cli.main(sys.argv[1:]))
"""
"""A job that ends where it would make its first step, and says when that was."""


def jobs(folder: Path) -> pd.DataFrame:
    """Return the rule of each job with a benchmark record, and the seconds of its process and of its ledger."""
    lines = []
    for rule, output in OUTPUTS.items():
        records = folder / "timings" / "smoke" / rule
        for file in sorted(records.rglob("*.jsonl")):
            name = str(file.relative_to(records).with_suffix(""))
            if rule == "train_teacher":
                name = "/".join(name.rsplit("-", 1))
            measured = read_manifest(folder / "results" / "smoke" / output.format(name))["measured"]
            process = json.loads(file.read_text().splitlines()[-1])
            lines.append({"rule": rule, "process": process["s"], "own": measured["wall_seconds"]})
    return pd.DataFrame(lines)


def seconds_to_first_step(folder: Path) -> float:
    """Return how long an evaluation of the run takes from the start of its process to its first step."""
    shard = next(iter(sorted((folder / "results" / "smoke" / "evaluations").rglob("*.parquet"))))
    wanted = str(shard.relative_to(folder))
    told = ("--dry-run", "--printshellcmds", "--force", "--scheduler", "greedy", "--config", "scale=smoke")
    arguments = [sys.executable, "-m", "snakemake", "--cores", "1", *told, "--", wanted]
    printed = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=True)
    words = shlex.split((printed.stdout + printed.stderr).partition("python -m elf evaluate")[2].partition(" >logs")[0])
    command = [sys.executable, "-c", FIRST_STEP, "evaluate", *(word for word in words if word.strip())]
    command[command.index("--shard") + 1] = str(folder / "first_step.parquet")
    began = time.time()
    ended = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    return float(ended.stdout.split()[-1]) - began


def document(lines: pd.DataFrame, wall: float, starts: list[float]) -> str:
    """Return what was found, as Markdown."""
    rows = [
        f"| {rule} | {len(own)} | {own['process'].sum():.1f} | {own['own'].sum():.1f} | "
        f"{(own['process'] - own['own']).median():.2f} |"
        for rule, own in lines.groupby("rule", sort=False)
    ]
    processes, own = (lines[column].sum() / (wall * CORES) for column in ("process", "own"))
    return "\n".join(
        [
            "# What a run of the workflow is spent on",
            "",
            "Made by `python -m benchmarks.own_work`: table05 and figure4 at the scale smoke, from nothing. "
            f"{CORES} cores ({platform.machine()}), Python {platform.python_version()}.",
            "",
            "| rule | jobs | processes (s) | own work (s) | start and end of a job, median (s) |",
            "|---|---:|---:|---:|---:|",
            *rows,
            "",
            f"The run took {wall:.0f} s. Of the time of its {CORES} cores, the processes of these jobs were there for "
            f"{processes:.0%}, and at their own work for {own:.0%} (goal: at least {GOALS['own work']:.0%} in the "
            "stages' own work). Collecting, drawing and contact sheets have no record and are not counted.",
            "",
            f"From the start of an evaluation's process to its first training step: {statistics.median(starts):.2f} s "
            f"({min(starts):.2f} to {max(starts):.2f}, {len(starts)} starts; goal: under {GOALS['first step']} s).",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, help="where to write the table (default: only print it)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_of_the_project(folder)
        wall = snakemake(folder, *TARGETS, scale="smoke")
        lines = jobs(folder)
        starts = [seconds_to_first_step(folder) for _ in range(STARTS)]
    publish(document(lines, wall, starts), lines.assign(wall=wall), arguments.folder, "README.md", "jobs.parquet")


if __name__ == "__main__":
    main()

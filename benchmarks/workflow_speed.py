"""How long the workflow itself takes with the whole paper: planning from nothing, when all is done, and a redrawing.

    python benchmarks/workflow_speed.py [--folder docs/results/workflow_speed]

Nothing is trained: in a copy of the project, the files that the grid asks for are made empty and declared done, and
Figure 4 gets made-up results. Each command runs as its users run it, in a process of its own; the baseline beside it is
`snakemake --version`, which is what no workflow can be faster than.
"""

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from elf.artifacts.fingerprint import fingerprint
from elf.artifacts.manifest import describe
from elf.artifacts.tables import write_table
from elf.results.columns import RESULTS
from elf.running.drawing import cells_of
from elf.specs.shard import MEASURED
from elf.study.plan import Plan, make_plan

PROJECT = Path(__file__).resolve().parent.parent
COPIED = ("Snakefile", "rules", "config", "profiles", "elf", "envs", "pyproject.toml")
REPEATS = 3
FIGURE = "figure4"
# Image files that a dry run only looks for.
IMAGES = {
    name: ("train-00000-of-00001.parquet", "test-00000-of-00001.parquet")
    for name in ("cifar10", "cifar100", "tiny-imagenet-200", "imagenet-1k")
}
GOALS = {
    "dry run from nothing": 10,
    "dry run when everything is done": 5,
    f"elf figure: redrawing {FIGURE} from its rows": 5,
    "of which the plot": 2,
}


def copy_of_the_project(folder: Path) -> None:
    for name in COPIED:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    for dataset, files in IMAGES.items():
        (folder / "data" / dataset).mkdir(parents=True)
        for file in files:
            (folder / "data" / dataset / file).touch()


def run(folder: Path, *arguments: str) -> float:
    """Return the seconds that a command took."""
    environment = os.environ | {"ELF_DATA_DIR": str(folder / "data"), "OMP_NUM_THREADS": "1"}
    started = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - started
    if ended.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{ended.stdout}{ended.stderr}")
    return seconds


def snakemake(folder: Path, *arguments: str, scale: str = "paper") -> float:
    profile = ("--profile", "profiles/local", "--config", f"scale={scale}")
    return run(folder, "snakemake", *arguments, *profile)


def declare_done(folder: Path, plan: Plan) -> None:
    """Make every file of the grid, empty, and let Snakemake record it as made by the present code and settings."""
    grid, results = plan.grid, folder / plan.folder
    files = [f"{path}/{name}" for path in grid.datasets for name in ("images.safetensors", "card.json")]
    files += [*grid.experts, *grid.features, *grid.evaluations, "results.parquet"]
    files += [f"{path}/{name}" for path in grid.synthetic_sets for name in ("images.safetensors", "contact_sheet.png")]
    files += [f"{path}/epoch{epoch}.safetensors" for path, epochs in grid.checkpoints.items() for epoch in epochs]
    for name in grid.cells:
        kind = plan.settings.experiments[name].kind
        endings = ("md", "tex", "csv", "html") if kind == "table" else ("pdf", "png", "svg", "csv")
        files += [f"collected/{name}.parquet", *(f"{kind}s/{name}.{ending}" for ending in endings)]
    for file in files:
        path = results / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    made_up_results(plan, results / "collected" / f"{FIGURE}.parquet")
    snakemake(folder, "--touch", "all_tables", "all_figures")


def made_up_results(plan: Plan, path: Path) -> None:
    """Write results with random accuracies in the place of measured ones."""
    random = np.random.default_rng(0)
    rows = [
        {name: None for name in RESULTS.names}
        | {name: value for name, value in cell.items() if name in RESULTS.names and not pd.isna(value)}
        | {"scale": "paper", "seed": seed, "accuracy": float(random.uniform(0.2, 0.4)), "shard": "made up"}
        for _, cell in cells_of(plan, FIGURE).iterrows()
        for seed in range(int(cell["seeds"]))
    ]
    spec = {"scale": "paper", "experiment": FIGURE, "partial": False}
    manifest = describe("results", spec, inputs={}, code=fingerprint("elf.stages.collect"), measured={})
    write_table(path, rows, RESULTS, manifest, MEASURED)


def plot_seconds(folder: Path, plan: Plan) -> float:
    """Return what drawing takes in a process in which everything is imported and read."""
    from elf.results import figure4
    from elf.running.drawing import about, read_results

    results = read_results(folder / plan.folder / "collected" / f"{FIGURE}.parquet")
    cells = cells_of(plan, FIGURE)
    started = time.perf_counter()
    figure4.render(cells, results, about(plan, FIGURE))
    return time.perf_counter() - started


def measure(folder: Path) -> dict[str, list[float]]:
    copy_of_the_project(folder)
    os.environ["ELF_DATA_DIR"] = str(folder / "data")
    plan = make_plan(folder / "config", "paper", Path("results"))
    targets = ("all_tables", "all_figures")
    seconds = {"snakemake --version": [run(folder, "snakemake", "--version") for _ in range(REPEATS)]}
    seconds["dry run from nothing"] = [snakemake(folder, "--dry-run", *targets) for _ in range(REPEATS)]
    declare_done(folder, plan)
    seconds["dry run when everything is done"] = [snakemake(folder, "--dry-run", *targets) for _ in range(REPEATS)]
    figures = plan.folder / "figures"
    ways = {
        # Looks at everything behind the figure first.
        f"snakemake: redrawing {FIGURE}": lambda: snakemake(folder, FIGURE),
        f"elf figure: redrawing {FIGURE} from its rows": lambda: run(
            folder, "elf", "figure", FIGURE, "--scale", "paper", "--folder", str(figures)
        ),
    }
    for name, redraw in ways.items():
        seconds[name] = []
        for _ in range(REPEATS):
            for ending in ("pdf", "png", "svg", "csv"):
                (folder / figures / f"{FIGURE}.{ending}").unlink()
            seconds[name].append(redraw())
    seconds["of which the plot"] = [plot_seconds(folder, plan) for _ in range(REPEATS)]
    return seconds


def report(seconds: dict[str, list[float]], jobs: int) -> str:
    rows = [
        f"| {what} | {statistics.median(values):.2f} | {min(values):.2f} to {max(values):.2f} | {GOALS.get(what, '')} |"
        for what, values in seconds.items()
    ]
    head = ["| | median (s) | range (s) | goal (s) |", "|---|---:|---:|---:|"]
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, {REPEATS} runs each"
    text = f"The whole paper: {jobs} jobs besides drawing. {machine}."
    return "\n".join(["# Speed of the workflow itself", "", text, "", *head, *rows, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, help="where to write the table (default: only print it)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seconds = measure(Path(folder))
        grid = make_plan(Path(folder) / "config", "paper", Path("results")).grid
    jobs = sum(map(len, (grid.datasets, grid.experts, grid.synthetic_sets, grid.features, grid.evaluations)))
    text = report(seconds, jobs + sum(map(len, grid.checkpoints.values())))
    print(text)
    if arguments.folder:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        (arguments.folder / "README.md").write_text(text, encoding="utf-8")
        frame = pd.DataFrame([{"what": what, "seconds": value} for what, values in seconds.items() for value in values])
        frame.to_parquet(arguments.folder / "seconds.parquet", index=False)


if __name__ == "__main__":
    main()

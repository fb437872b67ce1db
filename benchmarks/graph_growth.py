"""What Snakemake takes to plan graphs of about 1,000 to 30,000 jobs: seconds and memory of dry runs from nothing.

    .venv/bin/python benchmarks/graph_growth.py

Writes docs/results/scaling/graph.csv and its table in docs/scaling.md; takes some ten minutes. In a copy of the
project, a scale asks Tables 1 and 5 for more seeds, one a job, and for more synthetic sets: distillation networks of
several widths, each with its experts, three methods and three numbers of images. Nothing is trained. Each command is
a process of its own.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import yaml
from scaling_document import fill
from workflow_speed import copy_of_the_project

PROJECT = Path(__file__).resolve().parent.parent
REPEATS = 3
# Distillation networks and seeds; what is asked for grows in all directions.
SIZES = ((2, 3), (4, 5), (6, 14), (9, 29))
WIDTHS = (8, 16, 24, 32, 48, 64, 96, 128, 192)
SNAKEMAKE = ("-m", "snakemake", "--dry-run", "--profile", "profiles/local", "--config", "scale=large", "--")
METHODS = ["dm", "dsa", "mtt"]
IPC = [1, 10, 50]
EVALUATED = ["convnet-w128-d3-in", "convnet-w128-d3-bn", "resnet18-in", "resnet18-bn", "vgg11-in", "vgg11-bn"]
PLANNING = """
import time
from pathlib import Path
from elf.study.plan import make_plan
started = time.process_time()
plan = make_plan(Path("config"), "large", Path("results"))
print(time.process_time() - started, list(plan.grid.evaluations)[-1])
"""


def scale(networks: int, seeds: int) -> dict:
    """Return a scale that makes Tables 1 and 5 from many synthetic sets; the tables' other blocks are left out."""
    many = {
        "method": METHODS,
        "ipc": IPC,
        "distill_network": [f"convnet-w{width}-d3-in" for width in WIDTHS[:networks]],
        "eval_network": EVALUATED,
    }
    off = {"enabled": False}
    table01 = {"baseline": many} | dict.fromkeys(
        ("aligned", "batch-norm-aligned", "batch-norm", "frepo", "full-data"), off
    )
    table05 = {"baseline": many, "elf": many, "aligned": off, "full-data": off}
    return {
        "description": "many jobs",
        "methods": METHODS,
        "experiments": ["table01", "table05"],
        "seeds": seeds,
        "seeds_per_job": 1,
        "changes": {"table01": {"blocks": table01}, "table05": {"blocks": table05}},
    }


# In between, because a process counts the memory of the one that it was started from as its own.
WATCHER = """
import json, os, sys, time
started = time.perf_counter()
child = os.posix_spawn(sys.executable, [sys.executable, *sys.argv[2:]], os.environ)
_, status, usage = os.wait4(child, 0)
found = {"wall_seconds": time.perf_counter() - started, "cpu_seconds": usage.ru_utime + usage.ru_stime}
with open(sys.argv[1], "w") as file:
    json.dump(found | {"peak_bytes": usage.ru_maxrss * 1024}, file)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def measure(folder: Path, *arguments: str) -> tuple[dict[str, float], str]:
    """Run a command; return its seconds and its peak of resident memory, and what it printed."""
    environment = os.environ | {"ELF_DATA_DIR": str(folder / "data"), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder)}
    usage = folder / "usage.json"
    command = [sys.executable, "-S", "-c", WATCHER, str(usage), *arguments]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{ended.stdout[-3000:]}{ended.stderr[-3000:]}")
    return json.loads(usage.read_text(encoding="utf-8")), ended.stdout


def rows_of(folder: Path) -> list[dict]:
    """Measure one graph: the dry run of all, that of one evaluation, the plan within them, and ``elf plan``."""
    seconds, evaluation = measure(folder, "-c", PLANNING)[1].split()
    found, text = measure(folder, *SNAKEMAKE)
    total = int(re.search(r"^total +(\d+)", text, re.MULTILINE).group(1))
    one, _ = measure(folder, *SNAKEMAKE, f"results/large/{evaluation}")
    plan, _ = measure(folder, "-m", "elf", "plan", "--scale", "large")
    rows = {"dry run": found, "dry run of one evaluation": one, "make_plan": {"cpu_seconds": float(seconds)}}
    return [{"jobs": total, "what": what} | values for what, values in (rows | {"elf plan": plan}).items()]


def machine() -> dict[str, str]:
    """Return where it is measured."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    where = f"{os.cpu_count()} cores of {names[0] if names else platform.machine()}"
    return {"where": where, "python": platform.python_version(), "snakemake": version("snakemake")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=PROJECT / "docs/results/scaling", help="where to write")
    parser.add_argument("--document", type=Path, default=PROJECT / "docs/scaling.md", help="whose tables to replace")
    arguments = parser.parse_args()
    rows = []
    for networks, seeds in SIZES:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            copy_of_the_project(folder)
            (folder / "config/scales/large.yaml").write_text(yaml.safe_dump(scale(networks, seeds)), encoding="utf-8")
            for _ in range(REPEATS):
                rows += [{"networks": networks, "seeds": seeds} | row | machine() for row in rows_of(folder)]
                print(rows[-4], flush=True)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(arguments.folder / "graph.csv", index=False, float_format="%.6g")
    fill(arguments.document, arguments.folder)


if __name__ == "__main__":
    main()

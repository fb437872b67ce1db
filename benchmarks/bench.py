"""Compare the project with the published scripts' way of doing the same work, and write one table.

Each case runs in processes of its own: the plain side in one with all threads, ours in one process a core with one
thread each, as the workflow runs its jobs. Both sides take turns; a ratio is the throughput of the machine with ours
over that with the plain side within one turn, and the table has the median of the turns.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import torch

from benchmarks.cases import CASES, Case
from benchmarks.publishing import publish
from elf.machine.device import DEVICES, pick_device

ROOT = Path(__file__).resolve().parents[1]
TURNS = 5
CORES = len(os.sched_getaffinity(0))
UNITS_ON_GPU = {"pass": 300, "epoch": 20, "step": 10}
"""How many are timed at once there, by what they are."""


class Workers:
    """The processes of one side of a case, ready to work."""

    def __init__(self, case: str, side: str, device: str, processes: int, threads: int) -> None:
        command = [sys.executable, "-m", "benchmarks.worker", case, side, "--threads", str(threads), "--device", device]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT, "env": environment}
        self.processes = [subprocess.Popen(command, **pipes) for _ in range(processes)]
        for process in self.processes:
            self._answer(process)

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.stdin.close()
            process.wait()

    def work(self, units: int) -> tuple[float, list[dict]]:
        """Let every process do some units; return the seconds until the last is done, and their answers."""
        began = time.perf_counter()
        for process in self.processes:
            process.stdin.write(f"work {units}\n")
            process.stdin.flush()
        answers = [self._answer(process) for process in self.processes]
        return time.perf_counter() - began, answers

    def profile(self) -> dict[str, float]:
        """Let one process do a unit while it counts and measures its convolutions."""
        self.processes[0].stdin.write("profile 1\n")
        self.processes[0].stdin.flush()
        return self._answer(self.processes[0])

    def _answer(self, process: subprocess.Popen) -> dict:
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"a worker of the benchmark ended early: {' '.join(process.args)}")
        return json.loads(line)


def matmul_flops_per_second(device: str) -> float:
    """Return the best rate of float32 matrix multiplication that one thread, or a GPU, reaches."""
    torch.set_num_threads(1)
    best = 0.0
    for size in (1024, 2048) if device == "cpu" else (8192,):
        one, other = (torch.randn(size, size, device=device) for _ in range(2))
        for _ in range(5):
            began = time.perf_counter()
            # To read a number of the product is to wait for it.
            (one @ other)[0, 0].item()
            best = max(best, 2 * size**3 / (time.perf_counter() - began))
    return best


def measure(case: Case, turns: int, device: str) -> dict[str, object]:
    """Return one line of the table."""
    # A GPU has one job at a time.
    processes = CORES if device == "cpu" else 1
    units = case.units if device == "cpu" else UNITS_ON_GPU[case.unit]
    plain, ours = Workers(case.name, "plain", device, 1, CORES), Workers(case.name, "ours", device, processes, 1)
    with plain, ours:
        seconds = []
        for turn in range(turns):
            sides = [("plain", plain), ("ours", ours)]
            found = {}
            # Who goes first changes, so that a machine that slows down is fair to both.
            for side, workers in sides if turn % 2 == 0 else reversed(sides):
                elapsed, answers = workers.work(units)
                each = elapsed / units / len(workers.processes)
                found[side] = (each, max(answer["peak_bytes"] for answer in answers))
            seconds.append((*found["plain"], *found["ours"]))
        profile = ours.profile()
    rate = matmul_flops_per_second(device)
    ratios = [line[0] / line[2] for line in seconds]
    return {
        "case": case.name,
        "unit": case.unit,
        "plain_seconds": statistics.median(line[0] for line in seconds),
        "our_seconds": statistics.median(line[2] for line in seconds),
        "ratio": statistics.median(ratios),
        "lowest_ratio": min(ratios),
        "highest_ratio": max(ratios),
        "goal": case.goal,
        "plain_peak_bytes": seconds[-1][1],
        "our_peak_bytes": seconds[-1][3],
        "product_share_of_time": profile["product_seconds"] / profile["seconds"],
        "product_share_of_matmul_rate": profile["product_flops"] / profile["product_seconds"] / rate,
        "largest_possible_ratio": statistics.median(
            line[0] / (profile["product_seconds"] / processes) for line in seconds
        ),
        "matmul_flops_per_second": rate,
    }


ON_GPU = "python -m benchmarks.bench --device cuda"
FILES = {"cpu": ("README.md", "ratios.parquet"), "cuda": ("ratios_on_gpu.md", "ratios_on_gpu.parquet")}

HEAD = """# Speed beside the published scripts' way

{machine}
multiplies matrices in float32 at {rate:,.0f} GFLOP/s.

A ratio is the throughput of the whole machine: {ours}, the plain side with
one process of all threads, in turns; median of {turns} turns (lowest to highest). The plain side does the same
work from the same weights and random draws as the published scripts do it (`benchmarks/plain/`); a test checks that
both come out equal. Seconds are for one unit. Memory is the peak of one process above what it had after its imports.

The last three columns say what there is to gain: how much of our time products take (convolutions and those of
matrices), at which share of the rate of matrix multiplication they run, and the ratio if everything else took no time.
Where that is below the goal, the goal is out of reach on such a machine with exact convolutions.

"""

COLUMNS = {
    "": lambda line: line["case"],
    "unit": lambda line: line["unit"],
    "plain (s)": lambda line: f"{line['plain_seconds']:.3f}",
    "ours (s)": lambda line: f"{line['our_seconds']:.3f}",
    "ratio": lambda line: f"{line['ratio']:.2f} ({line['lowest_ratio']:.2f} to {line['highest_ratio']:.2f})",
    "goal": lambda line: "" if pd.isna(line["goal"]) else f"{line['goal']:g}",
    "plain (MB)": lambda line: f"{line['plain_peak_bytes'] / 1e6:.0f}",
    "ours (MB)": lambda line: f"{line['our_peak_bytes'] / 1e6:.0f}",
    "products": lambda line: f"{line['product_share_of_time']:.0%}",
    "of matmul rate": lambda line: f"{line['product_share_of_matmul_rate']:.0%}",
    "at most": lambda line: f"{line['largest_possible_ratio']:.2f}",
}


def document(lines: pd.DataFrame, turns: int, device: str = "cpu") -> str:
    """Return the table with its explanation, as Markdown."""
    machine = f"Made by `make bench`. {CORES} cores ({platform.machine()}), PyTorch {torch.__version__}. One thread"
    ours = "ours with one process of one thread on each core"
    if device != "cpu":
        machine = f"Made by `{ON_GPU}`. {torch.cuda.get_device_name()}, PyTorch {torch.__version__}. It"
        ours = "ours with one process of one thread"
    rate = lines["matmul_flops_per_second"].max() / 1e9
    head = HEAD.format(machine=machine, ours=ours, rate=rate, turns=turns)
    rows = [[text(line) for text in COLUMNS.values()] for _, line in lines.iterrows()]
    table = [list(COLUMNS), ["---", "---", *["---:"] * (len(COLUMNS) - 2)], *rows]
    return head + "\n".join(f"| {' | '.join(cells)} |" for cells in table) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("cases", nargs="*", choices=[[], *CASES], help="default: all")
    parser.add_argument("--device", choices=DEVICES, default="cpu")
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--folder", type=Path, help="where to write the table (default: only print)")
    arguments = parser.parse_args()
    device = pick_device(arguments.device).type
    lines = []
    for name in arguments.cases or CASES:
        lines.append(measure(CASES[name], arguments.turns, device))
        print(f"{name}: {lines[-1]['ratio']:.2f}", file=sys.stderr, flush=True)
    frame = pd.DataFrame(lines)
    publish(document(frame, arguments.turns, device), frame, arguments.folder, *FILES[device])


if __name__ == "__main__":
    main()

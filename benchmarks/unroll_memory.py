"""Measure the memory that one update of MTT and TESLA needs, against the number of synthetic steps.

Each process makes one update with ten random images for each of ten classes; a number is the median of some, because
how the allocator arranges the memory varies from one to the next.

    .venv/bin/python benchmarks/unroll_memory.py --out docs/results/unroll_memory
"""

import argparse
import csv
import importlib
import json
import statistics
import subprocess
import sys
from pathlib import Path

import psutil
import torch

from elf.artifacts.files import write_text
from elf.distillation.shared.synthetic import RealImages
from elf.machine import device as devices
from elf.networks.building import build_network
from elf.networks.flat import flatten

SIDE, CLASSES, IPC = 32, 10, 10
WAYS = {
    "MTT, unrolled": ("mtt", {"gradient": "unrolled"}),
    "MTT, constant memory": ("mtt", {"gradient": "constant-memory"}),
    "TESLA, soft labels": ("tesla", {"soft_labels": True, "pixel_step": "derivative"}),
}
SETTINGS = {
    "iterations": 0,  # index of the last update
    "expert_epochs": 1,
    "max_start_epoch": 1,
    "batch_syn": 0,
    "lr_img": 1000.0,
    "lr_lr": 1e-5,
    "lr_teacher": 0.01,
    "momentum": 0.5,
    "experts": 1,
    "augmentation": "color_crop_cutout_flip_scale_rotate",
    "align_corners": True,
}
MIB = 2**20


class RandomExperts:
    """Two random snapshots; notes the memory in use whenever one is read, which is last before the first step."""

    epochs = (0, 1)

    def __init__(self, network: str, device: torch.device) -> None:
        self._device = device
        self._snapshots = [
            flatten(build_network(network, classes=CLASSES, side=SIDE, generator=torch.Generator().manual_seed(seed)))
            for seed in self.epochs
        ]
        self.baseline = 0

    def __len__(self) -> int:
        return 1

    def snapshot(self, index: int, epoch: int, device: torch.device) -> torch.Tensor:
        snapshot = self._snapshots[epoch].to(device, copy=True)
        self.baseline = memory_in_use(self._device)
        return snapshot


def memory_in_use(device: torch.device) -> int:
    """Return bytes of tensors on a GPU, else of the resident process."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss


def measure(way: str, steps: int, network: str, device: torch.device) -> dict:
    """Make one update in this process and return what it needed, in MiB."""
    module, changes = WAYS[way]
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(CLASSES * IPC, 3, SIDE, SIDE, generator=generator).to(device)
    labels = torch.arange(CLASSES).repeat_interleave(IPC)
    experts = RandomExperts(network, device)
    importlib.import_module(f"elf.distillation.{module}").distill(
        RealImages(images, labels, CLASSES),
        settings=SETTINGS | changes | {"synthetic_steps": steps},
        ipc=IPC,
        network=network,
        seed=0,
        experts=experts,
        progress=lambda *_: None,
    )
    peak = devices.peak_memory_bytes(device)
    above = max(0, peak - experts.baseline)
    return {"way": way, "steps": steps, "above_baseline": round(above / MIB), "peak": round(peak / MIB)}


def table(rows: list[dict], all_steps: list[int], caption: str) -> str:
    """Return the measurements as Markdown."""
    found = {(row["way"], row["steps"]): row for row in rows}
    head = ["MiB above the state before the first step (MiB in all)", *(f"{steps} steps" for steps in all_steps)]
    lines = [head, ["---", *["---:"] * len(all_steps)]]
    for way in WAYS:
        cells = [f"{found[way, s]['above_baseline']:,} ({found[way, s]['peak']:,})" for s in all_steps]
        lines.append([way, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{caption}\n"


def plot(rows: list[dict], file: Path) -> None:
    """Draw the memory above the baseline."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 3.2), layout="constrained")
    for way, line in zip(WAYS, ("o-", "s-", "^--"), strict=True):
        own = [row for row in rows if row["way"] == way]
        axes.plot([row["steps"] for row in own], [row["above_baseline"] / 1024 for row in own], line, label=way)
    axes.set(xlabel="synthetic steps", ylabel="memory of an update (GiB)", ylim=(0, None))
    axes.legend(frameon=False)
    figure.savefig(file, dpi=150, metadata={"Software": None})


def _run(told: list[str]) -> dict:
    ended = subprocess.run([sys.executable, __file__, *told], check=True, capture_output=True, text=True)
    return json.loads(ended.stdout.splitlines()[-1])


def main() -> None:
    """Measure every way with every number of steps, or one of them in this process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="convnet-w128-d3-in")
    parser.add_argument("--steps", nargs="+", type=int, default=[5, 10, 20, 40])
    parser.add_argument("--device", choices=devices.DEVICES, default="cpu")
    parser.add_argument("--out", type=Path, default=Path("docs/results/unroll_memory"), help="folder to write to")
    parser.add_argument("--repeats", type=int, default=3, help="processes for each number")
    parser.add_argument("--way", choices=WAYS, help="measure this alone, with the first of the steps, and print it")
    arguments = parser.parse_args()
    device = devices.pick_device(arguments.device)
    devices.prepare(1, device)
    if arguments.way:
        print(json.dumps(measure(arguments.way, arguments.steps[0], arguments.network, device)))
        return
    rows = []
    for steps in arguments.steps:
        for way in WAYS:
            told = ["--network", arguments.network, "--device", device.type, "--way", way, "--steps", str(steps)]
            runs = [_run(told) for _ in range(arguments.repeats)]
            median = {key: statistics.median(run[key] for run in runs) for key in ("above_baseline", "peak")}
            rows.append({"way": way, "steps": steps} | {key: round(value) for key, value in median.items()})
            print(rows[-1], runs, flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    with (arguments.out / "memory.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    where = f"{arguments.network}, {SIDE}x{SIDE} pixels, {CLASSES} classes, {IPC} images per class, all in every step"
    caption = (
        f"{where}; {devices.describe(device)}, PyTorch {torch.__version__}; median of {arguments.repeats} processes."
    )
    write_text(arguments.out / "memory.md", table(rows, arguments.steps, caption))
    plot(rows, arguments.out / "memory.png")


if __name__ == "__main__":
    main()

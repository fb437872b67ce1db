"""How time and memory grow with the size of the work, each point in a process of its own."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks import cases
from benchmarks.cases import Size
from benchmarks.publishing import publish
from benchmarks.worker import resident_bytes
from elf.data.normalised import NormalisedImages
from elf.data.preprocessing import CONSTANTS, Normalisation
from elf.distillation import dm, mtt, tesla
from elf.machine import device
from elf.machine.memory import peak_resident_bytes
from elf.machine.randomness import generator
from elf.networks.building import build_network
from elf.training.protocol import train

ROOT = Path(__file__).resolve().parents[1]
SMALL = Size(network="convnet-w32-d3-in", per_class=50)


def evaluation(ipc: int) -> Callable[[], object]:
    return partial(cases.evaluation(replace(SMALL, ipc=ipc)), 2)


def width(channels: int) -> Callable[[], object]:
    return partial(cases.evaluation(replace(SMALL, network=f"convnet-w{channels}-d3-in", ipc=10)), 2)


def seeds(count: int) -> Callable[[], object]:
    def run() -> None:
        for _ in range(count):
            cases.evaluation(replace(SMALL, ipc=10))(2)

    return run


def dm_classes(classes: int) -> Callable[[], object]:
    size = replace(SMALL, classes=classes, per_class=8, batch_real=8, ipc=1)
    return partial(cases.distilling(size, dm, cases.MATCHING | cases.PIXELS), 1)


def unrolled_steps(steps: int) -> Callable[[], object]:
    return partial(cases.trajectories(replace(SMALL, steps=steps), mtt, {"gradient": "unrolled"}), 1)


def tesla_steps(steps: int) -> Callable[[], object]:
    return partial(
        cases.trajectories(replace(SMALL, steps=steps), tesla, {"soft_labels": False, "pixel_step": "derivative"}), 1
    )


class Enough(Exception):
    """A training has made the steps that were wanted."""


class StopAfter:
    """Stands where a checkpoint stands, and ends the training after some steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def load(self) -> None:
        return None

    def save_if_due(self, make_state: Callable) -> None:
        self.left -= 1
        if not self.left:
            raise Enough


def mapped_images(count: int) -> Callable[[], object]:
    """Return four steps of a ConvNet with images of ImageNet's downsampled size in a mapped file, which is sparse."""
    with tempfile.TemporaryFile() as file:
        pixels = np.memmap(file, np.uint8, "w+", shape=(count, 3, 64, 64))
    images = NormalisedImages(torch.from_numpy(pixels), Normalisation(*CONSTANTS["imagenet"]), torch.device("cpu"))
    labels = torch.arange(count) % 1000
    network = build_network("convnet-w32-d4-in", classes=1000, side=64, generator=generator(0, "network"))

    def run() -> None:
        streams = {"order_generator": generator(0, "order"), "augmentation_generator": generator(0, "augmentation")}
        with suppress(Enough):
            train(network, images, labels, cases.recipe(1), checkpoint=StopAfter(4), **streams)

    return run


@dataclass(frozen=True)
class Curve:
    """What is varied, over which values, and how time and memory should grow: as powers of it, and why."""

    what: str
    make: Callable[[int], Callable[[], object]]
    values: tuple[int, ...]
    time: str
    memory: str
    why: str


CURVES = {
    "ipc": Curve(
        "evaluation pass, images per class",
        evaluation,
        (1, 5, 25, 50),
        "1",
        "1 up to a batch of 256 images, then 0",
        "each image costs the same; the activations of one batch are held",
    ),
    "width": Curve(
        "evaluation pass, width of the network",
        width,
        (32, 64, 128, 256),
        "1 while maps are most of the work, 2 when products are",
        "1, 2 for parameters",
        "maps grow with the width, products of convolutions with its square",
    ),
    "seeds": Curve("evaluation, seeds one by one", seeds, (1, 2, 4, 8), "1", "0", "one network after the other"),
    "classes": Curve(
        "DM step, classes",
        dm_classes,
        (10, 100, 1000),
        "1",
        "below 1",
        "real images come in portions; the dataset of 8 images a class and one synthetic image of each are held",
    ),
    "mtt steps": Curve(
        "MTT step, synthetic steps", unrolled_steps, (5, 10, 20), "1", "1", "the graph of every step is held"
    ),
    "tesla steps": Curve("TESLA step, synthetic steps", tesla_steps, (10, 20, 40), "1", "0", "one graph at a time"),
    "mapped images": Curve(
        "four training steps of 256, images in the dataset",
        mapped_images,
        (10_000, 100_000, 1_281_167),
        "0 once the file has been read",
        "0",
        "of the dataset only labels and one permutation are held, 16 bytes an image; the time is that of the first "
        "reading of random places of a file",
    ),
}


def point(name: str, value: int) -> dict[str, float]:
    """Measure one point in this process: median seconds of three runs, and the peak above what imports take."""
    device.prepare(1, torch.device("cpu"))
    torch.nn.functional.conv2d(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 3, 3))
    before = resident_bytes()
    seconds = []
    for _ in range(3):
        run = CURVES[name].make(value)
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return {"curve": name, "value": value, "seconds": sorted(seconds)[1], "peak_bytes": peak_resident_bytes() - before}


def exponent(values: pd.Series, costs: pd.Series) -> float:
    """Return the slope of the straight line through the last points in double-logarithmic scale."""
    last = slice(-3, None)
    return float(np.polyfit(np.log(values.iloc[last]), np.log(costs.iloc[last]), 1)[0])


def document(points: pd.DataFrame) -> str:
    """Return the curves and their exponents as Markdown."""
    lines = ["# How cost grows", "", "Made by `python -m benchmarks.cost_growth`, one thread; ConvNets of width 32."]
    lines += [
        "Exponents are those of the last three points; expected ones hold for large values, where fixed costs vanish."
    ]
    lines += ["", "| | values | seconds | peak (MB) | time grows with power | memory grows with power | why |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for name, curve in CURVES.items():
        own = points[points["curve"] == name].sort_values("value")
        cells = [curve.what, ", ".join(f"{value:,}" for value in own["value"])]
        cells += [", ".join(f"{value:.2f}" for value in own["seconds"])]
        cells += [", ".join(f"{value / 1e6:.0f}" for value in own["peak_bytes"])]
        cells += [f"{exponent(own['value'], own['seconds']):.2f} (expected {curve.time})"]
        cells += [f"{exponent(own['value'], own['peak_bytes']):.2f} (expected {curve.memory})", curve.why]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--point", nargs=2, metavar=("CURVE", "VALUE"), help="measure one point and print it as JSON")
    parser.add_argument("--folder", type=Path, help="where to write growth.md and growth.parquet")
    arguments = parser.parse_args()
    if arguments.point:
        print(json.dumps(point(arguments.point[0], int(arguments.point[1]))))
        return
    points = []
    for name, curve in CURVES.items():
        for value in curve.values:
            command = [sys.executable, "-m", "benchmarks.cost_growth", "--point", name, str(value)]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True)
            points.append(json.loads(done.stdout.splitlines()[-1]))
            print(points[-1], file=sys.stderr, flush=True)
    frame = pd.DataFrame(points)
    publish(document(frame), frame, arguments.folder, "growth.md", "growth.parquet")


if __name__ == "__main__":
    main()

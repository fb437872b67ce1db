"""Time a step of an evaluation on a GPU as usual, replayed, and for five networks at once."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch

from benchmarks.cases import Size, recipe
from benchmarks.publishing import publish
from elf.machine import device as devices
from elf.machine.randomness import generator
from elf.objectives import elf
from elf.specs.network import feature_shape
from elf.training import protocol as training
from elf.training import seeds_at_once as seed_batched

CASES = [("convnet-w128-d3-in", images) for images in (10, 20, 50, 100, 250)]
CASES += [("convnet-w128-d3-bn", 100), ("resnet18-in", 10), ("resnet18-in", 100), ("vgg11-in", 10), ("vgg11-in", 100)]
SEEDS = 5
PASSES = 40
WAYS = {"as usual": (False, 1), "replayed": (True, 1), f"replayed, {SEEDS} at once": (True, SEEDS)}
"""By name: whether steps are replayed, and how many networks learn at once."""


def training_of(size: Size, seeds: int) -> Callable[[int], None]:
    """Return a training of some passes, one step each, with the ELF loss."""
    images, labels = size.synthetic()
    shape = (len(images), *feature_shape(size.network, 32))
    features = torch.rand(shape, generator=generator(0, "features")).to(size.device)
    given = {"images": images, "labels": labels, "objective": elf.loss, "targets": features}

    def run(passes: int) -> None:
        networks = [size.network_of_the_project(seed) for seed in range(seeds)]
        orders, augmentations = ([generator(seed, name) for seed in range(seeds)] for name in ("order", "augmentation"))
        if seeds == 1:
            streams = {"order_generator": orders[0], "augmentation_generator": augmentations[0]}
            training.train(networks[0], recipe=recipe(passes), **given, **streams)
        else:
            streams = {"order_generators": orders, "augmentation_generators": augmentations}
            seed_batched.train(networks, recipe=recipe(passes), seeds=range(seeds), **given, **streams)

    return run


def seconds_per_step(run: Callable[[int], None], device: torch.device, passes: int) -> float:
    """Return what one more pass takes once the first ones are over, which load libraries and are captured."""

    def seconds(passes: int) -> float:
        began = time.perf_counter()
        run(passes)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - began

    # Until a step is replayed it is made as usual some twenty times.
    first = 30
    run(first)
    return (seconds(first + passes) - seconds(first)) / passes


def measure(network: str, images: int, device: torch.device, passes: int = PASSES) -> dict[str, object]:
    """Return one line of the table."""
    size = Size(network=network, ipc=images // 10, device=device)
    line: dict[str, object] = {"network": network, "images": images}
    for way, (replays, seeds) in WAYS.items():
        devices.replays_steps = lambda device, replays=replays: replays and device.type == "cuda"
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        line[f"{way} (ms)"] = 1e3 * seconds_per_step(training_of(size, seeds), device, passes) / seeds
        line[f"{way} (MB)"] = devices.peak_memory_bytes(device) / 1e6
    return line


def document(lines: pd.DataFrame, device: torch.device) -> str:
    """Return the table as Markdown."""
    head = f"# A step of an evaluation\n\nMade by `python -m benchmarks.steps_on_gpu`: {devices.describe(device)}, "
    head += f"PyTorch {torch.__version__}, float32. Milliseconds are for one step of one network, without start-up.\n\n"
    return head + lines.round(2).to_markdown(index=False) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=devices.DEVICES, default="cuda")
    parser.add_argument("--folder", type=Path, help="where to write the table (default: only print)")
    arguments = parser.parse_args()
    device = devices.pick_device(arguments.device)
    devices.prepare(1, device)
    lines = pd.DataFrame([measure(network, images, device) for network, images in CASES])
    publish(document(lines, device), lines, arguments.folder, "steps_on_gpu.md", "steps_on_gpu.parquet")


if __name__ == "__main__":
    main()

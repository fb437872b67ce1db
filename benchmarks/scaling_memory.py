"""How much GPU memory the unrolled trajectories of the paper need, extrapolated from one that was measured."""

from pathlib import Path

import numpy as np
import pandas as pd
from scaling_jobs import Paper

from elf.specs.network import parse

# What docs/results/unroll_memory/memory.csv was measured with: benchmarks/unroll_memory.py.
MEASURED = {"network": "convnet-w128-d3-in", "side": 32, "images": 100}
WAY = "MTT, unrolled"
MIB = 2**20


def activations(network: str, side: int) -> int:
    """Return the numbers that the convolutions of a ConvNet give for one image: they are what an unroll keeps."""
    name = parse(network)
    return sum(name.width * (side >> block) ** 2 for block in range(name.depth))


def unrolled(paper: Paper, memory: Path) -> pd.DataFrame:
    """Return the memory of each distillation that unrolls a student.

    The measured memory grows by the same amount with every step. That amount is taken to be proportional to the images
    of a step and to the activations of an image; what does not grow with the steps is left out.

    Parameters
    ----------
    paper : Paper
    memory : Path
        Measured MiB by number of steps.
    """
    found = pd.read_csv(memory)
    found = found[found["way"] == WAY]
    mib_a_step = np.polyfit(found["steps"], found["above_baseline"], 1)[0]
    of_a_number = mib_a_step * MIB / (MEASURED["images"] * activations(MEASURED["network"], MEASURED["side"]))
    rows = []
    for path, job in paper.jobs.items():
        if job.kind != "synthetic sets" or job.spec.recipe.get("gradient") != "unrolled":
            continue
        sizes = paper.around.sizes_for(job.spec)
        images = sizes.classes * job.spec.ipc
        images_a_step = min(int(job.spec.recipe["batch_syn"]) or images, images)
        steps = int(job.spec.recipe["synthetic_steps"])
        bytes_ = of_a_number * steps * images_a_step * activations(job.spec.network, sizes.side)
        rows.append({"job": path, "steps": steps, "images_a_step": images_a_step, "gigabytes": bytes_ / 1e9})
    return pd.DataFrame(rows).sort_values("gigabytes", ascending=False)

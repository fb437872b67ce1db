"""Measure how well the statistics of a set of images tell normalised from whitened ones (docs/importing.md).

Random subsets of real images, in each space: the range of the correlation of neighbouring pixels and of the standard
deviation, and how often the import would take one space for the other or refuse.

    .venv/bin/python benchmarks/pixel_spaces.py data/cifar10 --images 10
"""

import argparse
from pathlib import Path

import torch

from elf.data.preprocessing import CONSTANTS, Normalisation, fit_frepo_zca, fit_zca
from elf.data.sources import parquet
from elf.errors import ElfError
from elf.importing import spaces


def main() -> None:
    """Print one line for each space."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path, help="folder with train-*.parquet and test-*.parquet of 32x32 images")
    parser.add_argument("--images", type=int, default=10, help="images of a subset (default: 10)")
    parser.add_argument("--subsets", type=int, default=1000, help="default: 1000")
    parser.add_argument(
        "--fitted-on", type=int, default=5000, help="images that whitening is fitted on (default: 5000)"
    )
    arguments = parser.parse_args()
    images = parquet.read(arguments.dataset, name=arguments.dataset.name, side=32).train.images
    generator = torch.Generator().manual_seed(0)
    images = images[torch.randperm(len(images), generator=generator)[: arguments.fitted_on]]
    transforms = {
        "normalised": Normalisation(*CONSTANTS["cifar"]),
        "whitened (MTT)": fit_zca(images),
        "whitened (FrePo)": fit_frepo_zca(images, Normalisation(*CONSTANTS["frepo-cifar10"])),
    }
    print("| space | correlation | standard deviation | taken for the other | refused |\n|---|---|---|---:|---:|")
    for name, transform in transforms.items():
        values = transform.transform(images)
        correlations, spreads, wrong, refused = [], [], 0, 0
        for _ in range(arguments.subsets):
            subset = values[torch.randperm(len(values), generator=generator)[: arguments.images]]
            correlations.append(spaces.neighbour_correlation(subset))
            spreads.append(float((subset - subset.mean((0, 2, 3), keepdim=True)).pow(2).mean().sqrt()))
            try:
                found = spaces.by_statistics(subset, None, None).name
                wrong += (found == "zca") == (name == "normalised")
            except ElfError:
                refused += 1
        ranges = [f"{min(values):.2f} to {max(values):.2f}" for values in (correlations, spreads)]
        print(f"| {name} | {' | '.join(ranges)} | {wrong} | {refused} |")


if __name__ == "__main__":
    main()

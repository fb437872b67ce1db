"""Whether torchvision has the networks of a grid, and can split them; asked in another process, which loads PyTorch."""

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from elf.errors import ElfError
from elf.specs.network import feature_shape, parse

if TYPE_CHECKING:
    from elf.study.grid import Grid

Wanted = tuple[str, int, tuple[int, int, int] | None]


def torchvision_networks(grid: "Grid") -> list[Wanted]:
    """Return torchvision's networks of a grid, each with the side of its images and the map that it is split at."""
    sides = {spec.name: spec.side for spec in grid.datasets.values()}
    trained = [*grid.experts.values(), *grid.synthetic_sets.values(), *grid.teachers.values()]
    wanted: dict[Wanted, None] = {(spec.network, sides[spec.dataset], None): None for spec in trained if spec.network}
    for spec in grid.evaluations.values():
        side = sides[spec.dataset]
        needed = feature_shape(spec.teacher_network, side) if spec.objective.about.NEEDS == "features" else None
        wanted[spec.network, side, needed] = None
    return [one for one in wanted if parse(one[0]).family == "torchvision"]


def check_networks(grid: "Grid") -> None:
    """Raise an error if a network of torchvision's in a grid does not exist or does not fit its images.

    Raises
    ------
    ElfError
        One line, about the first that cannot be built.
    """
    wanted = torchvision_networks(grid)
    if not wanted:
        return
    command = [sys.executable, "-m", "elf.networks.checking", json.dumps(wanted)]
    asked = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    if asked.returncode:
        last = (asked.stderr.strip().splitlines() or ["no message"])[-1]
        raise ElfError(f"torchvision's networks could not be looked at ({last}); check the environment")
    problem = next((problem for problem in json.loads(asked.stdout) if problem), None)
    if problem:
        raise ElfError(f"eval_network: {problem}")

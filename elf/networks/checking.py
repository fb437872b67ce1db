"""Whether torchvision's networks fit the images that they are to see; run as a program before any job starts."""

import json
import sys

import torch

from elf.errors import ElfError
from elf.networks.torchvision_models import cut_for, traced
from elf.specs.network import NetworkName, parse


def problem(name: str, side: int, feature_shape: tuple[int, int, int] | None) -> str | None:
    """Return why one of torchvision's networks cannot be used, in one line; None if it can.

    Nothing is computed: the network has shapes, but no values.

    Parameters
    ----------
    name : str
    side : int
        Height and width of the images in pixels.
    feature_shape : tuple of int or None
        Of the teacher's features, if the objective needs them.
    """
    try:
        network = _without_values(parse(name))
        with torch.device("meta"):
            cut_for(parse(name), network, side, feature_shape)
    except ElfError as error:
        return str(error)
    return None


def _without_values(name: NetworkName) -> torch.fx.GraphModule:
    try:
        with torch.device("meta"):
            return traced(name, 10)
    except (NotImplementedError, RuntimeError):
        # Some constructors compute with tensors.
        return traced(name, 10).to("meta")


if __name__ == "__main__":
    print(json.dumps([problem(*wanted) for wanted in json.loads(sys.argv[1])]))

"""VGG11 with a linear head for small images and a three-layer head for large ones (official code of ELF)."""

from torch import nn

from elf.networks.convolution import Convolution
from elf.networks.split import SplitNetwork, normalisation
from elf.specs.network import LARGE_SIDE, NetworkName, feature_shape

POOL = "pool"
FRONT_SMALL = [1, POOL, 2, POOL, 4, 4, POOL, 8]
FRONT_LARGE = [*FRONT_SMALL, 8, POOL]
"""Layers of the front: convolution blocks as multiples of the base width, and 2x2 maximum pools."""
REAR_SMALL = [8, POOL, 8, 8, POOL]
REAR_LARGE = [8, 8, POOL]


def build(name: NetworkName, *, classes: int, side: int) -> SplitNetwork:
    """Return a VGG11 split where its map fits a ConvNet's.

    Below a side of 64 the front ends after the fifth convolution, from 64 on after the sixth and its pool.

    Parameters
    ----------
    name : NetworkName
        Of the family ``"vgg11"``. The hidden layers of the large head have 64 times the base width.
    classes : int
        Number of logits.
    side : int
        Height and width of the images in pixels.

    Raises
    ------
    ElfError
        If the images are too small for the five pools.
    """
    feature_shape(name, side)
    large = side >= LARGE_SIDE
    base, norm = name.width, name.norm
    front = _layers(FRONT_LARGE if large else FRONT_SMALL, 3, base, norm)
    rear = _layers(REAR_LARGE if large else REAR_SMALL, 8 * base, base, norm)
    flat = 8 * base * (side // 32) ** 2
    head = _large_head(flat, 64 * base, classes) if large else [nn.Linear(flat, classes)]
    return SplitNetwork(nn.Sequential(*front), nn.Sequential(*rear, nn.Flatten(), *head))


def _layers(plan: list[int | str], channels_in: int, base: int, norm: str) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for entry in plan:
        if entry == POOL:
            layers.append(nn.MaxPool2d(2))
            continue
        channels = entry * base
        layers += [
            Convolution(channels_in, channels),
            *normalisation(norm, channels, relu=True),
        ]
        channels_in = channels
    return layers


def _large_head(flat: int, hidden: int, classes: int) -> list[nn.Module]:
    return [
        nn.Linear(flat, hidden),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Linear(hidden, hidden),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Linear(hidden, classes),
    ]

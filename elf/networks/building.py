"""From a network's name to the network, ready to train."""

import importlib

import torch

from elf.errors import ElfError
from elf.networks.split import SplitNetwork, initialise
from elf.specs import network as names


def build_network(
    name: str,
    *,
    classes: int,
    side: int,
    generator: torch.Generator,
    feature_shape: tuple[int, int, int] | None = None,
) -> SplitNetwork:
    """Build a network and draw its weights; it is on the CPU and in training mode.

    The family's module is imported only now, so that what one family depends on does not depend on the
    others, and torchvision is loaded only for its own networks.

    Parameters
    ----------
    name : str
        See :func:`elf.specs.network.parse`.
    classes : int
        Number of logits.
    side : int
        Height and width of the images in pixels.
    generator : torch.Generator
        On the CPU; draws the weights.
    feature_shape : tuple of int, optional
        Channels, height and width of the teacher's features. Says where a torchvision network is split;
        for the others, whose split is fixed, it is checked.

    Raises
    ------
    ElfError
        If the name is unknown, the images are too small, or no split gives the wanted map.
    """
    network_name = names.parse(name)
    family = importlib.import_module(network_name.module)
    own_shape = names.feature_shape(network_name, side)
    if own_shape is None:
        return family.build(network_name, classes=classes, side=side, feature_shape=feature_shape, generator=generator)
    if feature_shape is not None and tuple(feature_shape) != own_shape:
        wanted, own = ("x".join(map(str, shape)) for shape in (feature_shape, own_shape))
        raise ElfError(
            f"{name} on images of side {side} has a {own} feature map, but the teacher's is {wanted}; "
            f"choose a teacher with the same map, such as {names.matching_teacher(network_name, side)}"
        )
    # PyTorch's layers draw their first weights from the global state, which must not move.
    with torch.random.fork_rng(devices=[]):
        network = family.build(network_name, classes=classes, side=side)
    initialise(network, generator)
    return network

"""A network in two parts, its normalisation layers, and its random initialisation."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn

from elf.errors import ElfError
from elf.machine.device import to_device
from elf.networks.instance_norm import POOL, InstanceNorm


class SplitNetwork(nn.Module):
    """A network that is a front followed by a rear (paper Eq. 5).

    The two parts share no parameter, and the parameters of the whole are those of the front, then those of
    the rear, each in the order of the forward pass: a flat parameter vector fits the unsplit network too.

    Parameters
    ----------
    front : nn.Module
        From images (n, 3, side, side) to a feature map (n, C, H, W).
    rear : nn.Module
        From the feature map to logits (n, classes).
    """

    def __init__(self, front: nn.Module, rear: nn.Module) -> None:
        super().__init__()
        self.front = front
        self.rear = rear

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, shape (n, classes)."""
        return self.rear(self.front(images))


def normalisation(norm: str, channels: int, *, relu: bool = False, pool: bool = False) -> list[nn.Module]:
    """Return a normalisation layer for feature maps, and what follows it.

    Parameters
    ----------
    norm : str
        ``"in"``: instance normalisation, with what follows it in one layer. ``"bn"``: PyTorch's BatchNorm2d with its
        defaults.
    channels : int
    relu : bool
        Whether a ReLU follows.
    pool : bool
        Whether then 2x2 average pooling follows.
    """
    if norm == "in":
        return [InstanceNorm(channels, relu=relu, pool=pool)]
    layers = [nn.BatchNorm2d(channels)]
    if relu:
        layers.append(nn.ReLU(inplace=True))
    if pool:
        layers.append(nn.AvgPool2d(POOL))
    return layers


@contextmanager
def drawing_from(generator: torch.Generator) -> Iterator[None]:
    """Let code that only knows PyTorch's global CPU generator draw from this one instead.

    The generator moves on by what was drawn, and the global state is afterwards as it was before.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.set_state(generator.get_state())
        yield
        generator.set_state(torch.default_generator.get_state())


def initialise(network: nn.Module, generator: torch.Generator, *, strict: bool = True) -> None:
    """Give every layer, in place, the random weights that PyTorch gives a new one.

    Convolutions and linear layers are drawn as by their ``reset_parameters`` (Kaiming-uniform weights,
    uniform biases), in the order of the forward pass; normalisation layers become the identity with fresh
    running statistics. All is drawn on the CPU, in the plain memory layout, and then moved, so that the same
    generator gives the same weights on every device.

    Parameters
    ----------
    network : nn.Module
    generator : torch.Generator
        On the CPU.
    strict : bool
        Whether a parameter that no ``reset_parameters`` covers is an error; it is left alone otherwise.

    Raises
    ------
    ElfError
        If `strict` and such a parameter exists; the message names it and the type of its layer.
    """
    for name, module in network.named_modules():
        if hasattr(module, "reset_parameters"):
            _reset(module, generator)
        elif strict and (own := [key for key, _ in module.named_parameters(recurse=False)]):
            where = f"{name}.{own[0]}" if name else own[0]
            raise ElfError(
                f"cannot initialise parameter {where}: its layer type {type(module).__name__} has no "
                "reset_parameters; give it one, or build the network from PyTorch's layers"
            )


@torch.no_grad()
def _reset(module: nn.Module, generator: torch.Generator) -> None:
    twin = copy.deepcopy(module).to_empty(device="cpu").to(memory_format=torch.contiguous_format)
    with drawing_from(generator):
        twin.reset_parameters()
    for ours, drawn in zip(_own_tensors(module), _own_tensors(twin), strict=True):
        ours.copy_(to_device(drawn, ours.device))


def _own_tensors(module: nn.Module) -> Iterator[Tensor]:
    return chain(module.parameters(recurse=False), module.buffers(recurse=False))

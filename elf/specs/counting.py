"""Parameters and operations of the networks from their names alone, without PyTorch, so that planning stays fast."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from elf.specs.network import LARGE_SIDE, NetworkName, feature_shape, parse

MULTIPLY_ADD = 2
"""Operations (FLOPs) of one multiplication with its addition."""


@dataclass(frozen=True)
class Layer:
    """A convolution, a linear layer or a normalisation.

    Attributes
    ----------
    parameters : int
        Learned numbers.
    flops : int
        Operations of the forward pass for one image; 0 for a normalisation, which is not counted.
    buffers : int
        Bytes that a checkpoint holds besides the parameters: the running statistics of a batch normalisation.
    maps : int
        Numbers of the map that a convolution gives for one image.
    """

    parameters: int
    flops: int = 0
    buffers: int = 0
    maps: int = 0


@dataclass(frozen=True)
class Part:
    """The front or the rear of a network.

    Attributes
    ----------
    parameters, flops : int
        Sums over its layers; operations of the forward pass for one image.
    values : int
        Numbers of one image, where images go in.
    buffers : int
        Bytes.
    first : int
        Operations of its first counted layer: their like is missing in a backward pass to the parameters, because
        nobody asks for the gradient of the input.
    layers : int
        Layers that are counted.
    maps : int
        Numbers of the maps of all convolutions, for one image.
    batch_norms : int
        Batch normalisations.
    """

    parameters: int
    flops: int
    values: int
    buffers: int
    first: int
    layers: int
    maps: int
    batch_norms: int


@dataclass(frozen=True)
class Counts:
    """What a network costs, split as :mod:`elf.networks` splits it."""

    front: Part
    rear: Part

    @property
    def parameters(self) -> int:
        """Learned numbers of the whole network."""
        return self.front.parameters + self.rear.parameters

    @property
    def state_bytes(self) -> int:
        """Bytes of a checkpoint in float32, with running statistics."""
        return 4 * self.parameters + self.front.buffers + self.rear.buffers

    @property
    def forward(self) -> int:
        """Operations for one image."""
        return self.front.flops + self.rear.flops

    @property
    def values(self) -> int:
        """Numbers of one image."""
        return self.front.values

    @property
    def training(self) -> int:
        """Operations for one image, forward and backward to the parameters."""
        return 3 * self.forward - self.front.first

    @property
    def layers(self) -> int:
        """Convolutions and linear layers."""
        return self.front.layers + self.rear.layers

    @property
    def batch_norms(self) -> int:
        """Batch normalisations."""
        return self.front.batch_norms + self.rear.batch_norms


@cache
def counts(network: str, *, classes: int, side: int) -> Counts | None:
    """Return parameters and operations of a network; None for torchvision's, which have no closed form here.

    Operations are those of convolutions and linear layers, a multiplication with its addition counting two, as in
    ``torch.utils.flop_counter``. Normalisation, pooling, activation and augmentation are not counted: they are few
    operations, but in narrow networks not little time.

    Parameters
    ----------
    network : str
        See :func:`elf.specs.network.parse`.
    classes : int
        Number of logits.
    side : int
        Height and width of the images in pixels.

    Raises
    ------
    ElfError
        If the network is unknown or does not fit images of this side.
    """
    name = parse(network)
    shape = feature_shape(name, side)
    if shape is None:
        return None
    layers = {"convnet": _convnet, "frepoconv": _frepoconv, "resnet18": _resnet18, "vgg11": _vgg11}[name.family]
    front, rear = layers(name, shape, classes, side)
    return Counts(_part(front, 3 * side**2), _part(rear, 0))


def _part(layers: Sequence[Layer], values: int) -> Part:
    counted = [layer for layer in layers if layer.flops]
    return Part(
        parameters=sum(layer.parameters for layer in layers),
        flops=sum(layer.flops for layer in layers),
        values=values,
        buffers=sum(layer.buffers for layer in layers),
        first=counted[0].flops,
        layers=len(counted),
        maps=sum(layer.maps for layer in layers),
        # Instance normalisations have no running statistics.
        batch_norms=sum(layer.buffers > 0 for layer in layers),
    )


def _convolution(channels_in: int, channels: int, side: int, kernel: int = 3, *, bias: bool = True) -> Layer:
    """Return a convolution whose output has this side."""
    weights = channels_in * channels * kernel**2
    return Layer(weights + bias * channels, MULTIPLY_ADD * weights * side**2, maps=channels * side**2)


def _linear(inputs: int, outputs: int) -> Layer:
    return Layer(inputs * outputs + outputs, MULTIPLY_ADD * inputs * outputs)


def _norm(name: NetworkName, channels: int) -> Layer:
    # Running mean and variance in float32 and the number of batches in int64.
    return Layer(2 * channels, buffers=8 * channels + 8 if name.norm == "bn" else 0)


def _convnet(name: NetworkName, shape: tuple[int, int, int], classes: int, side: int):
    front = []
    for block in range(name.depth):
        channels_in = name.width if block else 3
        front += [_convolution(channels_in, name.width, side >> block), _norm(name, name.width)]
    return front, [_linear(shape[0] * shape[1] * shape[2], classes)]


def _frepoconv(name: NetworkName, shape: tuple[int, int, int], classes: int, side: int):
    front = []
    channels = (3, name.width, 2 * name.width, 4 * name.width)
    for block, (channels_in, channels_out) in enumerate(pairwise(channels)):
        if name.norm == "bn" and block:
            front.append(_norm(name, channels_in))
        front.append(_convolution(channels_in, channels_out, side >> block))
    return front, [_linear(shape[0] * shape[1] * shape[2], classes)]


def _resnet18(name: NetworkName, shape: tuple[int, int, int], classes: int, side: int):
    large = side >= LARGE_SIDE
    width, here = name.width, _halved(side) if large else side
    stem = [_convolution(3, width, here, 7 if large else 3, bias=False), _norm(name, width)]
    here = _halved(here) if large else here
    blocks = []
    for stage, stride in enumerate((1, 2, 2, 2)):
        channels = width * 2**stage
        here = here if stride == 1 else _halved(here)
        blocks += [_block(name, channels // stride, channels, here), _block(name, channels, channels, here)]
    cut = 6 if large else 7
    front = [*stem, *(layer for block in blocks[:cut] for layer in block)]
    rear = [layer for block in blocks[cut:] for layer in block]
    return front, [*rear, _linear(8 * width, classes)]


def _block(name: NetworkName, channels_in: int, channels: int, side: int) -> list[Layer]:
    """Return a residual block whose output has this side; with a shortcut where the channels change."""
    layers = [_convolution(channels_in, channels, side, bias=False), _norm(name, channels)]
    layers += [_convolution(channels, channels, side, bias=False), _norm(name, channels)]
    if channels_in != channels:
        layers += [_convolution(channels_in, channels, side, 1, bias=False), _norm(name, channels)]
    return layers


def _halved(side: int) -> int:
    """Return the side after a padded convolution or pool of stride 2."""
    return (side + 1) // 2


VGG11_STAGES = (1,), (2,), (4, 4), (8, 8), (8, 8)
"""Channels of the convolutions before each maximum pool, as multiples of the base width."""


def _vgg11(name: NetworkName, shape: tuple[int, int, int], classes: int, side: int):
    large = side >= LARGE_SIDE
    convolutions, channels_in = [], 3
    for stage, multiples in enumerate(VGG11_STAGES):
        for multiple in multiples:
            channels = multiple * name.width
            convolutions.append([_convolution(channels_in, channels, side >> stage), _norm(name, channels)])
            channels_in = channels
    flat, hidden = 8 * name.width * (side // 32) ** 2, 64 * name.width
    head = [_linear(flat, hidden), _linear(hidden, hidden), _linear(hidden, classes)] if large else []
    cut = 6 if large else 5
    front = [layer for layers in convolutions[:cut] for layer in layers]
    rear = [layer for layers in convolutions[cut:] for layer in layers]
    return front, [*rear, *(head or [_linear(flat, classes)])]

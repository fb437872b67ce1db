"""Names of networks: what they mean, the map their front gives, and the teacher that fits it.

Knows nothing of PyTorch, so that planning which results are needed stays fast.
"""

import math
import re
from dataclasses import dataclass, replace

from elf.errors import ElfError

LARGE_SIDE = 64
"""Images of this side and more get the ImageNet variants: strided stem, later split, larger head."""

STANDARD_WIDTH = 64
"""Base width of ResNet18 and VGG11, which their names leave out."""

MODULES = {
    "convnet": "elf.networks.convnet",
    "resnet18": "elf.networks.resnet",
    "vgg11": "elf.networks.vgg",
    "frepoconv": "elf.networks.frepoconv",
    "torchvision": "elf.networks.torchvision_models",
}

_NUMBER = "[1-9][0-9]*"
_PATTERN = re.compile(
    rf"(?P<convnet>convnet)-w(?P<convnet_width>{_NUMBER})-d(?P<depth>{_NUMBER})-(?P<convnet_norm>in|bn)"
    rf"|(?P<family>resnet18|vgg11)(-w(?P<width>{_NUMBER}))?-(?P<norm>in|bn)"
    rf"|(?P<frepoconv>frepoconv)-w(?P<frepoconv_width>{_NUMBER})-(?P<frepoconv_norm>bn|none)"
    r"|(?P<torchvision>torchvision):(?P<model>[a-z0-9_]+)"
)
_ALLOWED = (
    "convnet-w<width>-d<depth>-<in|bn>, resnet18[-w<base width>]-<in|bn>, vgg11[-w<base width>]-<in|bn>, "
    "frepoconv-w<width>-<bn|none> or torchvision:<model>, for example convnet-w128-d3-in, resnet18-bn, vgg11-w8-in, "
    "frepoconv-w128-bn, torchvision:mobilenet_v2"
)


@dataclass(frozen=True)
class NetworkName:
    """A network's name, taken apart; ``str`` puts it together again in its canonical form.

    Attributes
    ----------
    family : str
        ``"convnet"``, ``"resnet18"``, ``"vgg11"``, ``"frepoconv"`` or ``"torchvision"``.
    width : int or None
        Channels of every ConvNet block, or of the first ResNet18 stage, VGG11 layer or FrePo block; None for
        torchvision.
    depth : int or None
        Blocks of a ConvNet; None for the others.
    norm : str or None
        ``"in"`` (instance normalisation), ``"bn"`` (batch normalisation) or ``"none"``; None for torchvision.
    model : str or None
        What torchvision calls the network; None for the others.
    """

    family: str
    width: int | None = None
    depth: int | None = None
    norm: str | None = None
    model: str | None = None

    def __str__(self) -> str:
        if self.family == "torchvision":
            return f"torchvision:{self.model}"
        if self.family == "convnet":
            return f"convnet-w{self.width}-d{self.depth}-{self.norm}"
        if self.family == "frepoconv":
            return f"frepoconv-w{self.width}-{self.norm}"
        width = "" if self.width == STANDARD_WIDTH else f"-w{self.width}"
        return f"{self.family}{width}-{self.norm}"

    @property
    def module(self) -> str:
        """Dotted name of the module whose ``build`` makes this network."""
        return MODULES[self.family]

    def scaled(self, multiplier: float) -> "NetworkName":
        """Return the same network with its width multiplied.

        Raises
        ------
        ElfError
            If the width does not come out as a whole number of at least 1, or if the network has no width.
        """
        if multiplier == 1:
            return self
        if self.width is None:
            raise ElfError(
                f"width multiplier {multiplier}: {self} has no width to scale; use 1, or a network whose name has one"
            )
        exact = self.width * multiplier
        width = round(exact) if math.isfinite(exact) else 0
        if width < 1 or not math.isclose(exact, width, rel_tol=1e-9):
            raise ElfError(
                f"width multiplier {multiplier}: {self} would get width {exact:g}; "
                f"choose a multiplier that makes {self.width} a whole number of at least 1"
            )
        return replace(self, width=width)


def parse(name: str) -> NetworkName:
    """Take a network's name apart.

    Parameters
    ----------
    name : str
        For example ``"convnet-w128-d3-in"``, ``"resnet18-bn"`` (base width 64), ``"vgg11-w8-in"`` or
        ``"torchvision:mobilenet_v2"``.

    Raises
    ------
    ElfError
        If the name has none of the allowed forms; the message lists them. Whether torchvision knows the
        model is checked when the network is built.
    """
    match = _PATTERN.fullmatch(name)
    if match is None:
        raise ElfError(f"unknown network {name!r}; allowed are {_ALLOWED}")
    if match["torchvision"]:
        return NetworkName("torchvision", model=match["model"])
    if match["convnet"]:
        return NetworkName("convnet", int(match["convnet_width"]), int(match["depth"]), match["convnet_norm"])
    if match["frepoconv"]:
        return NetworkName("frepoconv", int(match["frepoconv_width"]), norm=match["frepoconv_norm"])
    return NetworkName(match["family"], int(match["width"] or STANDARD_WIDTH), norm=match["norm"])


def may_have_batch_norm(name: str | NetworkName) -> bool:
    """Return whether a network has batch normalisation; torchvision's count as having it: their names do not say."""
    network = parse(str(name))
    return network.family == "torchvision" or network.norm == "bn"


def feature_shape(name: str | NetworkName, side: int) -> tuple[int, int, int] | None:
    """Return the shape of the front's output, channels x height x width.

    Parameters
    ----------
    name : str or NetworkName
    side : int
        Height and width of the images in pixels.

    Returns
    -------
    tuple of int or None
        None for torchvision's networks, which are split where the teacher's map fits.

    Raises
    ------
    ElfError
        If the network does not fit images of this side.
    """
    network = parse(str(name))
    if network.family == "torchvision":
        return None
    smallest = {"convnet": 2 ** (network.depth or 0), "resnet18": 8, "vgg11": 32, "frepoconv": 8}[network.family]
    if side < smallest:
        raise ElfError(f"{network} needs images of side {smallest} or more, found side {side}")
    large = side >= LARGE_SIDE
    if network.family == "convnet":
        channels, height = network.width, side >> network.depth
    elif network.family == "frepoconv":
        channels, height = 4 * network.width, side >> 3
    elif network.family == "resnet18":
        channels, height = (4 if large else 8) * network.width, math.ceil(side / (16 if large else 8))
    else:
        channels, height = 8 * network.width, side >> (4 if large else 3)
    return channels, height, height


def matching_teacher(name: str | NetworkName, side: int) -> str | None:
    """Return the name of the IN ConvNet whose last block gives the same map as this network's front.

    Returns
    -------
    str or None
        None for torchvision's networks: they are split to fit a teacher, which therefore comes first.

    Raises
    ------
    ElfError
        If no ConvNet halves images of this side to the map's side.
    """
    shape = feature_shape(name, side)
    if shape is None:
        return None
    channels, height, _ = shape
    depth = next((depth for depth in range(1, side.bit_length()) if side >> depth == height), None)
    if depth is None:
        raise ElfError(
            f"no ConvNet fits {name} on images of side {side}: its front gives {channels}x{height}x{height}, "
            f"and halving {side} never gives {height}; use a side that is a power of two"
        )
    return str(NetworkName("convnet", channels, depth, "in"))

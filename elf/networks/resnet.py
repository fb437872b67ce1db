"""ResNet18 with the stem for small (CIFAR) or large (ImageNet) images (official code of DC, MTT and ELF)."""

from torch import Tensor, nn

from elf.networks.convolution import Convolution
from elf.networks.split import SplitNetwork, normalisation
from elf.specs.network import LARGE_SIDE, NetworkName, feature_shape


class Projection(nn.Conv2d):
    """A 1x1 convolution of every ``stride``-th pixel; it has the parameters of a strided Conv2d without bias.

    The pixels are chosen first: in the channels-last layout the strided convolution of PyTorch 2.14 on a CPU writes
    beyond its memory for some sizes of images (of 46 pixels and more).
    """

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__(channels_in, channels, kernel_size=1, bias=False)
        self.step = stride

    def forward(self, maps: Tensor) -> Tensor:
        return super().forward(maps[:, :, :: self.step, :: self.step])


class BasicBlock(nn.Module):
    """Two convolutions beside a shortcut.

    Parameters
    ----------
    channels_in, channels : int
    stride : int
        Of the first convolution and of the shortcut.
    norm : str
        ``"in"`` or ``"bn"``.
    """

    def __init__(self, channels_in: int, channels: int, stride: int, norm: str) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            Convolution(channels_in, channels, stride=stride, bias=False),
            *normalisation(norm, channels, relu=True),
            Convolution(channels, channels, bias=False),
            *normalisation(norm, channels),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                Projection(channels_in, channels, stride),
                *normalisation(norm, channels),
            )
        self.activation = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """Return the activated sum of residual and shortcut."""
        return self.activation(self.residual(features) + self.shortcut(features))


def build(name: NetworkName, *, classes: int, side: int) -> SplitNetwork:
    """Return a ResNet18 split where its map fits a ConvNet's.

    Below a side of 64 the front ends after the first block of the last stage, from 64 on after the whole
    third stage (paper: conv5_2 and conv4_4).

    Parameters
    ----------
    name : NetworkName
        Of the family ``"resnet18"``.
    classes : int
        Number of logits.
    side : int
        Height and width of the images in pixels.

    Raises
    ------
    ElfError
        If the images are too small.
    """
    feature_shape(name, side)
    large = side >= LARGE_SIDE
    width, norm = name.width, name.norm
    blocks = []
    for stage, stride in enumerate([1, 2, 2, 2]):
        channels = width * 2**stage
        channels_in = width if stage == 0 else channels // 2
        blocks += [BasicBlock(channels_in, channels, stride, norm), BasicBlock(channels, channels, 1, norm)]
    cut = 6 if large else 7
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * width, classes)]
    return SplitNetwork(nn.Sequential(*_stem(width, norm, large), *blocks[:cut]), nn.Sequential(*blocks[cut:], *head))


def _stem(width: int, norm: str, large: bool) -> list[nn.Module]:
    if not large:
        return [
            Convolution(3, width, bias=False),
            *normalisation(norm, width, relu=True),
        ]
    return [
        nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False),
        *normalisation(norm, width, relu=True),
        nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
    ]

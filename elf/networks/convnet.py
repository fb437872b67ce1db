"""ConvNet: equal blocks of convolution, normalisation, ReLU and pooling (official code of DC, MTT, ELF)."""

from torch import nn

from elf.networks.split import SplitNetwork, normalisation
from elf.specs.network import NetworkName, feature_shape


def build(name: NetworkName, *, classes: int, side: int) -> SplitNetwork:
    """Return a ConvNet, split after its last block.

    The flattened front output is also the embedding that DM matches.

    Parameters
    ----------
    name : NetworkName
        Of the family ``"convnet"``.
    classes : int
        Number of logits.
    side : int
        Height and width of the images in pixels.

    Raises
    ------
    ElfError
        If the images are too small for the depth.
    """
    channels, height, width = feature_shape(name, side)
    blocks = [_block(3 if index == 0 else channels, channels, name.norm) for index in range(name.depth)]
    rear = nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, classes))
    return SplitNetwork(nn.Sequential(*blocks), rear)


def _block(channels_in: int, channels: int, norm: str) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, kernel_size=3, padding=1),
        *normalisation(norm, channels, relu=True, pool=True),
    )

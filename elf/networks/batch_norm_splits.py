"""Batch normalisation as it is when a batch is split over several devices, on one device.

The official runs train on four GPUs with PyTorch's ``DataParallel``: each GPU normalises its part of the batch by the
statistics of that part, and only the running statistics of the first GPU are kept.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from elf.errors import ElfError


class SplitBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation of each part of a batch by itself.

    Attributes
    ----------
    splits : int
        Number of parts, cut as ``DataParallel`` does: as equal as possible, the last one smaller.
    """

    splits: int

    def forward(self, images: Tensor) -> Tensor:
        """Normalise maps of shape (n, channels, height, width); in evaluation mode as ``BatchNorm2d`` does."""
        if not self.training:
            return super().forward(images)
        first, *others = images.chunk(self.splits)
        parts = [super().forward(first)]
        for part in others:
            # Without running statistics: those of the other devices are thrown away.
            parts.append(functional.batch_norm(part, None, None, self.weight, self.bias, True, 0.0, self.eps))
        return torch.cat(parts)


def split_batch_norm(network: nn.Module, splits: int) -> None:
    """Let every batch normalisation of a network see ``splits`` parts of a batch, in place; 1 is PyTorch's own.

    Raises
    ------
    ElfError
        If there is a batch normalisation of another kind than ``BatchNorm2d``, of which nobody knows how to split it.
    """
    for module in network.modules():
        # The same parameters under the same names, so that checkpoints fit either way.
        if type(module) in (nn.BatchNorm2d, SplitBatchNorm2d):
            module.__class__ = nn.BatchNorm2d if splits == 1 else SplitBatchNorm2d
            module.splits = splits
        elif isinstance(module, _BatchNorm) and splits > 1:
            raise ElfError(
                f"batch_norm_splits: found {splits}, but a {type(module).__name__} of the network only goes in one "
                "piece; set it to 1"
            )

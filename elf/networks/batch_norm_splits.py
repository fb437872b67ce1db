"""Batch normalisation as it is when a batch is split over several devices, on one device.

The official runs train on four GPUs with PyTorch's ``DataParallel``: each GPU normalises its part of the batch by the
statistics of that part, and only the running statistics of the first GPU are kept.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


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
    """Let every batch normalisation of a network see ``splits`` parts of a batch, in place; 1 changes nothing."""
    if splits == 1:
        return
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            # The same parameters under the same names, so that checkpoints fit either way.
            module.__class__ = SplitBatchNorm2d
            module.splits = splits

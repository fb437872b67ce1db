"""A network as a function of one vector that holds all its parameters."""

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from elf.errors import ElfError


def flatten(network: nn.Module) -> Tensor:
    """Return a copy of all parameters, without buffers, in the order of ``network.parameters()``.

    Returns
    -------
    Tensor of shape (P,)
        Shares no memory with the network, which goes on learning.
    """
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


class FlatNetwork:
    """A network whose parameters are given with every call, as a vector in the order of :func:`flatten`.

    Parameters
    ----------
    network : nn.Module
        Taken over: its batch normalisations lose their running statistics and use those of the batch in either
        mode, so that a call depends on nothing but its arguments and changes nothing.

    Attributes
    ----------
    size : int
        Number of parameters, P.
    has_batch_norm : bool

    Raises
    ------
    ElfError
        If the network has dropout, whose masks no two calls share.
    """

    def __init__(self, network: nn.Module) -> None:
        if any(isinstance(module, _DropoutNd) for module in network.modules()):
            raise ElfError("trajectories are matched with networks without dropout; choose another one")
        batch_norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
        for module in batch_norms:
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None
        self._network = network.requires_grad_(False)
        self._shapes = {name: parameter.shape for name, parameter in network.named_parameters()}
        self.size = sum(shape.numel() for shape in self._shapes.values())
        self.has_batch_norm = bool(batch_norms)

    def __call__(self, parameters: Tensor, images: Tensor, *, training: bool = True) -> Tensor:
        """Return the logits.

        Parameters
        ----------
        parameters : Tensor of shape (P,)
            The network sees views of it, so that gradients of all parameters come as one vector.
        images : Tensor of shape (n, 3, side, side)
        training : bool
            Mode of the network.

        Returns
        -------
        Tensor of shape (n, classes)
        """
        parts = parameters.split([shape.numel() for shape in self._shapes.values()])
        named = {name: part.view(shape) for part, (name, shape) in zip(parts, self._shapes.items(), strict=True)}
        # The views have no layout of their own, so that of the images decides how everything is computed. In this one
        # an unroll keeps fewest maps: on a GPU it takes two thirds of the memory and a twentieth more time.
        images = images.contiguous(memory_format=torch.channels_last)
        return functional_call(self._network.train(training), named, (images,))

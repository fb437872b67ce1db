"""FrePo's pool of online networks: trained on the synthetic set while it changes, and replaced when they are old."""

from dataclasses import dataclass

import torch
from torch import Tensor

from elf.networks.building import build_network
from elf.networks.split import SplitNetwork, initialise
from elf.objectives import frepo as objective
from elf.training import adam

AGE_STEP = 10
"""Network i starts at the age of 10 i (official code), so that not all are replaced at the same time."""


@dataclass(frozen=True, eq=False)
class OnlineNetwork:
    """A network and the state of its Adam; everything is changed in place.

    Attributes
    ----------
    network : SplitNetwork
        In evaluation mode: its batch norms use their running statistics.
    moments : dict of str to Tensor
        From `elf.training.adam.moments`.
    age : Tensor of int64, shape ()
        On the CPU. Decides when the network is replaced; unlike the steps of Adam it need not start at zero.
    """

    network: SplitNetwork
    moments: dict[str, Tensor]
    age: Tensor

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Everything that changes, by name."""
        moments = {f"adam.{name}": tensor for name, tensor in self.moments.items()}
        return dict(self.network.state_dict()) | moments | {"age": self.age}


def make_pool(
    size: int, name: str, *, classes: int, side: int, generator: torch.Generator, device: torch.device
) -> list[OnlineNetwork]:
    """Return networks with weights of their own; their ages are 0, 10, 20, ... although none has been trained.

    Parameters
    ----------
    size : int
    name : str
        Of the architecture.
    classes, side : int
        Number of logits; height and width of the images in pixels.
    generator : torch.Generator
        On the CPU; draws the weights.
    device : torch.device
    """
    pool = []
    for index in range(size):
        network = build_network(name, classes=classes, side=side, generator=generator).to(device).eval()
        moments = adam.moments(dict(network.named_parameters()))
        pool.append(OnlineNetwork(network, moments, torch.tensor(AGE_STEP * index)))
    return pool


def advance(
    online: OnlineNetwork, images: Tensor, labels: Tensor, *, lr: float, oldest: int, generator: torch.Generator
) -> None:
    """Replace a network that is older than ``oldest`` by a new one of age 0; let any other make one step of Adam.

    The step minimises the squared loss in training mode, which also moves the running statistics, without
    augmentation.

    Parameters
    ----------
    online : OnlineNetwork
        Changed in place.
    images : Tensor of shape (n, 3, side, side)
    labels : Tensor of shape (n, classes)
    lr : float
    oldest : int
    generator : torch.Generator
        On the CPU; draws the weights of a new network.
    """
    if int(online.age) > oldest:
        initialise(online.network, generator)
        for tensor in (*online.moments.values(), online.age):
            tensor.zero_()
        return
    online.network.train()
    loss = objective.loss(online.network, images, labels)
    online.network.eval()
    parameters = dict(online.network.named_parameters())
    gradients = torch.autograd.grad(loss, list(parameters.values()))
    adam.step(parameters, dict(zip(parameters, gradients, strict=True)), online.moments, lr=lr)
    online.age.add_(1)

"""Networks of the same architecture trained at once: one operation for all seeds instead of one for each.

A GPU is not busy with a small network on a few images: most of its time is spent with beginning operations. Each
network sees what it would see alone, in the same order and with the same augmentation, and becomes the same network up
to rounding.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from elf.errors import ElfError
from elf.machine.device import layout
from elf.networks.batch_norm_splits import split_batch_norm
from elf.specs.training import TrainingRecipe
from elf.training.checks import check_lengths, divergence
from elf.training.course import Checkpoint, Course
from elf.training.protocol import PASSES_BETWEEN_CHECKS
from elf.training.replayed import replayed
from elf.training.step import Batch, Objective, arithmetic, descend, draw_order, empty_momenta, take_batch


def refusal(network: nn.Module, count: int, recipe: TrainingRecipe) -> str | None:
    """Return why networks like this one are not trained at once on ``count`` images; None if they can be."""
    if any(isinstance(module, _DropoutNd) for module in network.modules()):
        return "the masks of its dropout are drawn from one stream of random numbers, network by network"
    if any(isinstance(module, fx.GraphModule) for module in network.modules()):
        return "it is one of torchvision's, of which nobody knows what it draws or changes"
    normalised = any(isinstance(module, _BatchNorm) for module in network.modules())
    if normalised and recipe.smallest_part(count) == 1:
        # PyTorch 2.14 on the CPU: where the one axis has another stride than usual, as vmap gives it, and the layouts
        # of maps and gradient differ.
        return "the gradients of a batch normalisation of a single image can be wrong"
    return None


def train(
    networks: Sequence[nn.Module],
    images: Tensor,
    labels: Tensor,
    recipe: TrainingRecipe,
    *,
    objective: Objective,
    targets: Tensor | None = None,
    seeds: Sequence[int],
    order_generators: Sequence[torch.Generator],
    augmentation_generators: Sequence[torch.Generator],
    progress: Callable[[int, int, Tensor], None] | None = None,
    checkpoint: Checkpoint | None = None,
    lowest: float = 0.0,
) -> None:
    """Train networks in place, each as `elf.training.protocol.train` does.

    Parameters
    ----------
    networks : sequence of nn.Module
        Of one architecture, on the device of the images.
    images, labels, recipe, objective, targets, lowest
        See `elf.training.protocol.train`; all networks learn from the same images.
    seeds : sequence of int
        What the networks are called in messages.
    order_generators, augmentation_generators : sequence of torch.Generator
        One for each network, on the CPU.
    progress : callable (finished passes, number of passes, mean loss of the last pass over all networks) or None
    checkpoint : Checkpoint or None
        Where to continue from and to save to; an interrupted and continued run equals an uninterrupted one bit for bit.

    Raises
    ------
    ElfError
        As `elf.training.protocol.train`, with the seed whose training diverged; and if networks like these cannot be
        trained at once, see :func:`refusal`.
    """
    check_lengths(images, labels, targets)
    if (reason := refusal(networks[0], len(images), recipe)) is not None:
        raise ElfError(f"networks like this one cannot be trained at once: {reason}; train one after the other")
    for network in networks:
        split_batch_norm(network, recipe.splits)
        network.train().to(memory_format=layout(images.device, recipe.memory_format))
    together = _Together(networks, objective, recipe)
    make_step = replayed(together.step, networks[0], images.device)
    course = Course(
        tensors=together.tensors,
        streams={"order": order_generators, "augmentation": augmentation_generators},
        total=recipe.passes,
        every=PASSES_BETWEEN_CHECKS,
        check=lambda index, losses: together.check(losses, seeds, index, lowest),
        progress=progress and (lambda finished, total, losses: progress(finished, total, losses.mean())),
        checkpoint=checkpoint,
    )
    saved = course.resume()

    for pass_index in range(int(saved.get("finished", 0)), recipe.passes):
        loss = torch.zeros(len(networks), dtype=images.dtype, device=images.device)
        # In the middle of a pass its orders are drawn again.
        before = {"stream.order": course.drawn()["stream.order"]}
        drawn = [draw_order(len(images), recipe.batch_size, generator, images.device) for generator in order_generators]
        steps = list(zip(*drawn, strict=True))
        first_step = int(saved.get("step", 0))
        if first_step:
            loss += saved["loss"].to(loss.device)
        for finished, positions in enumerate(steps[first_step:], start=first_step + 1):
            batches = [
                take_batch(images, labels, targets, own, recipe.augmentation, generator)
                for own, generator in zip(positions, augmentation_generators, strict=True)
            ]
            (batch_losses,) = make_step(*_stacked(batches), lr=recipe.lr_of(pass_index))
            loss += batch_losses * (len(positions[0].here) / len(images))
            if finished < len(steps):
                more = {**before, "loss": loss, "step": torch.tensor(finished)}
                course.keep(pass_index, loss, partial(dict, more), inside=True)
        saved = {}
        if pass_index == recipe.drop_after:
            together.forget_momentum()
        course.advance(pass_index + 1, loss)
        course.keep(pass_index + 1, loss)
    together.write_into(networks)


class _Objective(nn.Module):
    """An objective with its network as a module, so that it can be called with other parameters."""

    def __init__(self, network: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.network = network
        self._objective = objective

    def forward(self, images: Tensor, labels: Tensor, targets: Tensor | None) -> Tensor:
        return self._objective(self.network, images, labels, targets)


class _Together:
    """Parameters, buffers and momenta of several networks, each a tensor with the networks along its first axis."""

    def __init__(self, networks: Sequence[nn.Module], objective: Objective, recipe: TrainingRecipe) -> None:
        modules = [_Objective(network, objective) for network in networks]
        self.parameters, self.buffers = stack_module_state(modules)
        self.momenta = empty_momenta(self.parameters, recipe)
        self._module, self._recipe = modules[0], recipe

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Everything that changes, by name."""
        return self.parameters | self.buffers | {f"momentum.{name}": tensor for name, tensor in self.momenta.items()}

    def step(self, *stacked: Tensor | None, lr: float) -> tuple[Tensor]:
        """Make one step of gradient descent with every network and return their losses before it, shape (networks,)."""
        batch = Batch(*stacked)

        def loss(parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], batch: Batch) -> Tensor:
            return functional_call(self._module, (parameters, buffers), tuple(batch))

        axes = (0, 0, Batch(0, 0, None if batch.targets is None else 0))
        with arithmetic(self._recipe, batch.images.device):
            losses = vmap(loss, axes)(self.parameters, self.buffers, batch)
        # No network sees the others, so that the gradient of the sum is that of each for itself.
        gradients = torch.autograd.grad(losses.sum(), list(self.parameters.values()), allow_unused=True)
        descend(self.parameters, gradients, self.momenta, self._recipe, lr)
        return (losses.detach(),)

    def forget_momentum(self) -> None:
        for momentum in self.momenta.values():
            momentum.zero_()

    def check(self, losses: Tensor, seeds: Sequence[int], index: int, lowest: float) -> None:
        """Raise an error for the first network whose loss or weights are not finite, or whose loss is too low."""
        state = [*self.parameters.values(), *self.buffers.values()]
        finite = torch.stack([tensor.isfinite().reshape(len(seeds), -1).all(1) for tensor in state]).all(0)
        for seed, loss, weights_are_finite in zip(seeds, losses.cpu().tolist(), finite.cpu().tolist(), strict=True):
            if (found := divergence(loss, weights_are_finite, f"pass {index}", self._recipe.lr, lowest)) is not None:
                raise ElfError(f"seed {seed}: {found}")

    @torch.no_grad()
    def write_into(self, networks: Sequence[nn.Module]) -> None:
        """Give each network its state."""
        state = self.parameters | self.buffers
        for index, network in enumerate(networks):
            network.load_state_dict({name.removeprefix("network."): tensor[index] for name, tensor in state.items()})


def _stacked(batches: Sequence[Batch]) -> Batch:
    images, labels, targets = zip(*batches, strict=True)
    return Batch(torch.stack(images), torch.stack(labels), None if targets[0] is None else torch.stack(targets))

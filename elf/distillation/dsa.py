"""Gradient matching with siamese augmentation (DSA): synthetic images that pull a network where real ones do.

Zhao & Bilen, "Dataset Condensation with Differentiable Siamese Augmentation", as in the official code.

At the scale ``laptop`` (CIFAR-10, 10 images per class): 5.2 percentage points above random real images, mean of six
networks, after six minutes of one core (800 matching steps).
Measured at commit f2f84b3 by ``snakemake --profile profiles/local table01 --config scale=laptop``; the rows are in
``docs/results/laptop``.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from elf.data import augmentation
from elf.data.augmentation import Draw
from elf.distillation.shared import loop
from elf.distillation.shared.synthetic import RealImages, SyntheticSet, indices_by_class, real_initialisation, sample
from elf.errors import ElfError
from elf.machine.device import layout
from elf.machine.randomness import generator
from elf.networks.batch_norm_splits import split_batch_norm
from elf.networks.building import build_network
from elf.networks.split import initialise
from elf.specs.training import TrainingRecipe
from elf.training.protocol import train
from elf.training.replayed import Step, replayed

STREAMS = ("network", "statistics", "batches", "augmentation", "inner order", "inner augmentation")


def distill(
    dataset: RealImages,
    *,
    settings: Mapping[str, object],
    ipc: int,
    network: str,
    seed: int,
    progress: loop.Progress,
    checkpoint=None,
    selection: loop.Selection | None = None,
) -> SyntheticSet:
    """Distil a dataset by matching gradients.

    An update of `elf.distillation.shared.loop.run` is one matching step, the body of the official outer loop: match
    all classes, change the pixels and, unless it was the last step of its iteration, train the network on
    the synthetic images. A new random network comes with the first step of each iteration.

    Parameters
    ----------
    dataset : RealImages
        Training images on the device that distils.
    settings : mapping
        ``iterations`` (index of the last one: 1000 makes 1001, t = 0 to 1000, as in the official loop),
        ``outer_loop`` (matching steps an iteration), ``inner_loop`` (epochs of training between two of
        them), ``lr`` and ``momentum`` of plain SGD on the pixels, ``lr_network`` and ``batch_inner`` of plain
        SGD on the network, ``batch_real`` (real images per class and matching step, all of a class that has
        fewer), ``bn_real`` (real images per class for the statistics of batch normalisation), ``distance``
        (see :func:`matching_distance`), ``augmentation`` (DSA strategy, siamese in the matching and one draw
        an image in the training) and ``align_corners`` (see `elf.data.augmentation.apply`). A network with batch
        normalisation also takes ``batch_norm_splits`` (1 where it is left out): into how many parts a batch is cut for
        it in the training and for the running statistics, which come from the first part. ``distill_DSA.py`` of the ELF
        repository calls the wrapped network (``output_real = net(img_real)``), so that several GPUs take them from the
        first classes alone: the real images lie class by class.
    ipc : int
        Synthetic images per class; they start as distinct real images.
    network : str
        Name of the distillation network.
    seed : int
        Determines everything that is random.
    progress, checkpoint
        See `elf.distillation.shared.loop.run`; they count matching steps, ``(iterations + 1) * outer_loop`` in all.
    selection : Selection or None
        Its ``every`` counts iterations; the updates that it records are matching steps.

    Returns
    -------
    SyntheticSet
        With hard labels.

    Raises
    ------
    ElfError
        If a class has fewer than ``ipc`` images, or if a loss or a pixel is not finite.
    """
    device, side = dataset.images.device, dataset.images.shape[-1]
    outer_loop = int(settings["outer_loop"])
    start = real_initialisation(dataset, ipc, generator(seed, "distillation", "initial images"))
    images, velocity = start.images, torch.zeros_like(start.images)
    streams = {name: generator(seed, "distillation", name) for name in STREAMS}
    matched = build_network(network, classes=dataset.classes, side=side, generator=streams["network"])
    split_batch_norm(matched, _splits(settings))
    matched = matched.to(device, memory_format=layout(device))
    inner_loss = torch.zeros((), device=device)
    members = indices_by_class(dataset)
    compare = replayed(partial(class_loss, matched, settings["distance"]), matched, device)

    def match(index: int) -> tuple[Tensor, Tensor]:
        real = sample(dataset.images, members, int(settings["batch_real"]), streams["batches"])
        draws = [augmentation.draw(settings["augmentation"], 1, side, streams["augmentation"], device) for _ in members]
        # Dropout can only draw from PyTorch's global state, which is given back.
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(generator(seed, "distillation", "dropout", str(index)).initial_seed())
            if _batch_norms(matched):
                seen = sample(dataset.images, members, int(settings["bn_real"]), streams["statistics"])
                fix_statistics(matched, torch.cat(list(seen)))
            return matching_loss(
                matched,
                real,
                images.split(ipc),
                draws,
                distance=settings["distance"],
                align_corners=settings["align_corners"],
                compare=compare,
            )

    def update(index: int) -> dict[str, Tensor]:
        if index % outer_loop == 0:
            initialise(matched, streams["network"])
        loss, gradient = match(index)
        loop.descend(images, gradient, velocity, lr=settings["lr"], momentum=settings["momentum"])
        if outer_loop == 1:
            return {"loss": loss}
        if (index + 1) % outer_loop:
            inner_loss.copy_(_train(matched, images, start.labels, settings, streams))
        return {"loss": loss, "inner loss": inner_loss}

    memory = {"velocity": velocity, "inner loss": inner_loss}
    return loop.run(
        update,
        total=(int(settings["iterations"]) + 1) * outer_loop,
        state=loop.State(
            {"images": images}, memory | {f"network.{key}": t for key, t in matched.state_dict().items()}, streams
        ),
        result=lambda: SyntheticSet(images, start.labels),
        progress=progress,
        checkpoint=checkpoint,
        selection=selection and replace(selection, every=selection.every * outer_loop),
        hint=f"dsa with {network} at lr {settings['lr']} and lr_network {settings['lr_network']}: "
        "lower them, or look for NaN in the training images",
    )


def fix_statistics(network: nn.Module, images: Tensor) -> None:
    """Show a batch-normalised network real images, then let matching use the running statistics.

    Parameters
    ----------
    network : nn.Module
        One forward pass in train mode changes its running statistics in place. Afterwards its batch
        normalisation is in evaluation mode, all else in train mode.
    images : Tensor of shape (n, 3, side, side)
        Of all classes together, not augmented.
    """
    network.train()
    with torch.no_grad():
        network(images)
    for layer in _batch_norms(network):
        layer.eval()


def _splits(settings: Mapping[str, object]) -> int:
    return int(settings.get("batch_norm_splits", 1))


def _batch_norms(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]


def matching_loss(
    network: nn.Module,
    real: Iterable[Tensor],
    synthetic: Iterable[Tensor],
    draws: Sequence[Draw],
    *,
    distance: str,
    align_corners: bool,
    compare: Step | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the distance between gradients, summed over classes, and its gradient with respect to the pixels.

    The gradients that are matched are those of the mean cross-entropy of a class with respect to all
    parameters. The graph of a class is freed before the next one is built.

    Parameters
    ----------
    network : nn.Module
        In train mode; batch normalisation as :func:`fix_statistics` leaves it.
    real, synthetic : iterables of Tensor of shape (n, 3, side, side)
        The images of each class, in the order of the class indices, not augmented.
    draws : sequence of Draw
        One siamese draw per class, applied to its real and to its synthetic images.
    distance : {"ours", "mse"}
        See :func:`matching_distance`.
    align_corners : bool
        See `elf.data.augmentation.apply`.
    compare : callable or None
        :func:`class_loss` with its network and distance, or what does the same faster.

    Returns
    -------
    loss : Tensor of shape ()
        Detached.
    gradient : Tensor of shape (n, 3, side, side)
        For the synthetic images of all classes, one class after the other.
    """
    compare = compare or partial(class_loss, network, distance)
    losses, pixel_gradients = [], []
    for label, (own_real, own_synthetic, draw) in enumerate(zip(real, synthetic, draws, strict=True)):
        pixels = own_synthetic.detach().requires_grad_()  # (ipc, 3, side, side)
        shown_real, shown = (
            augmentation.apply(batch, draw, align_corners=align_corners) for batch in (own_real, pixels)
        )
        labels = torch.full((max(len(own_real), len(pixels)),), label, device=pixels.device)
        # (), (ipc, 3, side, side)
        loss, of_shown = compare(shown_real, labels[: len(own_real)], shown.detach(), labels[: len(pixels)])
        pixel_gradients += torch.autograd.grad(shown, pixels, of_shown)
        losses.append(loss)
    return torch.stack(losses).sum(), torch.cat(pixel_gradients)


def class_loss(
    network: nn.Module, distance: str, real: Tensor, real_labels: Tensor, synthetic: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the distance between the gradients for augmented images, and its own gradient for the synthetic ones."""
    parameters = list(network.parameters())

    def gradients(images: Tensor, labels: Tensor, *, keep_graph: bool) -> tuple[Tensor, ...]:
        return torch.autograd.grad(F.cross_entropy(network(images), labels), parameters, create_graph=keep_graph)

    synthetic = synthetic.detach().requires_grad_()
    target = gradients(real, real_labels, keep_graph=False)
    loss = matching_distance(target, gradients(synthetic, labels, keep_graph=True), distance)
    return loss.detach(), *torch.autograd.grad(loss, synthetic)


def matching_distance(real: Sequence[Tensor], synthetic: Sequence[Tensor], distance: str) -> Tensor:
    """Return the distance between two gradients of one network.

    Parameters
    ----------
    real, synthetic : sequences of Tensor
        One tensor a parameter, of the shape of the parameter.
    distance : {"ours", "mse"}
        ``ours``: a weight is a matrix with one row an output; 1 minus the cosine of each pair of rows,
        summed over rows and weights. Biases and the parameters of normalisations, which have one dimension,
        contribute nothing. ``mse``: squared Euclidean distance over all parameters.

    Returns
    -------
    Tensor of shape ()
        Differentiable with respect to both.

    Notes
    -----
    Official code of DC and DSA, ``match_loss`` and ``distance_wb`` in ``utils.py``.
    """
    pairs = list(zip(real, synthetic, strict=True))
    if distance == "mse":
        return torch.stack([(one - other).square().sum() for one, other in pairs]).sum()
    return torch.stack([_row_distances(one, other).sum() for one, other in pairs if one.dim() > 1]).sum()


def _row_distances(one: Tensor, other: Tensor) -> Tensor:
    one, other = one.flatten(1), other.flatten(1)  # (outputs, inputs * kernel)
    norms = torch.linalg.vector_norm(one, dim=1) * torch.linalg.vector_norm(other, dim=1)  # (outputs,)
    return 1 - (one * other).sum(1) / (norms + 1e-6)


def _train(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    settings: Mapping[str, object],
    streams: Mapping[str, torch.Generator],
) -> Tensor:
    """Train the network on the synthetic images and return the loss of the last epoch, NaN if it diverged."""
    recipe = TrainingRecipe(
        epochs=settings["inner_loop"],
        final_pass=False,
        lr=settings["lr_network"],
        momentum=0,
        weight_decay=0,
        batch_size=settings["batch_inner"],
        lr_drop=False,
        augmentation=settings["augmentation"],
        batch_norm_splits=_splits(settings),
    )
    losses = []
    try:
        train(
            network,
            images,
            labels,
            recipe,
            order_generator=streams["inner order"],
            augmentation_generator=streams["inner augmentation"],
            align_corners=settings["align_corners"],
            progress=lambda _, __, loss: losses.append(loss),
        )
    except ElfError:
        # The guards of the loop know which update it was and what was good before it.
        return torch.full((), torch.nan)
    return losses[-1]

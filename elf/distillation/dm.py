"""Distribution matching (DM): synthetic images whose mean embedding is that of the real images of the class.

Zhao & Bilen, "Dataset Condensation with Distribution Matching", as in the official code.

At the scale ``laptop`` (CIFAR-10, 10 images per class): 6.8 percentage points above random real images, mean of six
networks, after five minutes of one core (2,001 updates).
Measured at commit f2f84b3 by ``snakemake --profile profiles/local table01 --config scale=laptop``; the rows are in
``docs/results/laptop``.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from elf.data import augmentation
from elf.data.augmentation import Draw
from elf.distillation.shared import loop
from elf.distillation.shared.synthetic import RealImages, SyntheticSet, indices_by_class, real_initialisation, sample
from elf.machine import device as devices
from elf.machine.randomness import generator
from elf.networks.building import build_network
from elf.networks.split import SplitNetwork, initialise

ALL = 2**40
"""More images than there are."""


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
    """Distil a dataset by distribution matching.

    Parameters
    ----------
    dataset : RealImages
        Training images on the device that distils.
    settings : mapping
        ``iterations`` (index of the last update: 20000 makes 20001 updates, t = 0 to 20000, as in the
        official loop), ``lr`` and ``momentum`` of plain SGD on the pixels, ``batch_real`` (real images per
        class and iteration, all of a class that has fewer), ``augmentation`` (DSA strategy, siamese) and
        ``align_corners`` (grid convention, see `elf.data.augmentation.apply`).
    ipc : int
        Synthetic images per class; they start as distinct real images.
    network : str
        Name of the distillation network, drawn anew for every iteration. The embedding is the flattened
        output of its front, which for a ConvNet is the output of the last block.
    seed : int
        Determines everything that is random.
    progress, checkpoint, selection
        See `elf.distillation.shared.loop.run`.

    Returns
    -------
    SyntheticSet
        With hard labels.

    Raises
    ------
    ElfError
        If a class has fewer than ``ipc`` images, or if the loss or a pixel is not finite.
    """
    device = dataset.images.device
    side = dataset.images.shape[-1]
    start = real_initialisation(dataset, ipc, generator(seed, "distillation", "initial images"))
    images = start.images.clone().requires_grad_()
    velocity = torch.zeros_like(start.images)
    streams = {name: generator(seed, "distillation", name) for name in ("network", "batches", "augmentation")}
    embedding = build_network(network, classes=dataset.classes, side=side, generator=streams["network"])
    embedding = embedding.to(device, memory_format=devices.layout(device)).requires_grad_(False).train()
    members = indices_by_class(dataset)

    def update(_: int) -> dict[str, Tensor]:
        initialise(embedding, streams["network"])
        real = sample(dataset.images, members, int(settings["batch_real"]), streams["batches"])
        draws = [augmentation.draw(settings["augmentation"], 1, side, streams["augmentation"], device) for _ in members]
        loss = matching_loss(embedding, real, images.split(ipc), draws, align_corners=settings["align_corners"])
        (gradient,) = torch.autograd.grad(loss, images)
        loop.descend(images, gradient, velocity, lr=settings["lr"], momentum=settings["momentum"])
        return {"loss": loss.detach()}

    return loop.run(
        update,
        total=int(settings["iterations"]) + 1,
        state=loop.State({"images": images}, {"velocity": velocity}, streams),
        result=lambda: SyntheticSet(images, start.labels),
        progress=progress,
        checkpoint=checkpoint,
        selection=selection,
        hint=f"dm with {network} at lr {settings['lr']}: lower the lr, or look for NaN in the training images",
    )


def matching_loss(
    network: SplitNetwork,
    real: Iterable[Tensor],
    synthetic: Iterable[Tensor],
    draws: Sequence[Draw],
    *,
    align_corners: bool,
) -> Tensor:
    """Return the sum over classes of the squared distance between mean real and mean synthetic embedding.

    All classes go through the network together. With batch normalisation this is the method's definition
    (the statistics mix the classes, one forward pass for all real and one for all synthetic images, in one piece
    also on several GPUs: ``main_DM.py`` calls ``net.module.embed``, which goes round the data parallelism); with
    any other normalisation the images do not see each other, and the real ones pass in portions, so that the
    memory grows neither with their number nor with that of the classes.

    Parameters
    ----------
    network : SplitNetwork
        In train mode; the embedding is the flattened output of its front.
    real, synthetic : iterables of Tensor of shape (n, 3, side, side)
        The images of each class, not augmented. No gradient flows to the real ones.
    draws : sequence of Draw
        One siamese draw per class, applied to its real and to its synthetic images.
    align_corners : bool
        See `elf.data.augmentation.apply`.

    Returns
    -------
    Tensor of shape ()
    """

    def means(pairs: Sequence[tuple[Tensor, Draw]], portion: int) -> Tensor:
        """Return the mean embedding of each class."""
        augmented = torch.cat([augmentation.apply(batch, draw, align_corners=align_corners) for batch, draw in pairs])
        embeddings = torch.cat([network.front(part) for part in augmented.split(portion)]).flatten(1)  # (n, features)
        return torch.stack([part.mean(0) for part in embeddings.split([len(batch) for batch, _ in pairs])])

    portion = ALL if _mixes_images(network.front) else devices.images_per_forward(next(network.parameters()).device)
    with torch.no_grad():
        target = torch.cat([means(group, portion) for group in _groups(zip(real, draws, strict=True), portion)])
    matched = means(list(zip(synthetic, draws, strict=True)), ALL)  # (classes, features), as the target
    return (target - matched).square().sum()


def _groups(pairs: Iterable[tuple[Tensor, Draw]], images: int) -> Iterator[list[tuple[Tensor, Draw]]]:
    """Yield classes one after the other, together as soon as they have so many images."""
    group: list[tuple[Tensor, Draw]] = []
    for pair in pairs:
        group.append(pair)
        if sum(len(batch) for batch, _ in group) >= images:
            yield group
            group = []
    if group:
        yield group


def _mixes_images(front: nn.Module) -> bool:
    return any(isinstance(module, _BatchNorm) for module in front.modules())

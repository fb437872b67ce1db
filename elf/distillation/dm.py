"""Distribution matching (DM): synthetic images whose mean embedding is that of the real images of the class.

Zhao & Bilen, "Dataset Condensation with Distribution Matching", as in the official code.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from elf import device as devices
from elf.data import augmentation
from elf.data.augmentation import Draw
from elf.distillation.synthetic import RealImages, SyntheticSet, indices_by_class, real_initialisation
from elf.errors import ElfError
from elf.networks.building import build_network
from elf.networks.split import SplitNetwork, initialise
from elf.randomness import generator

_CHECK_EVERY = 50


def distill(
    dataset: RealImages,
    *,
    settings: Mapping[str, object],
    ipc: int,
    network: str,
    seed: int,
    progress: Callable[[int, int, Tensor | None], None],
    checkpoint=None,
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
    progress : callable
        Called after every update with the number of finished updates, their total, and the loss as a
        detached scalar on the device. Reading the loss waits for the device; the callback decides when.
    checkpoint : object, optional
        With ``load() -> dict | None`` and ``save_if_due(make_state)``, where ``make_state()`` gives a dict of
        str to Tensor. A run that is killed and started again continues bit for bit.

    Returns
    -------
    SyntheticSet
        The state after the last update, with hard labels.

    Raises
    ------
    ElfError
        If a class has fewer than ``ipc`` images, or if the loss or a pixel is not finite (looked at every 50
        updates and at the end).
    """
    device = dataset.images.device
    side = dataset.images.shape[-1]
    start = real_initialisation(dataset, ipc, generator(seed, "distillation", "initial images"))
    images = start.images.clone().requires_grad_()
    optimiser = torch.optim.SGD([images], lr=settings["lr"], momentum=settings["momentum"])
    optimiser.state[images]["momentum_buffer"] = torch.zeros_like(images, requires_grad=False)
    streams = {name: generator(seed, "distillation", name) for name in ("network", "batches", "augmentation")}
    embedding = build_network(network, classes=dataset.classes, side=side, generator=streams["network"])
    embedding = embedding.to(device).requires_grad_(False).train()

    finished = 0
    if checkpoint is not None and (state := checkpoint.load()) is not None:
        finished = _restore(state, images, optimiser, streams)

    def make_state() -> dict[str, Tensor]:
        return {
            "images": images.detach().clone(),
            "momentum": optimiser.state[images]["momentum_buffer"].clone(),
            "iteration": torch.tensor(finished),
            **{name: stream.get_state() for name, stream in streams.items()},
        }

    members = indices_by_class(dataset)
    total = int(settings["iterations"]) + 1
    while finished < total:
        initialise(embedding, streams["network"])
        real = _sample(dataset.images, members, int(settings["batch_real"]), streams["batches"])
        draws = [augmentation.draw(settings["augmentation"], 1, side, streams["augmentation"], device) for _ in members]
        synthetic = images.split(ipc)
        loss = matching_loss(embedding, real, synthetic, draws, align_corners=settings["align_corners"])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        finished += 1
        if finished % _CHECK_EVERY == 0 or finished == total:
            _check_finite(loss, images, finished, total, network, settings)
        progress(finished, total, loss.detach())
        if checkpoint is not None:
            checkpoint.save_if_due(make_state)
    return SyntheticSet(images.detach(), start.labels)


def matching_loss(
    network: SplitNetwork,
    real: Sequence[Tensor],
    synthetic: Sequence[Tensor],
    draws: Sequence[Draw],
    *,
    align_corners: bool,
) -> Tensor:
    """Return the sum over classes of the squared distance between mean real and mean synthetic embedding.

    All classes go through the network together. With batch normalisation this is the method's definition
    (the statistics mix the classes, one forward pass for all real and one for all synthetic images); with
    any other normalisation the images do not see each other, and the real ones pass in portions that bound
    the memory.

    Parameters
    ----------
    network : SplitNetwork
        In train mode; the embedding is the flattened output of its front.
    real, synthetic : sequences of Tensor of shape (n, 3, side, side)
        The images of each class, not augmented. No gradient flows to the real ones.
    draws : sequence of Draw
        One siamese draw per class, applied to its real and to its synthetic images.
    align_corners : bool
        See `elf.data.augmentation.apply`.

    Returns
    -------
    Tensor of shape ()
    """

    def augment(batches: Sequence[Tensor]) -> Tensor:
        pairs = zip(batches, draws, strict=True)
        return torch.cat([augmentation.apply(batch, draw, align_corners=align_corners) for batch, draw in pairs])

    def class_means(embeddings: Tensor, batches: Sequence[Tensor]) -> Tensor:
        parts = embeddings.flatten(1).split([len(batch) for batch in batches])
        return torch.stack([part.mean(0) for part in parts])

    with torch.no_grad():
        augmented = augment(real)
        mixed = _mixes_images(network.front)
        portion = len(augmented) if mixed else devices.images_per_forward(augmented.device)
        embeddings = torch.cat([network.front(part) for part in augmented.split(portion)])
        target = class_means(embeddings, real)
    matched = class_means(network.front(augment(synthetic)), synthetic)
    return (target - matched).square().sum()


def _mixes_images(front: nn.Module) -> bool:
    return any(isinstance(module, _BatchNorm) for module in front.modules())


def _sample(images: Tensor, members: Sequence[Tensor], batch: int, stream: torch.Generator) -> tuple[Tensor, ...]:
    chosen = [own[torch.randperm(len(own), generator=stream)[:batch]] for own in members]
    return images[torch.cat(chosen).to(images.device)].split([len(own) for own in chosen])


def _restore(
    state: Mapping[str, Tensor],
    images: Tensor,
    optimiser: torch.optim.Optimizer,
    streams: Mapping[str, torch.Generator],
) -> int:
    with torch.no_grad():
        images.copy_(state["images"])
        optimiser.state[images]["momentum_buffer"].copy_(state["momentum"])
    for name, stream in streams.items():
        stream.set_state(state[name].cpu())
    return int(state["iteration"])


def _check_finite(
    loss: Tensor, images: Tensor, finished: int, total: int, network: str, settings: Mapping[str, object]
) -> None:
    value = loss.item()
    if not (math.isfinite(value) and images.detach().isfinite().all()):
        raise ElfError(
            f"dm with {network}: loss ({value}) or pixels are not finite after update {finished} of {total} "
            f"at lr {settings['lr']}; lower the lr, or look for NaN in the training images"
        )

"""FrePo: synthetic images and labels from which ridge regression on network features predicts the real labels.

Zhou, Nezhadarya & Ba, "Dataset Distillation using Neural Feature Regression", as in the official code.

At the scale ``laptop`` (CIFAR-10, 10 images per class): 7.8 percentage points above random real images, mean of three
networks in FrePo's own protocol, after nine minutes of one core (4,000 updates).
Measured at commit f2f84b3 by ``snakemake --profile profiles/local table01 --config scale=laptop``; the rows are in
``docs/results/laptop``.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from elf.data.normalised import take
from elf.distillation.of_frepo import lamb
from elf.distillation.of_frepo.pool import advance, make_pool
from elf.distillation.of_frepo.regression import meta_loss
from elf.distillation.shared import loop
from elf.distillation.shared.synthetic import RealImages, SyntheticSet, real_initialisation
from elf.machine.device import to_device
from elf.machine.randomness import generator
from elf.objectives.frepo import centred_one_hot
from elf.training import adam

PIVOT = "failed pivot"
"""What the watched result of the Cholesky factorisation is called: 0, or the pivot that was not positive."""


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
    """Distil a dataset by neural feature regression with a pool of networks.

    Each update takes a random network of the pool; makes one step of LAMB on pixels and labels, with its
    features fixed; and then trains the network by one step on the set that this gave, or replaces it by a new one
    if it is too old.

    Parameters
    ----------
    dataset : RealImages
        Training images on the device that distils.
    settings : mapping
        ``iterations`` (number of updates, unlike that of DM), ``lr`` of LAMB and ``lr_final_fraction`` to which
        it falls along a cosine, ``batch_real`` (real images per update, all if there are fewer), ``ridge``
        (times the mean diagonal of the kernel), ``precision`` (of the regression, ``float32`` or ``float64``),
        ``mirror`` (whether the regression also uses the mirror images of the synthetic ones), ``pool_size``,
        ``online_steps`` (the greatest age at which a network is still trained), ``lr_network`` of Adam and
        ``batch_online`` (synthetic images of a step, all if there are not more).
    ipc : int
        Synthetic images per class; they start as distinct real images.
    network : str
        Name of the networks of the pool; the features are the flattened output of the front.
    seed : int
        Determines everything that is random.
    progress, checkpoint, selection
        See `elf.distillation.shared.loop.run`.

    Returns
    -------
    SyntheticSet
        With learned labels, float32 of shape (n, classes), which are no probabilities.

    Raises
    ------
    ElfError
        If a class has fewer than ``ipc`` images, if the kernel matrix cannot be factorised, or if the loss, a
        pixel or a label is not finite.
    """
    device, side = dataset.images.device, dataset.images.shape[-1]
    start = real_initialisation(dataset, ipc, generator(seed, "distillation", "initial images"))
    learned = {
        "images": start.images.clone().requires_grad_(),  # (n, 3, side, side)
        "labels": initial_labels(start.labels, dataset.classes).requires_grad_(),  # (n, classes)
    }
    names = ("networks", "choice of the network", "batches", "online batches")
    streams = {name: generator(seed, "distillation", name) for name in names}
    pool = make_pool(
        int(settings["pool_size"]),
        network,
        classes=dataset.classes,
        side=side,
        generator=streams["networks"],
        device=device,
    )
    moments = adam.moments(learned)
    real_labels = dataset.labels.to(device)
    total = int(settings["iterations"])

    def update(index: int) -> dict[str, Tensor]:
        online = pool[int(torch.randint(len(pool), (), generator=streams["choice of the network"]))]
        batch = _choose(len(real_labels), int(settings["batch_real"]), streams["batches"])  # (b,)
        loss = meta_loss(
            online.network.front,
            learned["images"],
            learned["labels"],
            take(dataset.images, batch),
            centred_one_hot(real_labels[to_device(batch, device)], dataset.classes),
            ridge=settings["ridge"],
            mirror=settings["mirror"],
            precision=getattr(torch, settings["precision"]),
        )
        gradients = dict(zip(learned, torch.autograd.grad(loss.total, list(learned.values())), strict=True))
        lr = settings["lr"] * cosine(index, total, settings["lr_final_fraction"])
        lamb.step(learned, gradients, moments, lr=lr)
        chosen = _choose(len(learned["images"]), int(settings["batch_online"]), streams["online batches"])
        chosen = to_device(chosen, device)
        advance(
            online,
            learned["images"].detach()[chosen],
            learned["labels"].detach()[chosen],
            lr=settings["lr_network"],
            oldest=int(settings["online_steps"]),
            generator=streams["networks"],
        )
        return {"loss": loss.total.detach(), PIVOT: loss.pivot}

    memory = {f"lamb.{name}": tensor for name, tensor in moments.items()}
    for index, online in enumerate(pool):
        memory |= {f"pool.{index}.{name}": tensor for name, tensor in online.tensors.items()}
    return loop.run(
        update,
        total=total,
        state=loop.State(learned, memory, streams),
        result=lambda: SyntheticSet(learned["images"], learned["labels"]),
        progress=progress,
        checkpoint=checkpoint,
        selection=selection,
        limits={PIVOT: (-0.5, 0.5)},
        hint=f"frepo with {network} at lr {settings['lr']} and ridge {settings['ridge']}: where a pivot failed, the "
        "Cholesky factorisation of the kernel matrix did, so raise the ridge, take the precision float64 or lower the "
        "lr; otherwise lower the lr, or look for NaN in the training images",
    )


def initial_labels(labels: Tensor, classes: int) -> Tensor:
    """Return the labels (n, K) that synthetic images start with: centred one-hot rows, divided by sqrt(K / 10)."""
    return centred_one_hot(labels, classes) / math.sqrt(classes / 10)


def cosine(index: int, total: int, final_fraction: float) -> float:
    """Return the factor of the learning rate for update ``index``, which falls from 1 towards the fraction."""
    return final_fraction + (1 - final_fraction) * 0.5 * (1 + math.cos(math.pi * index / total))


def _choose(count: int, batch: int, stream: torch.Generator) -> Tensor:
    """Return ``batch`` distinct positions among ``count``, drawn uniformly, on the CPU; all in order if not more."""
    if count <= batch:
        return torch.arange(count)
    return torch.randperm(count, generator=stream)[:batch]

"""TESLA: trajectory matching whose memory does not grow with the number of steps, with soft labels.

Cui et al., "Scaling Up Dataset Distillation to ImageNet-1K with Constant Memory", as in the official code.
"""

from collections.abc import Mapping
from dataclasses import replace

from elf.distillation.shared import loop
from elf.distillation.shared.matching import Matching, constant_memory
from elf.distillation.shared.synthetic import RealImages, SyntheticSet
from elf.distillation.trajectories import Experts, match_experts


def official_step(*update, **settings) -> Matching:
    """Return loss and gradients as the official code does: that for the pixels is half of the derivative.

    ``distill.py`` multiplies what ``torch.autograd.grad`` returns by two and takes the first entry. It returns a tuple,
    which twice is a longer tuple, so that the factor 2 of the derivative of a square is lost. ``lr_img`` of its readme
    was tuned with that. The gradient for the step size is not concerned: there the loss itself is differentiated.

    Parameters and result are those of `elf.distillation.shared.matching.constant_memory`.
    """
    found = constant_memory(*update, **settings)
    return replace(found, images=found.images / 2)


PIXEL_STEPS = {"official": official_step, "derivative": constant_memory}


def distill(
    dataset: RealImages,
    *,
    settings: Mapping[str, object],
    ipc: int,
    network: str,
    seed: int,
    experts: Experts,
    progress: loop.Progress,
    checkpoint=None,
    selection: loop.Selection | None = None,
) -> SyntheticSet:
    """Distil a dataset by TESLA.

    Parameters
    ----------
    settings : mapping
        As of `elf.distillation.mtt.distill` without ``gradient``, which is always that of constant memory, without
        ``batch_norm_splits`` (the official code gives every GPU a part of the parameters, so it can have run on one
        alone), and with ``soft_labels``: whether the labels of every update are the probabilities that the expert at
        the end of the matched segment gives to the synthetic images as they are (not augmented); otherwise they are
        hard. ``pixel_step``: ``official`` is what the official code subtracts, half of the derivative, see
        :func:`official_step`; ``derivative`` is the derivative of the loss, so that half of ``lr_img`` does the same.
    dataset, ipc, network, seed, experts, progress, checkpoint, selection
        As of `elf.distillation.mtt.distill`.

    Returns
    -------
    SyntheticSet
        With the learned ``step_size`` as an extra. Soft labels are those of the update that gave the images.

    Raises
    ------
    ElfError
        As `elf.distillation.mtt.distill`, and if soft labels are asked for with a batch-normalised network:
        snapshots hold no running statistics.
    """
    return match_experts(
        dataset,
        PIXEL_STEPS[settings["pixel_step"]],
        settings=settings,
        ipc=ipc,
        network=network,
        seed=seed,
        experts=experts,
        progress=progress,
        checkpoint=checkpoint,
        selection=selection,
        soft_labels=bool(settings["soft_labels"]),
        hint=f"tesla with {network} at lr_img {settings['lr_img']} and lr_lr {settings['lr_lr']}: lower lr_lr if the "
        "step size has left its limits, else lr_img; a loss of inf or nan at once can mean experts that stand still",
    )

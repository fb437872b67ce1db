"""Matching training trajectories (MTT): synthetic images on which a network learns what experts learn from real ones.

Cazenavette et al., "Dataset Distillation by Matching Training Trajectories", as in the official code.
"""

from collections.abc import Mapping

from elf.distillation.shared import loop
from elf.distillation.shared.matching import constant_memory, unrolled
from elf.distillation.shared.synthetic import RealImages, SyntheticSet
from elf.distillation.trajectories import Experts, match_experts

GRADIENTS = {"unrolled": unrolled, "constant-memory": constant_memory}


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
    """Distil a dataset by matching training trajectories.

    Parameters
    ----------
    dataset : RealImages
        Training images on the device that distils.
    settings : mapping
        ``iterations`` (index of the last update, as in the official loop), ``synthetic_steps`` of the student,
        ``expert_epochs`` that they are compared with, ``max_start_epoch`` (students start at an epoch below it),
        ``batch_syn`` (synthetic images a step; 0: all), ``lr_img``, ``lr_lr`` and ``momentum`` of plain SGD on
        pixels and step size, ``lr_teacher`` (first value of the step size), ``experts`` (how many are used),
        ``augmentation`` (DSA strategy, parameters drawn for each image), ``align_corners`` (grid convention, see
        `elf.data.augmentation.apply`), and ``gradient``: ``unrolled`` is the method; ``constant-memory`` is
        TESLA's gradient as a memory saver, **which is not the same gradient**, see
        `elf.distillation.shared.matching.constant_memory`. A network with batch normalisation also takes
        ``batch_norm_splits``: into how many parts a step's batch is cut for it (1 where it is left out). The official
        code runs its student as ``torch.nn.DataParallel(student_net)``, with all parameters on every GPU.
    ipc : int
        Synthetic images per class; they start as distinct real images.
    network : str
        Name of the experts' network. Batch normalisation uses the statistics of the batch, or of each part of it.
    seed : int
        Determines everything that is random.
    experts : Experts
        Trajectories of the network on the real images.
    progress, checkpoint, selection
        See `elf.distillation.shared.loop.run`.

    Returns
    -------
    SyntheticSet
        With hard labels, and the learned ``step_size`` as an extra.

    Raises
    ------
    ElfError
        If a class has fewer than ``ipc`` images, if the experts are too few, of another network or without a
        snapshot that the settings ask for; if the loss or a pixel is not finite, or the step size is not
        between 0 and a hundred times its first value. Nothing is clamped.
    """
    return match_experts(
        dataset,
        GRADIENTS[settings["gradient"]],
        settings=settings,
        ipc=ipc,
        network=network,
        seed=seed,
        experts=experts,
        progress=progress,
        checkpoint=checkpoint,
        selection=selection,
        hint=f"mtt with {network} at lr_img {settings['lr_img']} and lr_lr {settings['lr_lr']}: lower lr_lr if the "
        "step size has left its limits, else lr_img; a loss of inf or nan at once can mean experts that stand still",
    )

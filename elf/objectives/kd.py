"""Knowledge distillation: the control that uses the teacher's logits instead of its features."""

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from elf.errors import ElfError
from elf.objectives.task import lowest_cross_entropy, task_loss
from elf.specs.labels import CROSS_ENTROPY
from elf.specs.objective import ObjectiveSettings

LABEL = "+ KD"
TAKES = CROSS_ENTROPY
NEEDS = "logits"
COLUMNS = {"temperature": "temperature", "weight": "kd_weight"}


class Settings(ObjectiveSettings):
    """Settings of :func:`loss`."""

    temperature: float = Field(default=4.0, gt=0, description="Divides the logits of both networks.")
    weight: float = Field(default=1.0, ge=0, description="Weight of the distillation term.")


def loss(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    targets: Tensor,
    *,
    temperature: float = 4.0,
    weight: float = 1.0,
) -> Tensor:
    """Return the task loss plus the distillation loss of Hinton et al. (2015, arXiv:1503.02531).

    Parameters
    ----------
    network : nn.Module
        Maps images to logits.
    images : Tensor of shape (B, 3, side, side)
        Augmented images in model-input space.
    labels : Tensor, int64 of shape (B,) or floating point of shape (B, classes)
        See :func:`elf.objectives.task.task_loss`; the hard-label term is kept at weight one.
    targets : Tensor of shape (B, classes)
        Constant logits that the teacher gives for the images *without* augmentation, as ELF's features are.
    temperature : float
        Divides the logits of both networks, T below.
    weight : float
        Of the distillation term.

    Returns
    -------
    Tensor of shape ()
        ``CE(student, labels) + weight * T**2 * KL(softmax(teacher / T) || softmax(student / T))``, averaged
        over the batch. The factor T**2 keeps the size of the second gradient independent of T.

    Raises
    ------
    ElfError
        If the teacher's logits do not have the shape of the network's.
    """
    logits = network(images)
    if logits.shape != targets.shape:
        raise ElfError(
            f"the teacher's logits have shape {tuple(targets.shape)}, the network gives "
            f"{tuple(logits.shape)}; take logits of a teacher trained on the same classes"
        )
    # In mixed precision the student's logits come with fewer digits; the divergence is computed with all.
    logits = logits.to(targets.dtype)
    student = functional.log_softmax(logits / temperature, dim=1)
    teacher = functional.log_softmax(targets / temperature, dim=1)
    # Written out, because functional.kl_div goes through the networks one by one where several are trained at once.
    divergence = (teacher.exp() * (teacher - student)).sum() / len(logits)
    return task_loss(logits, labels) + weight * temperature**2 * divergence


def lowest(labels: Tensor, targets: Tensor, **settings: float) -> float:
    """Return a value that the loss does not fall below: the divergence is 0 at least."""
    return lowest_cross_entropy(labels)

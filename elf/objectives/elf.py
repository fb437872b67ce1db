"""ELF: the features of a teacher that saw all real images guide the training on synthetic images."""

from typing import Literal, get_args

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from elf.errors import ElfError
from elf.networks.split import SplitNetwork
from elf.objectives.task import lowest_cross_entropy, task_loss
from elf.specs.labels import CROSS_ENTROPY
from elf.specs.objective import ObjectiveSettings

Terms = Literal["front+rear+task", "rear+task", "front+task", "front+rear"]
Distance = Literal["ce", "mae", "mse", "cos"]
Variant = Literal["official", "paper"]

LABEL = "+ ELF"
TAKES = CROSS_ENTROPY
NEEDS = "features"
COLUMNS = {key: key for key in ("distance", "lambda_front", "lambda_rear", "variant")}


class Settings(ObjectiveSettings):
    """Settings of :func:`loss`."""

    terms: Terms = Field(default="front+rear+task", description="Loss terms (Table 9).")
    distance: Distance = Field(default="ce", description="Distance between feature maps (Table 12).")
    lambda_front: float = Field(default=1.0, ge=0, description="Weight of the front term (Equation 9).")
    lambda_rear: float = Field(default=1.0, ge=0, description="Weight of the rear term (Equation 9).")
    variant: Variant = Field(
        default="official", description="Whose definition holds where paper and official code differ."
    )

    @property
    def slug(self) -> str:
        """As in the paths of all evaluations: what is ELF itself is not mentioned."""
        terms = "" if self.terms == "front+rear+task" else f"-{self.terms}"
        variant = "" if self.variant == "official" else f"-{self.variant}"
        return f"{terms}-{self.distance}-front{self.lambda_front:g}-rear{self.lambda_rear:g}{variant}"

    def mark(self, without: set[str]) -> str:
        """Name the terms alone, as rows of Table 9 do, and not those of ELF itself."""
        return "" if self.terms == "front+rear+task" else self.terms


def loss(
    network: SplitNetwork,
    images: Tensor,
    labels: Tensor,
    targets: Tensor,
    *,
    terms: Terms = "front+rear+task",
    distance: Distance = "ce",
    lambda_front: float = 1.0,
    lambda_rear: float = 1.0,
    variant: Variant = "official",
) -> Tensor:
    """Return the ELF loss of a batch (Equations 6 to 9 of the ELF paper).

    Parameters
    ----------
    network : SplitNetwork
        In training mode. Its rear sees two batches, the student's features and then the teacher's, so that
        the running statistics of batch norms in the rear move twice a step, whichever terms are kept.
    images : Tensor of shape (B, 3, side, side)
        Augmented images in model-input space.
    labels : Tensor, int64 of shape (B,) or floating point of shape (B, classes)
        See :func:`elf.objectives.task.task_loss`.
    targets : Tensor of shape (B, C, H, W)
        Constant features that the teacher gives for the images *without* augmentation.
    terms : str
        Of the sum: ``"front+rear+task"`` is ELF (Equation 9); ``"rear+task"``, ``"front+task"`` and
        ``"front+rear"`` are the rows (a), (b) and (c) of Table 9.
    distance : str
        Between student and teacher features (Table 12), see :func:`feature_distance`.
    lambda_front, lambda_rear : float
        Weights of the front and the rear term.
    variant : str
        ``"official"`` does what the official code does: ``front+task`` always uses the cross-entropy as
        distance, and ``front+rear`` leaves ``lambda_rear`` out. ``"paper"`` applies ``distance`` and
        ``lambda_rear`` throughout. They agree for the other terms and at the default settings.

    Returns
    -------
    Tensor of shape ()

    Raises
    ------
    ElfError
        If a setting has an unknown name, or the features do not have the shape of the front's output.

    Notes
    -----
    Equations 6 to 8 print sums over images; the official code takes means, and so do both variants here. The
    learning rate of the paper belongs to means: with sums every step would be up to 256 times as long, and
    the weight of the last, incomplete batch would depend on its size.
    """
    if terms not in get_args(Terms):
        raise ElfError(f"unknown terms {terms!r} of the ELF loss; allowed: {', '.join(get_args(Terms))}")
    if variant not in get_args(Variant):
        raise ElfError(f"unknown variant {variant!r} of the ELF loss; allowed: {', '.join(get_args(Variant))}")
    if variant == "official" and terms == "front+task":
        distance = "ce"
    if variant == "official" and terms == "front+rear":
        lambda_rear = 1.0

    features = network.front(images)
    _check_shapes(features, targets)
    logits = network.rear(features)
    # After the image pass and even where its output is unused, as in the official code: batch norms in the
    # rear count the teacher's features as the last batch of the step.
    teacher_logits = network.rear(targets)

    kept = terms.split("+")
    total = features.new_zeros(())
    if "task" in kept:
        total = total + task_loss(logits, labels)  # Equation 8
    if "front" in kept:
        total = total + lambda_front * feature_distance(features, targets, distance)  # Equation 6
    if "rear" in kept:
        total = total + lambda_rear * task_loss(teacher_logits, labels)  # Equation 7
    return total  # Equation 9


def lowest(
    labels: Tensor,
    targets: Tensor,
    *,
    terms: Terms = "front+rear+task",
    distance: Distance = "ce",
    lambda_rear: float = 1.0,
    variant: Variant = "official",
    **settings: float,
) -> float:
    """Return a value that the loss does not fall below, whatever the network gives; minus infinity if there is none.

    The arguments are those of :func:`loss`, without network and images. No term is below 0 unless it is a cross-entropy
    with negative targets.
    """
    kept = terms.split("+")
    as_ce = distance == "ce" or (variant == "official" and terms == "front+task")
    parts = [lowest_cross_entropy(labels)] if "task" in kept or lambda_rear else []
    parts += [lowest_cross_entropy(targets)] if "front" in kept and as_ce else []
    return min(parts, default=0.0)


def feature_distance(features: Tensor, targets: Tensor, distance: Distance) -> Tensor:
    """Return the distance between student and teacher features (Table 12 of the ELF paper).

    Parameters
    ----------
    features, targets : Tensor of shape (B, C, H, W)
        Student features, and the teacher's, which are non-negative and of any size.
    distance : str
        ``"ce"``: cross-entropy over the channels, ``-sum_c F_c log softmax(z)_c``, averaged over images and
        positions. Only the student's features pass a softmax; the target is deliberately not normalised,
        so that the loss grows with the teacher's activations.
        ``"mae"``, ``"mse"``: mean absolute and mean squared difference over all elements.
        ``"cos"``: one minus the cosine between the two *batches*, each flattened into a single vector, with
        1e-6 added to the denominator; it depends on which images share a batch.

    Returns
    -------
    Tensor of shape ()

    Raises
    ------
    ElfError
        If the distance has an unknown name.
    """
    # In mixed precision the student's features come with fewer digits; the distance is computed with all.
    features = features.to(targets.dtype)
    if distance == "ce":
        return functional.cross_entropy(features, targets)
    if distance == "mae":
        return functional.l1_loss(features, targets)
    if distance == "mse":
        return functional.mse_loss(features, targets)
    if distance == "cos":
        student, teacher = features.flatten(), targets.flatten()
        return 1 - student.dot(teacher) / (student.norm() * teacher.norm() + 1e-6)
    raise ElfError(f"unknown distance {distance!r} of the ELF loss; allowed: {', '.join(get_args(Distance))}")


def _check_shapes(features: Tensor, targets: Tensor) -> None:
    # PyTorch would broadcast mismatched features in the elementwise distances without an error.
    if features.shape != targets.shape:
        raise ElfError(
            f"the teacher's features have shape {tuple(targets.shape)}, the front of the network gives "
            f"{tuple(features.shape)}; take features of a teacher whose width and split match this network"
        )

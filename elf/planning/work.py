"""How much a job computes: operations and calls of network layers, from its specification alone."""

import math
from collections.abc import Collection
from dataclasses import dataclass

from elf.specs.counting import Counts, Part, counts
from elf.specs.dataset import DatasetSpec
from elf.specs.evaluation import EvaluationSpec
from elf.specs.expert import ExpertSpec
from elf.specs.features import FeaturesSpec
from elf.specs.teacher import TeacherSpec
from elf.specs.training import FrepoRecipe, TrainingRecipe

TEST_BATCH = 256
"""Images that networks see at once where nothing is learned."""

FREPO_STEPS = {10: 1000, 100: 2000, 200: 20000, 400: 5000, 500: 5000, 1000: 10000, 2000: 40000, 5000: 40000}
"""Repeated from elf/training/frepo.py, which cannot be read without PyTorch."""


CALLS_OF_A_PART = 0.1
"""What a further part of a batch takes in a batch normalisation, as a multiple of the call of a layer. Measured with
three narrow networks on one core: 0.06 to 0.26."""


@dataclass(frozen=True)
class Sizes:
    """How large a dataset is.

    Attributes
    ----------
    classes, train, test : int
        Number of classes, of training and of test images.
    side : int
        Height and width of the images in pixels.
    """

    classes: int
    train: int
    test: int
    side: int

    @property
    def values(self) -> int:
        """Numbers of one image."""
        return 3 * self.side**2

    def without(self, held_out_per_class: int) -> "Sizes":
        """Return the size without training images that are held out."""
        return Sizes(self.classes, self.train - held_out_per_class * self.classes, self.test, self.side)


@dataclass(frozen=True)
class Work:
    """Work of a job or of a part of it.

    Attributes
    ----------
    flops : float
        Operations of convolutions and linear layers, a multiplication with its addition counting two.
    values : float
        Numbers of the images that networks are trained with: augmentation goes with them, not with the operations.
    calls : float
        How often such a layer is called, a backward pass counting twice: what remains of the time where the layers
        are too small to keep the device busy.
    """

    flops: float = 0.0
    values: float = 0.0
    calls: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(self.flops + other.flops, self.values + other.values, self.calls + other.calls)

    def __mul__(self, times: float) -> "Work":
        return Work(self.flops * times, self.values * times, self.calls * times)


def passes(part: Part | Counts, images: float, batches: float, times: float = 1.0, spared: float = 0.0) -> Work:
    """Return the work of a network on ``images`` in ``batches``.

    Parameters
    ----------
    part : Part or Counts
    images, batches : float
    times, spared : float
        Multiples of its forward pass, and of its first layer, which are left out of that.
    """
    flops, first = (part.flops, part.first) if isinstance(part, Part) else (part.forward, part.front.first)
    return Work(
        images * (times * flops - spared * first),
        # An image of a training step, of three passes, is augmented once; where pixels are learned, gradients go back
        # through the augmentation, too.
        images * part.values * times / 3,
        batches * (times * part.layers - spared),
    )


def updates(part: Part | Counts, images: float, batches: float) -> Work:
    """Return the work of gradient descent on ``images`` in ``batches``: forward, and backward to the weights."""
    return passes(part, images, batches, 3.0, 1.0)


def training(network: Counts, images: int, recipe: TrainingRecipe, completed: int | None = None) -> Work:
    """Return the work of a training by stochastic gradient descent.

    Parameters
    ----------
    network : Counts
    images : int
    recipe : TrainingRecipe
    completed : int or None
        Passes after which it stops; None for all.
    """
    rounds = recipe.passes if completed is None else min(completed, recipe.passes)
    batches = math.ceil(images / recipe.batch_size)
    parts = Work(calls=3.0 * batches * network.batch_norms * (recipe.splits - 1) * CALLS_OF_A_PART)
    return (updates(network, images, batches) + parts) * rounds


def test(network: Counts | Part, images: int) -> Work:
    """Return the work of a forward pass over images without learning."""
    return passes(network, images, math.ceil(images / TEST_BATCH))


def expert_work(spec: ExpertSpec, sizes: Sizes) -> Work | None:
    """Return the work of an expert's training; None where the network cannot be counted."""
    network = counts(spec.network, classes=sizes.classes, side=sizes.side)
    images = sizes.without(spec.held_out_per_class).train
    return network and training(network, images, spec.recipe, max(spec.epochs))


def teacher_work(spec: TeacherSpec, sizes: Sizes, epochs: Collection[int]) -> Work | None:
    """Return the work of a teacher's training until the last of the epochs that are kept, each with a test."""
    network = counts(spec.network, classes=sizes.classes, side=sizes.side)
    if network is None:
        return None
    return training(network, sizes.train, spec.recipe, max(epochs)) + test(network, sizes.test) * len(epochs)


def features_work(spec: FeaturesSpec, sizes: Sizes, images: int) -> Work | None:
    """Return the work of a teacher that looks at synthetic images."""
    network = counts(spec.teacher_network, classes=sizes.classes, side=sizes.side)
    return network and test(network, images)


def evaluation_work(spec: EvaluationSpec, sizes: Sizes, images: int) -> Work | None:
    """Return the work of all seeds of a shard, tests included; None where it cannot be counted."""
    network = counts(spec.network, classes=sizes.classes, side=sizes.side)
    if network is None:
        return None
    if isinstance(spec.recipe, FrepoRecipe):
        size = min(images, spec.recipe.batch_size)
        steps = spec.recipe.steps or FREPO_STEPS.get(images)
        if steps is None:
            return None
        trained = updates(network, size, 1) * steps
    else:
        trained = training(network, images, spec.recipe)
        if spec.objective.about.NEEDS == "features":
            batches = math.ceil(images / spec.recipe.batch_size)
            # Another loss with features is taken to use them as ELF does.
            terms = spec.objective.settings.get("terms", "front+rear+task")
            trained += _elf_extra(network, terms.split("+"), images, batches) * spec.recipe.passes
    return (trained + test(network, sizes.test)) * len(spec.seeds)


def _elf_extra(network: Counts, terms: list[str], images: int, batches: int) -> Work:
    """Return what ELF computes in a pass besides the task: the rear also sees the teacher's features."""
    rear = network.rear
    extra = updates(rear, images, batches) if "rear" in terms else passes(rear, images, batches)
    # Without the task, nothing goes back through the rear from the images' own logits.
    return extra if "task" in terms else extra + passes(rear, images, batches, -2.0)


def dataset_work(spec: DatasetSpec, sizes: Sizes) -> Work:
    """Return the work of preparing a dataset: a call an image, and the products of a whitening."""
    images = sizes.train + sizes.test
    # The covariance, its eigenvectors (some 10 operations a cube) and two products with them.
    whitening = 2.0 * sizes.train * sizes.values**2 + 14.0 * sizes.values**3
    flops = whitening if spec.normalisation.endswith("zca") else 0.0
    return Work(flops, images * sizes.values, images)

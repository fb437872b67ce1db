"""How much memory of a device an evaluation or a distillation by MTT takes, from its specification alone."""

from elf.planning.work import Sizes
from elf.specs.counting import Counts, counts
from elf.specs.evaluation import EvaluationSpec
from elf.specs.network import LARGE_SIDE, may_have_batch_norm, parse
from elf.specs.synthetic import SyntheticSpec
from elf.specs.unrolling import LIBRARY, NUMBER, steps_at_once, unroll_bytes

STATES_ALONE = 4
"""Numbers for each parameter: itself, its gradient, its momentum, and its gradient with the decay of the weights."""
STATES_AT_ONCE = 5
"""The same, and the network that the result is written into."""

MAPS_ALONE = 2.5
"""Maps that are alive at the busiest moment of a step, as a multiple of those of all convolutions."""
MAPS_AT_ONCE = 4.5
"""The same where networks are trained at once: their maps are copied to lie side by side."""
# Both were measured; networks differ in them, so that an estimate is off by up to two thirds. Batch normalisation in
# parts takes no more: what it copies is gone before the busiest moment.


def evaluation_bytes(spec: EvaluationSpec, sizes: Sizes, images: int) -> int | None:
    """Return about the most memory that an evaluation takes on a GPU; None where the network cannot be counted.

    Of the test images' way through the network nothing is counted.

    Parameters
    ----------
    spec : EvaluationSpec
    sizes : Sizes
        Of the dataset.
    images : int
        Number of synthetic images.
    """
    network = counts(spec.network, classes=sizes.classes, side=sizes.side)
    if network is None:
        return None
    batch = min(images, spec.recipe.batch_size)
    elf = spec.objective.about.NEEDS == "features"
    networks = len(spec.seeds) if at_once(spec, sizes.side, images) else 1
    resident = NUMBER * sizes.values * (images + sizes.test)
    return LIBRARY + resident + training_bytes(network, batch, networks, rear_sees_features=elf)


def distillation_bytes(spec: SyntheticSpec, sizes: Sizes) -> int | None:
    """Return about the most memory that a distillation takes on a GPU; None for those that are not unrolled.

    Parameters
    ----------
    spec : SyntheticSpec
    sizes : Sizes
        Of the dataset, with the images that are held out.
    """
    if spec.recipe.get("gradient") != "unrolled":
        return None
    network = counts(spec.network, classes=sizes.classes, side=sizes.side)
    if network is None:
        return None
    recipe, images = spec.recipe, sizes.classes * spec.ipc
    given = {"images": images, "train": sizes.without(spec.held_out_per_class).train}
    steps = steps_at_once(recipe, spec.network, classes=sizes.classes, side=sizes.side, **given)
    given |= {"batch": min(int(recipe["batch_syn"]) or images, images), "steps": int(recipe["synthetic_steps"])}
    return unroll_bytes(network, spec.network, at_once=steps, **given)


def at_once(spec: EvaluationSpec, side: int, images: int) -> bool:
    """Return whether a GPU trains the networks of all seeds at once; see `elf.stages.evaluate`."""
    name = parse(spec.network)
    has_dropout = name.family == "torchvision" or (name.family == "vgg11" and side >= LARGE_SIDE)
    can_be = spec.objective.about.RECIPE == "evaluation" and not has_dropout
    if can_be and may_have_batch_norm(name):
        can_be = spec.recipe.smallest_part(images) > 1
    return can_be and spec.wants_seeds_at_once(images, on_gpu=True)


def training_bytes(network: Counts, batch: int, networks: int, *, rear_sees_features: bool) -> int:
    """Return about the most memory of a step of stochastic gradient descent.

    Parameters
    ----------
    network : Counts
    batch : int
        Images.
    networks : int
        Trained at once.
    rear_sees_features : bool
        Whether a second batch passes the rear, the features of a teacher.
    """
    states, multiple = (STATES_ALONE, MAPS_ALONE) if networks == 1 else (STATES_AT_ONCE, MAPS_AT_ONCE)
    maps = network.front.maps + network.rear.maps * (2 if rear_sees_features else 1)
    # A batch is there as it is, augmented, and once more in between.
    numbers = states * network.parameters + batch * (multiple * maps + 3 * network.values)
    return round(NUMBER * networks * numbers)

"""How many steps of MTT's student have a graph at once, from the specification alone, so that plan and job agree."""

from collections.abc import Mapping

from elf.specs.counting import Counts, counts
from elf.specs.network import parse

NUMBER = 4
"""Bytes of a number in float32."""

LIBRARY = 430_000_000
"""Bytes that convolutions work in, whatever the network, measured on an H100."""

LARGEST_RESIDENT = 2**33
"""Repeated from elf/data/normalised.py, for a GPU: real images of more bytes than these stay in their file."""

BUSIEST_OF_INSTANCE_NORMS, KEPT_OF_INSTANCE_NORMS = 4.3, 2.7
BUSIEST, KEPT = 7.2, 4.4
"""Maps that are alive while one step is differentiated twice, and those that each step of a graph keeps besides, as
multiples of the maps of all convolutions. Measured as live bytes on a CPU: the first pair on ConvNets with instance
normalisation, the second on ConvNets with batch normalisation; it also covers VGG11, and more than covers ResNet18."""

VECTORS, VECTORS_OF_A_STEP = 6, 4
"""Vectors of all parameters that are alive besides the states that are kept, in all and for each step of a graph."""


def steps_at_once(recipe: Mapping, network: str, *, classes: int, side: int, images: int, train: int) -> int:
    """Return how many steps of a student have a graph at once: as many as ``memory_budget_gb`` holds, at least one.

    Parameters
    ----------
    recipe : mapping
        ``synthetic_steps``, ``batch_syn`` and ``memory_budget_gb``, in 10^9 bytes; without the last, all steps.
    network : str
    classes, side : int
    images, train : int
        Synthetic and real images; the real ones lie on the device, too.
    """
    steps = int(recipe["synthetic_steps"])
    if "memory_budget_gb" not in recipe:
        return steps
    network_counts = counts(network, classes=classes, side=side)
    if network_counts is None:
        # What cannot be counted goes the way that needs least.
        return 1
    budget = float(recipe["memory_budget_gb"]) * 1e9
    batch = min(int(recipe["batch_syn"]) or images, images)
    given = {"images": images, "train": train, "batch": batch, "steps": steps}
    fitting = (n for n in range(steps, 1, -1) if unroll_bytes(network_counts, network, at_once=n, **given) <= budget)
    return next(fitting, 1)


def unroll_bytes(
    counted: Counts, network: str, *, images: int, train: int, batch: int, steps: int, at_once: int
) -> int:
    """Return about the most memory that an update of MTT takes on a GPU, with the images that lie there.

    Parameters
    ----------
    counted : Counts
        Of the network.
    network : str
    images, train : int
        Synthetic and real images.
    batch : int
        Synthetic images of a step.
    steps, at_once : int
        Of the student, and how many of them have a graph at once.
    """
    name = parse(network)
    is_light = name.family == "convnet" and name.norm == "in"
    busiest, kept = (BUSIEST_OF_INSTANCE_NORMS, KEPT_OF_INSTANCE_NORMS) if is_light else (BUSIEST, KEPT)
    maps = batch * (counted.front.maps + counted.rear.maps)
    states = steps // at_once + 1
    numbers = (
        (busiest + kept * at_once) * maps
        + (states + VECTORS + VECTORS_OF_A_STEP * at_once) * counted.parameters
        # As they are, their velocity, their gradient and its sum; and the batches, as drawn and augmented.
        + (5 * images + 3 * batch * at_once) * counted.values
    )
    real = NUMBER * train * counted.values
    return round(LIBRARY + (real if real <= LARGEST_RESIDENT else 0) + NUMBER * numbers)


def redone(steps: int, at_once: int) -> int:
    """Return how many steps are computed a second time, always the first ones: all but those of the last segment."""
    return max(0, steps - at_once)

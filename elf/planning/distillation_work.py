"""How much a distillation computes: closed forms of the loops in ``elf/distillation``.

In multiples of the forward pass F of a network and of its first layer f, whose input nobody differentiates with respect
to while weights are asked for: a gradient of the weights costs 3 F - f; that of the pixels alone 2 F; the gradient of a
gradient with respect to the pixels 7 F - f, which are the inner gradient and one more pass through each of its
operations; in the unrolled trajectory of MTT, where the weights depend on the pixels, too, 9 F - 3 f, and 3 F - f more
for each step that is computed a second time, because the graph of all has no room in the budget.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from elf.planning.work import FREPO_STEPS, Sizes, Work, passes, test, updates
from elf.specs.counting import MULTIPLY_ADD, Counts, counts
from elf.specs.network import parse
from elf.specs.synthetic import SyntheticSpec
from elf.specs.unrolling import redone, steps_at_once

PIXELS = (2.0, 0.0)
TWICE = (7.0, 1.0)
TWICE_UNROLLED = (9.0, 3.0)
WALKED_TWICE = (10.0, 2.0)
"""Multiples of F and f; TESLA walks each step once for the gradient and once more for the gradient of it."""

LLOYD_ITERATIONS = 30
"""Assumed rounds of k-means until nothing changes; how many there are depends on the images."""


def distillation_work(spec: SyntheticSpec, sizes: Sizes) -> Work | None:
    """Return the work of making a synthetic set; None where it is not known.

    Parameters
    ----------
    spec : SyntheticSpec
    sizes : Sizes
        Of the dataset, with the images that are held out.
    """
    method = METHODS.get(spec.module)
    if method is None:
        return None
    real = sizes.without(spec.held_out_per_class)
    network = spec.network and counts(spec.network, classes=sizes.classes, side=sizes.side)
    if spec.network and network is None:
        return None
    work = method(spec.recipe, network, spec.ipc, real, spec.network)
    return work + _selection(spec, sizes) if spec.recipe.get("selection", "final") != "final" else work


def _dm(recipe: Mapping, network: Counts, ipc: int, sizes: Sizes, name: str | None) -> Work:
    real = _real(int(recipe["batch_real"]), sizes)
    update = test(network.front, real) + passes(network.front, sizes.classes * ipc, 1, *PIXELS)
    return update * (int(recipe["iterations"]) + 1)


def _dsa(recipe: Mapping, network: Counts, ipc: int, sizes: Sizes, name: str | None) -> Work:
    iterations, outer = int(recipe["iterations"]) + 1, int(recipe["outer_loop"])
    images = sizes.classes * ipc
    match = updates(network, _real(int(recipe["batch_real"]), sizes), sizes.classes)
    match += passes(network, images, sizes.classes, *TWICE)
    if parse(name).norm == "bn":
        match += test(network, _real(int(recipe["bn_real"]), sizes))
    inner = updates(network, images, math.ceil(images / int(recipe["batch_inner"]))) * int(recipe["inner_loop"])
    return match * (iterations * outer) + inner * (iterations * (outer - 1))


def _trajectories(multiples: tuple[float, float]) -> Callable[..., Work]:
    def work(recipe: Mapping, network: Counts, ipc: int, sizes: Sizes, name: str | None) -> Work:
        images = sizes.classes * ipc
        steps, batch = int(recipe["synthetic_steps"]), int(recipe["batch_syn"]) or images
        of_step = WALKED_TWICE if recipe.get("gradient") == "constant-memory" else multiples
        update = passes(network, _seen(images, batch, steps), steps, *of_step)
        if recipe.get("gradient") == "unrolled":
            again = redone(steps, steps_at_once(recipe, name, images=images, **_of(sizes)))
            update += updates(network, _seen(images, batch, again), again)
        if recipe.get("soft_labels"):
            update += test(network, images)
        return update * (int(recipe["iterations"]) + 1)

    return work


def _of(sizes: Sizes) -> dict[str, int]:
    return {"classes": sizes.classes, "side": sizes.side, "train": sizes.train}


def _seen(images: int, batch: int, steps: int) -> int:
    """Return how many images a student sees in its steps: permutations of all, cut into batches, the rest first."""
    sizes = [min(batch, images - start) for start in range(0, images, batch)][::-1]
    rounds, rest = divmod(steps, len(sizes))
    return rounds * images + sum(sizes[:rest])


def _frepo(recipe: Mapping, network: Counts, ipc: int, sizes: Sizes, name: str | None) -> Work:
    images, real = sizes.classes * ipc, min(int(recipe["batch_real"]), sizes.train)
    shown = images * (2 if recipe["mirror"] else 1)
    dimensions = network.rear.first // (MULTIPLY_ADD * sizes.classes)
    # The kernel forward and backward, its factorisation with the gradient of it, and the predictions.
    kernel = 3 * MULTIPLY_ADD * shown**2 * dimensions + 4 * shown**3 / 3
    predictions = 3 * MULTIPLY_ADD * (shown + real) * dimensions * sizes.classes
    online = updates(network, min(images, int(recipe["batch_online"])), 1)
    update = test(network.front, real) + passes(network.front, shown, 1, *PIXELS) + Work(kernel + predictions) + online
    return update * int(recipe["iterations"])


def _nothing(*_) -> Work:
    return Work()


def _greedy(recipe: Mapping, network: None, ipc: int, sizes: Sizes, name: None) -> Work:
    return Work(
        MULTIPLY_ADD * sizes.train * sizes.values * (ipc + 1.0), sizes.train * sizes.values, sizes.classes * ipc
    )


def _k_means(recipe: Mapping, network: None, ipc: int, sizes: Sizes, name: None) -> Work:
    rounds = LLOYD_ITERATIONS * int(recipe["starts"])
    numbers = sizes.train * sizes.values
    return Work(MULTIPLY_ADD * numbers * ipc * float(rounds), numbers, sizes.classes * rounds)


METHODS: dict[str, Callable[..., Work]] = {
    "dm": _dm,
    "dsa": _dsa,
    "mtt": _trajectories(TWICE_UNROLLED),
    "tesla": _trajectories(WALKED_TWICE),
    "frepo": _frepo,
    "random": _nothing,
    "imported": _nothing,
    "herding": _greedy,
    "k_center": _greedy,
    "k_means": _k_means,
}
"""From the module of a method to its work; a method that is not here is not estimated."""


def _real(batch: int, sizes: Sizes) -> int:
    """Return how many real images all classes together give to an update."""
    return sizes.classes * min(batch, sizes.train // sizes.classes)


def _selection(spec: SyntheticSpec, sizes: Sizes) -> Work:
    """Return the work of scoring candidates: networks trained on each and tested on what is held out."""
    recipe, images = spec.recipe, sizes.classes * spec.ipc
    name = parse(spec.network)
    if name.norm == "bn" and spec.module != "dm":
        name = replace(name, norm="none" if name.family == "frepoconv" else "in")
    network = counts(str(name), classes=sizes.classes, side=sizes.side)
    if spec.module == "frepo":
        steps = int(recipe["selection_steps"]) or FREPO_STEPS.get(images, 0)
        trained = updates(network, min(images, 500), 1) * steps
    else:
        trained = updates(network, images, math.ceil(images / 256)) * (int(recipe["selection_epochs"]) + 1)
    held_out = sizes.classes * spec.held_out_per_class or sizes.test
    # FrePo counts its iterations, the others name the last one.
    iterations = int(recipe["iterations"]) + (spec.module != "frepo")
    candidates = iterations // int(recipe["selection_every"])
    return (trained + test(network, held_out)) * (candidates * int(recipe["selection_networks"]))

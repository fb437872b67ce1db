"""How many images go through networks while a synthetic set is made; `elf.training.images_seen` says what counts."""

from collections.abc import Callable, Mapping

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from elf.distillation.of_frepo.pool import AGE_STEP
from elf.distillation.shared.synthetic import RealImages, indices_by_class
from elf.distillation.shared.trajectories import draw_steps
from elf.machine.randomness import generator
from elf.networks.building import build_network
from elf.specs.synthetic import SyntheticSpec
from elf.specs.unrolling import redone, steps_at_once
from elf.training.frepo import STEPS


def images_distilled(spec: SyntheticSpec, real: RealImages, scored_on: int = 0) -> int | None:
    """Return how many images a distillation sends through networks, those that score its candidates included.

    Parameters
    ----------
    spec : SyntheticSpec
    real : RealImages
        What the method sees, without the images that are held out.
    scored_on : int
        Images that every scoring network is tested on.

    Returns
    -------
    int or None
        None for methods without networks, and for those that are not in ``METHODS``.
    """
    count = METHODS.get(spec.module)
    if count is None:
        return None
    selected = spec.recipe.get("selection", "final") != "final"
    return count(spec, real) + (_scoring(spec, real.classes * spec.ipc, scored_on) if selected else 0)


def _dm(spec: SyntheticSpec, real: RealImages) -> int:
    return _updates(spec) * (_sampled(real, spec.recipe["batch_real"]) + real.classes * spec.ipc)


def _dsa(spec: SyntheticSpec, real: RealImages) -> int:
    settings, synthetic = spec.recipe, real.classes * spec.ipc
    outer = int(settings["outer_loop"])
    match = _sampled(real, settings["batch_real"]) + synthetic
    if _has_batch_norm(spec, real):
        match += _sampled(real, settings["bn_real"])
    # The network is not trained after the last step of an iteration.
    return _updates(spec) * (outer * match + (outer - 1) * int(settings["inner_loop"]) * synthetic)


def _trajectories(spec: SyntheticSpec, real: RealImages) -> int:
    settings, synthetic = spec.recipe, real.classes * spec.ipc
    # Which images a step takes is random, how many is not.
    streams = torch.Generator(), torch.Generator()
    steps = draw_steps(synthetic, real.images.shape[-1], settings, *streams, torch.device("cpu"))
    labelled = synthetic if settings.get("soft_labels") else 0
    # In constant memory the trajectory is walked twice; the unrolled one as far as there is no room for its graph.
    again = len(steps)
    if settings.get("gradient") == "unrolled":
        sizes = {"classes": real.classes, "side": real.images.shape[-1], "train": len(real.labels)}
        again = redone(len(steps), steps_at_once(settings, spec.network, images=synthetic, **sizes))
    return _updates(spec) * (sum(len(step.indices) for step in [*steps, *steps[:again]]) + labelled)


def _frepo(spec: SyntheticSpec, real: RealImages) -> int:
    settings, synthetic = spec.recipe, real.classes * spec.ipc
    regression = min(int(settings["batch_real"]), len(real.labels)) + synthetic * (2 if settings["mirror"] else 1)
    online = min(int(settings["batch_online"]), synthetic)
    return _updates(spec) * regression + _online_steps(settings, spec.seed) * online


def _online_steps(settings: Mapping, seed: int) -> int:
    """Return how many updates train a network of FrePo's pool; the others replace one that is too old."""
    choice = generator(seed, "distillation", "choice of the network")
    ages = [AGE_STEP * index for index in range(int(settings["pool_size"]))]
    replaced = 0
    for _ in range(int(settings["iterations"])):
        chosen = int(torch.randint(len(ages), (), generator=choice))
        is_old = ages[chosen] > int(settings["online_steps"])
        ages[chosen] = 0 if is_old else ages[chosen] + 1
        replaced += is_old
    return int(settings["iterations"]) - replaced


METHODS: dict[str, Callable[[SyntheticSpec, RealImages], int]] = {
    "dm": _dm,
    "dsa": _dsa,
    "mtt": _trajectories,
    "tesla": _trajectories,
    "frepo": _frepo,
}
"""From the module of a method to the images of its updates."""


def _updates(spec: SyntheticSpec) -> int:
    """Return the number of updates, of DSA that of iterations: FrePo's recipe counts them, others name the last."""
    return int(spec.recipe["iterations"]) + (spec.module != "frepo")


def _sampled(real: RealImages, per_class: object) -> int:
    return sum(min(int(per_class), len(members)) for members in indices_by_class(real))


def _has_batch_norm(spec: SyntheticSpec, real: RealImages) -> bool:
    side = real.images.shape[-1]
    network = build_network(spec.network, classes=real.classes, side=side, generator=torch.Generator())
    return any(isinstance(module, _BatchNorm) for module in network.modules())


def _scoring(spec: SyntheticSpec, synthetic: int, scored_on: int) -> int:
    """Return the images of all networks that are trained on candidates and tested."""
    settings = spec.recipe
    if spec.module == "frepo":
        # A set of another size has no number of steps; the method says so when it comes to its first candidate.
        trained = (int(settings["selection_steps"]) or STEPS.get(synthetic, 0)) * min(synthetic, 500)
    else:
        trained = (int(settings["selection_epochs"]) + 1) * synthetic
    candidates = _updates(spec) // int(settings["selection_every"])
    return candidates * int(settings["selection_networks"]) * (trained + scored_on)

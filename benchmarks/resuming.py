"""How large the files are from which interrupted jobs continue, from specifications alone."""

from elf.planning.costs import Surroundings
from elf.planning.sizes import HEADER, expert_bytes, synthetic_bytes
from elf.planning.work import Sizes
from elf.specs.counting import Counts, counts
from elf.specs.synthetic import SyntheticSpec
from elf.specs.training import FrepoRecipe
from elf.status.jobs import Job


def resume_bytes(job: Job, around: Surroundings) -> int | None:
    """Return the size of a job's checkpoint at its largest, which is the last one.

    Trainings save the network and its momenta, experts and teachers also all that they have kept so far; methods save
    the images, their momenta, and the networks that they go on with. States of random streams, 5 kB each, and what a
    selection holds are left out.

    Parameters
    ----------
    job : Job
    around : Surroundings

    Returns
    -------
    int or None
        Bytes; 0 for jobs without a checkpoint, None where the network cannot be counted.
    """
    if job.kind not in ("experts", "teacher trainings", "synthetic sets", "evaluations"):
        return 0
    sizes = around.sizes_for(job.spec)
    if sizes is None:
        return None
    name = job.spec.network
    network = name and counts(name, classes=sizes.classes, side=sizes.side)
    if name and network is None:
        return None
    if job.kind == "synthetic sets":
        return _of_distillation(job.spec, sizes, network)
    # The momenta of gradient descent, or both moments of FrePo's Adam.
    moments = 2 if isinstance(job.spec.recipe, FrepoRecipe) else 1
    training = network.state_bytes + moments * 4 * network.parameters + HEADER
    if job.kind == "experts":
        return training + expert_bytes(job.spec, sizes)
    return training + network.state_bytes * (len(job.epochs) if job.kind == "teacher trainings" else 0)


def _of_distillation(spec: SyntheticSpec, sizes: Sizes, network: Counts | None) -> int:
    if network is None:
        return 0
    images = synthetic_bytes(spec, sizes)
    if spec.module == "frepo":
        # Both moments of images and labels, and a pool of networks with both moments of Adam.
        return 3 * images + int(spec.recipe["pool_size"]) * (network.state_bytes + 8 * network.parameters)
    return 2 * images + (network.state_bytes if spec.module == "dsa" else 0)

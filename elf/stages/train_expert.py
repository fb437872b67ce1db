"""Train an expert on the real images and keep its parameters at the epochs that synthetic sets are matched to."""

import torch
from torch import Tensor

from elf.artifacts.code import train_expert_code
from elf.artifacts.manifest import describe
from elf.artifacts.tensors import write_tensors
from elf.data.normalised import Images
from elf.distillation.shared.synthetic import RealImages, hold_out
from elf.errors import ElfError
from elf.machine.progress import reporter
from elf.machine.randomness import generator
from elf.networks.building import build_network
from elf.networks.flat import flatten
from elf.running.inputs import check_settings, read_split
from elf.running.job import Job, arguments_of, parse_spec
from elf.specs.expert import ExpertSpec
from elf.training.course import Checkpoint
from elf.training.images_seen import images_trained
from elf.training.keeping import Keeping
from elf.training.protocol import train


def train_expert(
    spec: ExpertSpec, images: Images, labels: Tensor, classes: int, checkpoint: Checkpoint | None = None
) -> dict[int, Tensor]:
    """Train until the last epoch that is asked for and return the snapshots.

    Parameters
    ----------
    spec : ExpertSpec
    images : Tensor or NormalisedImages, shape (n, 3, side, side)
        In model-input space, on the device on which to train; without those that are held out.
    labels : Tensor of shape (n,)
        int64 class indices.
    classes : int
    checkpoint : Checkpoint or None
        Where to continue from.

    Returns
    -------
    dict of int to Tensor of shape (P,)
        By completed epochs; parameters without buffers, on the CPU, in the number format of the recipe.

    Raises
    ------
    ElfError
        If the recipe has fewer epochs than are asked for, or if the training diverges.
    """
    outside = [epoch for epoch in spec.epochs if not 0 <= epoch <= spec.recipe.passes]
    if outside:
        raise ElfError(f"epochs: found {outside[0]}, allowed are 0 to {spec.recipe.passes}")
    network = build_network(
        spec.network,
        classes=classes,
        side=images.shape[-1],
        generator=generator(spec.index, "expert", "initialisation"),
    ).to(images.device)
    keeping = Keeping(checkpoint)

    def keep(completed: int) -> None:
        if completed in spec.epochs:
            snapshot = flatten(network).to("cpu", getattr(torch, spec.recipe.storage))
            keeping.kept[completed] = {"parameters": snapshot}

    keep(0)
    train(
        network,
        images,
        labels,
        spec.recipe,
        order_generator=generator(spec.index, "expert", "order"),
        augmentation_generator=generator(spec.index, "expert", "augmentation"),
        after_pass=lambda index: keep(index + 1),
        progress=reporter(f"expert {spec.dataset}/{spec.network}/{spec.index}", total=max(spec.epochs)),
        checkpoint=keeping,
        until_pass=max(spec.epochs),
    )
    return {epoch: kept["parameters"] for epoch, kept in sorted(keeping.kept.items())}


def main(argv: list[str]) -> None:
    """Run the stage from the command line."""
    parser = arguments_of("train-expert", __doc__, dataset="input: prepared dataset", expert="output")
    arguments = parser.parse_args(argv)
    spec = parse_spec(ExpertSpec, arguments.settings)
    job = Job(arguments, train_expert_code(spec))
    split = read_split(arguments.dataset, "train", job.device)
    check_settings(arguments.dataset, split.manifest, name=spec.dataset)
    checkpoint = job.checkpoint(arguments.expert, spec.canonical(), split.manifest["id"])
    try:
        real, _ = hold_out(RealImages(split.images, split.labels, split.classes), spec.held_out_per_class)
        kept = train_expert(spec, real.images, real.labels, real.classes, checkpoint)
    except ElfError as error:
        raise ElfError(f"{spec.path}: {error}") from error
    manifest = describe(
        "expert trajectory",
        spec.model_dump(mode="json") | {"classes": split.classes, "side": split.side},
        inputs={"dataset": split.manifest},
        code=job.code,
        measured=job.measured(images_trained(spec.recipe, len(real.images), max(spec.epochs))),
    )
    write_tensors(arguments.expert, {f"epoch{epoch}": snapshot for epoch, snapshot in kept.items()}, manifest)
    checkpoint.remove()

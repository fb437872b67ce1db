"""Evaluate a synthetic set: train networks on it, one for each seed, and test them on real images."""

import importlib
import logging
from functools import partial
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from elf.artifacts.code import evaluate_code
from elf.artifacts.manifest import Manifest, describe
from elf.artifacts.tables import write_table
from elf.errors import ElfError
from elf.machine.progress import reporter
from elf.machine.randomness import generator
from elf.networks.building import build_network
from elf.networks.split import SplitNetwork
from elf.objectives.labels import entering, label_kind
from elf.running.inputs import Split, check_made_from, check_settings, read_features, read_split, read_synthetic_set
from elf.running.job import Job, arguments_of, parse_spec
from elf.specs.evaluation import EvaluationSpec
from elf.specs.objective import OBJECTIVES
from elf.specs.shard import MEASURED, SHARD
from elf.specs.training import FrepoRecipe
from elf.training import frepo as frepo_evaluation
from elf.training import seeds_at_once as seed_batched
from elf.training.images_seen import images_trained
from elf.training.protocol import accuracy, train
from elf.training.step import Objective

log = logging.getLogger(__name__)


def evaluate(
    spec: EvaluationSpec, seed: int, images: Tensor, labels: Tensor, targets: Tensor | None, test: Split, checkpoint
) -> float:
    """Train one network on a synthetic set and return its accuracy on the test set.

    The networks of two objectives with the same seed start from the same weights and see the same batches
    and augmentations, so that objectives can be compared seed by seed.

    Parameters
    ----------
    spec : EvaluationSpec
    seed : int
        Of initialisation, order and augmentation.
    images : Tensor of shape (n, 3, side, side)
        Synthetic images in model-input space.
    labels : Tensor of shape (n,) or (n, classes)
        As they enter the loss, see `elf.objectives.labels.entering`.
    targets : Tensor of shape (n, ...) or None
        Features or logits of the teacher.
    test : Split
    checkpoint : Checkpoint or None
        Where to continue from.

    Returns
    -------
    float
        Fraction of the test set, of the final state.
    """
    network = _network(spec, seed, targets, test, images.device)
    protocol = frepo_evaluation.train if isinstance(spec.recipe, FrepoRecipe) else train
    protocol(
        network,
        images,
        labels,
        spec.recipe,
        objective=_loss(spec),
        targets=targets,
        order_generator=generator(seed, "evaluation", "order"),
        augmentation_generator=generator(seed, "evaluation", "augmentation"),
        progress=reporter(f"evaluate {spec.network} ({spec.objective.label}), seed {seed}", total=1),
        checkpoint=checkpoint,
        lowest=_lowest(spec, labels, targets),
    )
    return accuracy(network, test.images, test.labels)


def evaluate_at_once(
    spec: EvaluationSpec, images: Tensor, labels: Tensor, targets: Tensor | None, test: Split, checkpoint
) -> list[float]:
    """Train the networks of all seeds at once and return the accuracy of each, as :func:`evaluate` does one by one."""
    networks = [_network(spec, seed, targets, test, images.device) for seed in spec.seeds]
    seed_batched.train(
        networks,
        images,
        labels,
        spec.recipe,
        objective=_loss(spec),
        targets=targets,
        seeds=spec.seeds,
        order_generators=[generator(seed, "evaluation", "order") for seed in spec.seeds],
        augmentation_generators=[generator(seed, "evaluation", "augmentation") for seed in spec.seeds],
        progress=reporter(f"evaluate {spec.network} ({spec.objective.label}), {len(spec.seeds)} seeds", total=1),
        checkpoint=checkpoint,
        lowest=_lowest(spec, labels, targets),
    )
    return [accuracy(network, test.images, test.labels) for network in networks]


def trains_at_once(spec: EvaluationSpec, count: int, targets: Tensor | None, test: Split, device: torch.device) -> bool:
    """Return whether the networks of all seeds learn at once from ``count`` images; say why not where it was wanted."""
    if not spec.wants_seeds_at_once(count, on_gpu=device.type != "cpu"):
        return False
    reason = "its objective has a protocol of its own"
    if not isinstance(spec.recipe, FrepoRecipe):
        network = _network(spec, spec.seeds[0], targets, test, torch.device("cpu"))
        reason = seed_batched.refusal(network, count, spec.recipe)
    if reason is not None:
        log.info("%s: its seeds are trained one after the other: %s", spec.network, reason)
    return reason is None


def _network(
    spec: EvaluationSpec, seed: int, targets: Tensor | None, test: Split, device: torch.device
) -> SplitNetwork:
    return build_network(
        spec.network,
        classes=test.classes,
        side=test.side,
        generator=generator(seed, "evaluation", "initialisation"),
        feature_shape=tuple(targets.shape[1:]) if spec.objective.about.NEEDS == "features" else None,
    ).to(device)


def _objective(spec: EvaluationSpec) -> ModuleType:
    return importlib.import_module(OBJECTIVES.module(spec.objective.name))


def _loss(spec: EvaluationSpec) -> Objective:
    return partial(_objective(spec).loss, **spec.objective.settings)


def _lowest(spec: EvaluationSpec, labels: Tensor, targets: Tensor | None) -> float:
    return _objective(spec).lowest(labels, targets, **spec.objective.settings)


def _entering(spec: EvaluationSpec, path: Path, manifest: Manifest, labels: Tensor) -> Tensor:
    kind = label_kind(path, manifest, labels)
    try:
        entered = entering(labels, spec.objective, kind)
    except ElfError as error:
        raise ElfError(f"{path}: {error}") from error
    if kind != "hard":
        log.info("labels of the kind %s enter the loss %s", kind, spec.objective.use_of(kind))
    return entered


def main(argv: list[str]) -> None:
    """Run the stage from the command line."""
    parser = arguments_of(
        "evaluate", __doc__, images="input: synthetic set", dataset="input: prepared dataset", shard="output"
    )
    parser.add_argument(
        "--features", type=Path, nargs="?", metavar="FILE", help="input: features, for objectives with a teacher"
    )
    arguments = parser.parse_args(argv)
    spec = parse_spec(EvaluationSpec, arguments.settings)
    job = Job(arguments, evaluate_code(spec))
    images, labels, synthetic_manifest = read_synthetic_set(arguments.images, job.device)
    test = read_split(arguments.dataset, "test", job.device)
    inputs = {"dataset": test.manifest, "synthetic set": synthetic_manifest}
    check_settings(arguments.dataset, test.manifest, name=spec.dataset)
    check_settings(arguments.images, synthetic_manifest, dataset=spec.dataset)
    check_made_from(arguments.images, synthetic_manifest, "dataset", test.manifest)
    labels = _entering(spec, arguments.images, synthetic_manifest, labels)
    targets = None
    needs = spec.objective.about.NEEDS
    if needs is not None:
        if arguments.features is None:
            raise ElfError(f"--features: the objective {spec.objective.name} needs {needs} of a teacher")
        targets, inputs["features"] = read_features(arguments.features, needs, job.device)
        check_settings(
            arguments.features,
            inputs["features"],
            teacher_network=spec.teacher_network,
            teacher_epoch=spec.teacher_epoch,
        )
        check_made_from(arguments.features, inputs["features"], "synthetic set", synthetic_manifest)

    rows = []
    checkpoints = []
    at_once = trains_at_once(spec, len(images), targets, test, job.device)
    for seeds in [spec.seeds] if at_once else [(seed,) for seed in spec.seeds]:
        # One file a seed: the last state of a finished one holds its accuracy. One for all that are trained at once.
        name = "seeds" if at_once else f"seed{seeds[0]}"
        ledger = job.ledger_of_part()
        checkpoint = job.checkpoint(
            arguments.shard.with_name(f"{arguments.shard.name}.{name}"),
            spec.canonical(),
            *(m["id"] for m in inputs.values()),
            ledger=ledger,
        )
        checkpoints.append(checkpoint)
        rows += _rows(spec, seeds, images, labels, targets, test, checkpoint, ledger)
    teacher = inputs.get("features", {}).get("inputs", {}).get("teacher", {})
    manifest = describe(
        "evaluation shard",
        spec.model_dump(mode="json"),
        inputs=inputs,
        code=job.code,
        measured=job.measured((images_trained(spec.recipe, len(images)) + len(test.images)) * len(spec.seeds)),
    )
    made_from = {
        "dataset_id": test.manifest["id"],
        "synthetic_set_id": synthetic_manifest["id"],
        "features_id": inputs["features"]["id"] if "features" in inputs else None,
        "teacher_id": teacher.get("id"),
        "device": manifest["measured"]["device"],
        "code_id": manifest["code_id"],
    }
    write_table(arguments.shard, [row | made_from for row in rows], SHARD, manifest, MEASURED)
    # A cluster makes shards in groups, and Snakemake deletes what a group has finished when another of its jobs
    # fails: there the states of the seeds stay until the shard is collected.
    if not job.on_cluster:
        for checkpoint in checkpoints:
            checkpoint.remove()


def _rows(spec, seeds, images, labels, targets, test, checkpoint, ledger) -> list[dict]:
    """Return the row of one seed, or of each of those that are trained at once."""
    finished = checkpoint.load()
    if finished is None or "accuracy" not in finished:
        try:
            if len(seeds) == 1:
                fractions = [evaluate(spec, seeds[0], images, labels, targets, test, checkpoint)]
            else:
                fractions = evaluate_at_once(spec, images, labels, targets, test, checkpoint)
        except ElfError as error:
            where = f"{spec.path}, seed {seeds[0]}" if len(seeds) == 1 else f"{spec.path}"
            raise ElfError(f"{where}: {error}") from error
        spent = ledger.spent()
        finished = {
            "accuracy": torch.tensor(fractions, dtype=torch.float64),
            # Seeds that are trained at once share the time equally, and each needs the memory of all.
            "train_seconds": torch.full((len(seeds),), spent.wall_seconds / len(seeds), dtype=torch.float64),
            "peak_memory_bytes": torch.full((len(seeds),), spent.peak_memory_bytes),
        }
        checkpoint.save_now(lambda: finished)
    values = {name: value.tolist() for name, value in finished.items()}
    return [{"seed": seed} | {name: value[index] for name, value in values.items()} for index, seed in enumerate(seeds)]

"""Evaluate a synthetic set: train networks on it, one for each seed, and test them on real images."""

import importlib
import time
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from elf.artifacts.manifest import describe
from elf.artifacts.tables import write_table
from elf.device import peak_memory_bytes
from elf.errors import ElfError
from elf.networks.building import build_network
from elf.progress import reporter
from elf.randomness import generator
from elf.results.shard import MEASURED, SHARD
from elf.specs.evaluation import EvaluationSpec
from elf.stages.code import evaluate_code
from elf.stages.inputs import Split, check_made_from, check_settings, read_features, read_split, read_synthetic_set
from elf.stages.job import Job, arguments_of, parse_spec
from elf.training import accuracy

# What each objective takes from the features file.
TARGETS = {"elf": "features", "kd": "logits"}

# How the network is trained, for the objectives that come with a protocol of their own.
PROTOCOLS = {"frepo": "elf.frepo_evaluation"}


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
    shape = tuple(targets.shape[1:]) if spec.objective.name == "elf" else None
    network = build_network(
        spec.network,
        classes=test.classes,
        side=test.side,
        generator=generator(seed, "evaluation", "initialisation"),
        feature_shape=shape,
    ).to(images.device)
    loss = importlib.import_module(f"elf.objectives.{spec.objective.name}").loss
    protocol = importlib.import_module(PROTOCOLS.get(spec.objective.name, "elf.training"))
    protocol.train(
        network,
        images,
        labels,
        spec.recipe,
        objective=partial(loss, **spec.objective.settings),
        targets=targets,
        order_generator=generator(seed, "evaluation", "order"),
        augmentation_generator=generator(seed, "evaluation", "augmentation"),
        progress=reporter(f"evaluate {spec.network} ({spec.objective.label}), seed {seed}", total=1),
        checkpoint=checkpoint,
    )
    return accuracy(network, test.images, test.labels)


def main(argv: list[str]) -> None:
    """Run the stage from the command line."""
    parser = arguments_of(
        "evaluate", __doc__, images="input: synthetic set", dataset="input: prepared dataset", shard="output"
    )
    parser.add_argument("--features", type=Path, nargs="?", metavar="FILE", help="input: features, for elf and kd")
    arguments = parser.parse_args(argv)
    spec = parse_spec(EvaluationSpec, arguments.settings)
    job = Job(arguments, evaluate_code(spec))
    images, labels, synthetic_manifest = read_synthetic_set(arguments.images, job.device)
    test = read_split(arguments.dataset, "test", job.device)
    inputs = {"dataset": test.manifest, "synthetic set": synthetic_manifest}
    check_settings(arguments.dataset, test.manifest, name=spec.dataset)
    check_settings(arguments.images, synthetic_manifest, dataset=spec.dataset)
    check_made_from(arguments.images, synthetic_manifest, "dataset", test.manifest)
    targets = None
    if spec.objective.needs_teacher:
        if arguments.features is None:
            raise ElfError(f"--features: the objective {spec.objective.name} needs the features of a teacher")
        targets, inputs["features"] = read_features(arguments.features, TARGETS[spec.objective.name], job.device)
        check_settings(
            arguments.features,
            inputs["features"],
            teacher_network=spec.teacher_network,
            teacher_epoch=spec.teacher_epoch,
        )
        check_made_from(arguments.features, inputs["features"], "synthetic set", synthetic_manifest)

    rows = []
    checkpoints = []
    for seed in spec.seeds:
        # One file a seed: the last state of a finished one holds its accuracy.
        path = arguments.shard.with_name(f"{arguments.shard.name}.seed{seed}")
        checkpoint = job.checkpoint(path, spec.canonical(), *(m["id"] for m in inputs.values()))
        checkpoints.append(checkpoint)
        rows.append(_row(spec, seed, images, labels, targets, test, checkpoint, job.device))
    teacher = inputs.get("features", {}).get("inputs", {}).get("teacher", {})
    manifest = describe(
        "evaluation shard",
        spec.model_dump(mode="json"),
        inputs=inputs,
        code=job.code,
        measured=job.measured(),
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


def _row(spec, seed, images, labels, targets, test, checkpoint, device) -> dict:
    finished = checkpoint.load()
    if finished is None or "accuracy" not in finished:
        started = time.monotonic()
        try:
            fraction = evaluate(spec, seed, images, labels, targets, test, checkpoint)
        except ElfError as error:
            raise ElfError(f"{spec.path}, seed {seed}: {error}") from error
        finished = {
            "accuracy": torch.tensor(fraction, dtype=torch.float64),
            "train_seconds": torch.tensor(time.monotonic() - started, dtype=torch.float64),
            "peak_memory_bytes": torch.tensor(peak_memory_bytes(device)),
        }
        checkpoint.save_now(lambda: finished)
    return {"seed": seed} | {name: value.item() for name, value in finished.items()}

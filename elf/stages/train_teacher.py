"""Train a teacher on the full real data and keep its parameters at the epochs that are asked for."""

import argparse
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock

from elf.artifacts.code import train_teacher_code
from elf.artifacts.files import cannot_write
from elf.artifacts.manifest import describe, read_manifest
from elf.artifacts.tensors import read_tensors, write_tensors
from elf.errors import ElfError
from elf.machine.progress import reporter
from elf.machine.randomness import generator
from elf.networks.building import build_network
from elf.running.inputs import Split, check_settings, read_split
from elf.running.job import Job, arguments_of, parse_spec
from elf.specs.teacher import TeacherSpec
from elf.training.images_seen import images_trained
from elf.training.keeping import Keeping
from elf.training.protocol import accuracy, train

log = logging.getLogger(__name__)

ACCURACY = "accuracy"
"""Under this name the test accuracy lies among the kept parameters."""


def train_teacher(spec: TeacherSpec, split: Split, test: Split, epochs: list[int], checkpoint=None) -> dict:
    """Train until the last of ``epochs`` and return the parameters and the test accuracy at each.

    Parameters
    ----------
    spec : TeacherSpec
    split, test : Split
        Training and test images.
    epochs : list of int
        Completed epochs at which to keep the parameters; 0 is the initial state.
    checkpoint : Checkpoint or None
        Where to continue from.

    Returns
    -------
    dict of int to (dict of str to Tensor, float)
        Parameters and buffers on the CPU, and accuracy as a fraction of the test set.
    """
    network = build_network(
        spec.network,
        classes=split.classes,
        side=split.side,
        generator=generator(spec.seed, "teacher", "initialisation"),
    ).to(split.images.device)
    keeping = Keeping(checkpoint)
    report = reporter(f"teacher {spec.dataset}/{spec.network}", total=max(epochs))

    def keep(completed: int) -> None:
        if completed in epochs:
            # A copy: the state dictionary would go on changing with the network.
            state = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
            fraction = accuracy(network, test.images, test.labels)
            keeping.kept[completed] = state | {ACCURACY: torch.tensor(fraction, dtype=torch.float64)}

    keep(0)
    train(
        network,
        split.images,
        split.labels,
        spec.recipe,
        order_generator=generator(spec.seed, "teacher", "order"),
        augmentation_generator=generator(spec.seed, "teacher", "augmentation"),
        after_pass=lambda index: keep(index + 1),
        progress=report,
        checkpoint=keeping,
        until_pass=max(epochs),
    )
    return {epoch: (state, state.pop(ACCURACY).item()) for epoch, state in keeping.kept.items()}


def main(argv: list[str]) -> None:
    """Train a teacher; run from the command line."""
    parser = arguments_of("train-teacher", __doc__, dataset="input: prepared dataset", training="output")
    parser.add_argument("--epochs", required=True, nargs="+", type=int, help="completed epochs to keep")
    arguments = parser.parse_args(argv)
    spec = parse_spec(TeacherSpec, arguments.settings)
    job = Job(arguments, train_teacher_code(spec))
    epochs = sorted(set(arguments.epochs))
    outside = [epoch for epoch in epochs if not 0 <= epoch <= spec.recipe.passes]
    if outside:
        raise ElfError(f"--epochs: found {outside[0]}, allowed are 0 to {spec.recipe.passes}")
    # Every checkpoint of a teacher is a job of its own; the first to come trains for all of them.
    with _locked(arguments.training):
        # Waiting for another job is no computation.
        job.begin()
        split = read_split(arguments.dataset, "train", job.device)
        test = read_split(arguments.dataset, "test", job.device)
        check_settings(arguments.dataset, split.manifest, name=spec.dataset)
        if not _is_trained(arguments.training, spec, epochs, job.code, split.manifest["id"]):
            _train(arguments.training, spec, split, test, epochs, job)


@contextmanager
def _locked(training: Path) -> Iterator[None]:
    lock = FileLock(training.with_name(f".{training.name}.lock"))
    try:
        training.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise cannot_write(training, error) from error
    try:
        yield
    finally:
        lock.release()


def _is_trained(training: Path, spec: TeacherSpec, epochs: list[int], code: str, dataset_id: str) -> bool:
    """Return whether an earlier job of the same settings, code and data has left all the epochs."""
    if not training.exists():
        return False
    try:
        manifest = read_manifest(training, "teacher training")
    except ElfError as error:
        log.warning("training anew: %s", error)
        return False
    made_of = (manifest["code"], manifest["inputs"]["dataset"]["id"])
    same_spec = spec.model_dump(mode="json").items() <= manifest["spec"].items()
    kept = {int(epoch) for epoch in manifest["spec"]["test_accuracy"]}
    return made_of == (json.loads(code), dataset_id) and same_spec and kept >= set(epochs)


def _train(training: Path, spec: TeacherSpec, split: Split, test: Split, epochs: list[int], job: Job) -> None:
    checkpoint = job.checkpoint(training, spec.canonical(), split.manifest["id"], str(epochs))
    try:
        kept = train_teacher(spec, split, test, epochs, checkpoint)
    except ElfError as error:
        raise ElfError(f"{spec.folder}: {error}") from error
    tensors = {f"epoch{epoch}/{name}": tensor for epoch, (state, _) in kept.items() for name, tensor in state.items()}
    manifest = describe(
        "teacher training",
        spec.model_dump(mode="json")
        | {"classes": split.classes, "side": split.side}
        | {"test_accuracy": {str(epoch): fraction for epoch, (_, fraction) in kept.items()}},
        inputs={"dataset": split.manifest},
        code=job.code,
        measured=job.measured(
            images_trained(spec.recipe, len(split.images), max(epochs)) + len(test.images) * len(kept)
        ),
    )
    write_tensors(training, tensors, manifest)
    checkpoint.remove()


def keep_checkpoint(training: Path, epoch: int, out: Path) -> None:
    """Write the parameters at one epoch of a training into a file of their own."""
    _, manifest = read_tensors(training, "teacher training", [])
    prefix = f"epoch{epoch}/"
    names = [name for name in manifest["checksums"] if name.startswith(prefix)]
    if not names:
        kept = ", ".join(sorted(manifest["spec"]["test_accuracy"], key=int))
        raise ElfError(f"{training}: was not kept at epoch {epoch}; found the epochs {kept}")
    tensors, _ = read_tensors(training, "teacher training", names)
    spec = manifest["spec"] | {"epoch": epoch, "test_accuracy": manifest["spec"]["test_accuracy"][str(epoch)]}
    own = {key: value for key, value in manifest.items() if key not in ("id", "checksums")}
    own |= {"kind": "teacher checkpoint", "spec": spec}
    write_tensors(out, {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}, own)


def main_keep(argv: list[str]) -> None:
    """Keep one checkpoint; run from the command line."""
    parser = argparse.ArgumentParser(prog="elf keep-checkpoint", description=keep_checkpoint.__doc__)
    parser.add_argument("--training", required=True, type=Path, metavar="FILE", help="input: teacher training")
    parser.add_argument("--epoch", required=True, type=int, help="completed epochs")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="output: teacher checkpoint")
    arguments = parser.parse_args(argv)
    keep_checkpoint(arguments.training, arguments.epoch, arguments.out)

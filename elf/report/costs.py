"""What results cost: time and memory by stage and table, and what has to be stored beside synthetic images."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from elf.artifacts.lineage import Artifact, TensorSize
from elf.specs.kinds import KINDS


@dataclass(frozen=True)
class Total:
    """A sum over files of which some may not say what they add to it.

    Attributes
    ----------
    seconds : float or None
        Of those that say it; None if none does.
    unknown : int
        How many do not.
    """

    seconds: float | None
    unknown: int


@dataclass(frozen=True)
class Cost:
    """Time, memory and speed of the jobs that made some files.

    Attributes
    ----------
    name, device : str
    jobs : int
        How many ended with their file.
    missing : int
        How many files are not there or unreadable; their costs are unknown.
    wall, on_device : Total
        Wall time, and the time that devices were held.
    memory : int or None
        Largest peak in bytes; None if no file says it.
    images_per_second : float or None
        Images over wall seconds of the files that say both; None if none does.
    """

    name: str
    device: str
    jobs: int
    missing: int
    wall: Total
    on_device: Total
    memory: int | None
    images_per_second: float | None


@dataclass(frozen=True)
class Storage:
    """Bytes of a synthetic set, and of what ELF has to keep beside it.

    Attributes
    ----------
    name : str
        Of the synthetic set.
    teacher : str
        Network and epoch of the teacher; empty where no features were extracted.
    images, labels, features, logits, teacher_bytes : int
        ``teacher_bytes`` are those of the checkpoint, which a user needs who wants to extract features anew.
    pixels : int
        Bytes of the same images at 8 bits a channel.
    """

    name: str
    teacher: str
    images: int
    labels: int
    features: int
    logits: int
    teacher_bytes: int
    pixels: int

    @property
    def ratio(self) -> float:
        """Features as a multiple of the images; NaN without features."""
        return self.features / self.images if self.teacher and self.images else float("nan")

    @property
    def ratio_to_pixels(self) -> float:
        """Features as a multiple of images at 8 bits a channel; NaN without features."""
        return self.features / self.pixels if self.teacher and self.pixels else float("nan")


@dataclass(frozen=True)
class Costs:
    """Costs of a whole report; what several tables share is counted in each of them, and once in ``all_tables``."""

    stages: tuple[Cost, ...]
    tables: tuple[Cost, ...]
    all_tables: Cost
    storage: tuple[Storage, ...]


STAGES = {kind.one: kind.making for kind in KINDS.values() if kind.making}
"""Stages by the role of the file that they make, in the order of the pipeline."""


def cost_by_stage(artifacts: Iterable[Artifact]) -> tuple[Cost, ...]:
    """Return the costs of each stage and device; a file that is named several times counts once."""
    runs = _runs(artifacts)
    found = []
    for role, stage in STAGES.items():
        members = [run for run in runs if run.role == role]
        devices = dict.fromkeys(run.manifest["measured"].get("device", "") for run in members if run.manifest)
        missing = sum(run.manifest is None for run in members)
        for position, device in enumerate(devices or [""]):
            same = [run for run in members if run.manifest and run.manifest["measured"].get("device", "") == device]
            if same or missing:
                found.append(_cost(stage, device, same, missing if position == 0 else 0))
    return tuple(found)


def cost_of(name: str, artifacts: Iterable[Artifact]) -> Cost:
    """Return the costs of all files that something needs, each counted once."""
    runs = _runs(artifacts)
    made = [run for run in runs if run.manifest]
    devices = ", ".join(dict.fromkeys(filter(None, (run.manifest["measured"].get("device", "") for run in made))))
    return _cost(name, devices, made, len(runs) - len(made))


def _cost(name: str, device: str, made: list[Artifact], missing: int) -> Cost:
    measured = [run.manifest["measured"] for run in made]
    fast = [entry for entry in measured if entry.get("images") is not None and entry.get("wall_seconds")]
    seconds = sum(entry["wall_seconds"] for entry in fast)
    return Cost(
        name=name,
        device=device,
        jobs=len(made),
        missing=missing,
        wall=_total(measured, "wall_seconds"),
        on_device=_total(measured, "device_seconds"),
        memory=max(_known(measured, "peak_memory_bytes"), default=None),
        images_per_second=sum(entry["images"] for entry in fast) / seconds if fast else None,
    )


def _known(measured: list[Mapping], key: str) -> list:
    # Files of earlier versions do not say everything; that is not nothing.
    return [entry[key] for entry in measured if entry.get(key) is not None]


def _total(measured: list[Mapping], key: str) -> Total:
    known = _known(measured, key)
    return Total(sum(known) if known else None, len(measured) - len(known))


def _runs(artifacts: Iterable[Artifact]) -> list[Artifact]:
    """Return one file for each run: checkpoints of a teacher that were cut out of one training say the same of it.

    What others computed, such as an imported set, is none.
    """
    runs: dict[str, Artifact] = {}
    for artifact in (artifact for artifact in artifacts if artifact.role in STAGES):
        key = artifact.path
        if artifact.role == "teacher" and artifact.manifest:
            training = json.dumps(artifact.manifest["measured"], sort_keys=True)
            key = f"{key.rpartition('/')[0]} {training}"
        runs.setdefault(key, artifact)
    return list(runs.values())


def storage(
    name: str,
    images: Mapping[str, TensorSize],
    teacher: str = "",
    features: Mapping[str, TensorSize] | None = None,
    checkpoint: Mapping[str, TensorSize] | None = None,
) -> Storage:
    """Return the bytes of a synthetic set and of one teacher's view of it, from the headers of their files.

    Parameters
    ----------
    name : str
    images : dict
        Tensors of the synthetic set: ``images`` of shape (n, 3, side, side) and ``labels``.
    teacher : str
    features, checkpoint : dict or None
        Tensors of the features (``features`` and ``logits``) and of the teacher.
    """
    features, checkpoint = features or {}, checkpoint or {}
    pixels = 1
    for length in images["images"].shape:
        pixels *= length
    return Storage(
        name=name,
        teacher=teacher,
        images=images["images"].bytes,
        labels=_bytes(images, "labels"),
        features=_bytes(features, "features"),
        logits=_bytes(features, "logits"),
        teacher_bytes=sum(tensor.bytes for tensor in checkpoint.values()),
        pixels=pixels,
    )


def _bytes(tensors: Mapping[str, TensorSize], name: str) -> int:
    return tensors[name].bytes if name in tensors else 0

"""What every compute stage shares: its arguments, its device, and the measurements of its manifest."""

import argparse
import hashlib
import logging
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import ValidationError

from elf.artifacts.checkpoints import Checkpoint
from elf.artifacts.files import bring_to_present
from elf.artifacts.fingerprint import code_id
from elf.artifacts.ledger import Ledger
from elf.errors import ElfError
from elf.machine import device as devices
from elf.machine.time_limit import time_limit
from elf.specs.base import Spec, canonical_json

SpecType = TypeVar("SpecType", bound=Spec)

log = logging.getLogger(__name__)


def arguments_of(stage: str, description: str, **files: str) -> argparse.ArgumentParser:
    """Return a parser with the options of every stage and one option for each of its files.

    Parameters
    ----------
    stage : str
        Sub-command.
    description : str
        First lines of its help.
    **files : str
        Name and help of each input and output.
    """
    parser = argparse.ArgumentParser(prog=f"elf {stage}", description=description)
    parser.add_argument(
        "--settings", required=True, metavar="JSON", help="specification as JSON; 'elf settings PATH' prints one"
    )
    parser.add_argument("--code", metavar="ID", help="identifier of the code that the job was planned with")
    for name, text in files.items():
        parser.add_argument(f"--{name.replace('_', '-')}", required=True, type=Path, metavar="FILE", help=text)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--device", choices=devices.DEVICES, help="default: ELF_DEVICE, or auto")
    return parser


class Job:
    """One run of a stage, from its start to the manifest of what it makes.

    Attributes
    ----------
    device : torch.device
        Where to compute.
    code : str
        Fingerprint of the code that runs.
    on_cluster : bool
        Whether SLURM runs it.
    ledger : Ledger
        What the job has spent, over all its attempts.
    """

    def __init__(self, arguments: argparse.Namespace, code: str) -> None:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        if arguments.code is not None:
            _check_code(arguments.code, code)
        if arguments.threads < 1:
            raise ElfError(f"--threads: found {arguments.threads}, allowed are 1 and more")
        for file in bring_to_present(_files(arguments)):
            log.warning("%s: lies in the future; its time is set to now", file)
        self.device = devices.pick_device(arguments.device)
        devices.prepare(arguments.threads, self.device)
        self.code = code
        self.begin()
        self.on_cluster = "SLURM_JOB_ID" in os.environ
        self._time_limit = time_limit()

    def begin(self) -> None:
        """Let the computation begin now; a job that had to wait for another calls it again."""
        self.ledger = self.ledger_of_part()

    def ledger_of_part(self) -> Ledger:
        """Return a ledger of its own for a part of the job that begins now."""
        return Ledger(on_gpu=self.device.type == "cuda", peak_memory=partial(devices.peak_memory_bytes, self.device))

    def checkpoint(self, path: Path, *parts: str, ledger: Ledger | None = None) -> Checkpoint:
        """Return the place beside ``path`` where an interrupted job continues.

        Parameters
        ----------
        path : Path
            An output of the job.
        *parts : str
            Everything that determines the result besides the code: specification, identifiers of inputs.
        ledger : Ledger or None
            Of the part of the job that the checkpoint is for; that of the job is always saved with it.
        """
        key = hashlib.sha256(canonical_json([self.code, torch.__version__, self.device.type, *parts]).encode())
        file = path.with_name(f".{path.name}.resume")
        ledgers = (self.ledger,) if ledger is None else (self.ledger, ledger)
        return Checkpoint(file, key.hexdigest(), _seconds_between_checkpoints(), self._time_limit, ledgers)

    def measured(self, images: int | None = None) -> dict:
        """Return what the manifest says about the job so far, over all its attempts.

        Parameters
        ----------
        images : int or None
            How many images went through networks, as `elf.training.images_seen` defines it; None if that is unknown
            or if there were no networks.

        Returns
        -------
        dict
            ``device`` in words; ``wall_seconds``, ``device_seconds`` and ``peak_memory_bytes``, see
            `elf.artifacts.ledger.Spent`; with a number of images also ``images`` and ``images_per_second``, their
            quotient by the wall seconds.
        """
        spent = self.ledger.spent()
        measured = {
            "device": devices.describe(self.device),
            "wall_seconds": round(spent.wall_seconds, 3),
            "device_seconds": round(spent.device_seconds, 3),
            "peak_memory_bytes": spent.peak_memory_bytes,
        }
        if images is None or spent.wall_seconds == 0:
            return measured
        return measured | {"images": images, "images_per_second": round(images / spent.wall_seconds, 3)}


def _files(arguments: argparse.Namespace) -> Iterator[Path]:
    for value in vars(arguments).values():
        yield from (item for item in (value if isinstance(value, list) else [value]) if isinstance(item, Path))


def _check_code(planned: str, code: str) -> None:
    if planned != code_id(code):
        raise ElfError(
            f"the code changed after this job was planned (--code {planned}, now {code_id(code)}); start the workflow "
            "again; by hand, leave --code out"
        )


def _seconds_between_checkpoints() -> float:
    text = os.environ.get("ELF_CHECKPOINT_SECONDS") or "300"
    try:
        return float(text)
    except ValueError:
        raise ElfError(f"ELF_CHECKPOINT_SECONDS: found {text!r}, expected a number of seconds") from None


def parse_spec(model: type[SpecType], text: str) -> SpecType:
    """Return the specification that a job was started with."""
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        # Without the names of classes that Pydantic chose between on the way.
        key = ".".join(str(part) for part in first["loc"] if not str(part)[:1].isupper())
        raise ElfError(f"--settings: {key}: found {first['input']!r}: {first['msg']}") from None

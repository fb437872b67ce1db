"""How fast a device is in each stage: seconds from work, and the file that says so."""

from pathlib import Path

import yaml
from pydantic import Field

from elf.artifacts.files import write_text
from elf.planning.work import Work
from elf.study.config import Strict
from elf.study.config_reading import read_yaml, validated

ANY = "any"
"""Stands for every stage that was not measured."""
PREPARE = "prepare-dataset"
"""The only stage whose calls are images that are read; no other says how fast it is."""


class Speed(Strict):
    """How fast a device is in one stage: a start, and time for operations, for numbers of images and for calls."""

    start_seconds: float = Field(ge=0, description="Of a job before it computes: starting Python, reading files.")
    flops_per_second: float = Field(gt=0, description="Operations a second where layers are large; .inf: no limit.")
    seconds_per_value: float = Field(default=0.0, ge=0, description="Of a number of an image that is augmented.")
    seconds_per_call: float = Field(default=0.0, ge=0, description="Of a call of a layer, however small it is.")
    jobs: int = Field(default=0, ge=0, description="Finished jobs that this is based on; 0: written by hand.")

    model_config = Strict.model_config | {"allow_inf_nan": True, "strict": False}

    def seconds(self, work: Work) -> float:
        """Return how long a job of this work takes."""
        computing = work.flops / self.flops_per_second
        return (
            self.start_seconds + computing + work.values * self.seconds_per_value + work.calls * self.seconds_per_call
        )


class Fit(Strict):
    """How well the speeds predict finished jobs that they were not fitted to."""

    median_error: float = Field(ge=0, description="Half of the jobs were off by less than this fraction.")
    factor_of_nine_in_ten: float = Field(ge=1, description="Nine in ten jobs were off by less than this factor.")
    factor_of_repeats: float | None = Field(
        default=None, ge=1, description="Typical factor between jobs of equal work: no estimate can be better."
    )
    largest_flops_per_call: float = Field(ge=0, description="Of the measured jobs.")

    model_config = Strict.model_config | {"strict": False}


class Calibration(Strict):
    """Speeds of one device."""

    device: str = Field(description="As in the manifests.")
    stages: dict[str, Speed] = Field(min_length=1, description="By stage, such as evaluate or distill/dm; or any.")
    fit: Fit | None = Field(default=None, description="None: written by hand.")

    def seconds(self, stage: str | None, work: Work) -> float | None:
        """Return how long a job takes; nothing for jobs of a moment, None where no speed is known."""
        if stage is None:
            return 0.0
        speed = self.stages.get(stage) or (None if stage == PREPARE else self.stages.get(ANY))
        return speed and speed.seconds(work)


def read_calibration(file: Path) -> Calibration:
    """Read a calibration; what is wrong with it ends as one line."""
    return validated(Calibration, read_yaml(file), file)


def write_calibration(file: Path, calibration: Calibration) -> None:
    """Write a calibration as YAML, with what its numbers are."""
    content = calibration.model_dump(exclude_none=True)
    for speed in content["stages"].values():
        speed |= {key: float(f"{value:.4g}") for key, value in speed.items() if key != "jobs"}
    head = "# Speeds by stage; docs/planning.md says what the numbers are.\n"
    write_text(file, head + yaml.safe_dump(content, sort_keys=False))

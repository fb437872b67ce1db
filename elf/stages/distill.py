"""Distil a dataset: make a few synthetic images per class with one of the methods."""

import importlib

from elf.artifacts.manifest import describe
from elf.artifacts.tensors import write_tensors
from elf.distillation.synthetic import RealImages
from elf.errors import ElfError
from elf.progress import reporter
from elf.specs.synthetic import SyntheticSpec
from elf.stages.code import distill_code
from elf.stages.inputs import check_settings, read_split
from elf.stages.job import Job, arguments_of, parse_spec


def main(argv: list[str]) -> None:
    """Run the stage from the command line."""
    parser = arguments_of("distill", __doc__, dataset="input: prepared dataset", images="output")
    arguments = parser.parse_args(argv)
    spec = parse_spec(SyntheticSpec, arguments.settings)
    job = Job(arguments, distill_code(spec))
    train = read_split(arguments.dataset, "train", job.device)
    check_settings(arguments.dataset, train.manifest, name=spec.dataset)
    checkpoint = job.checkpoint(arguments.images, spec.canonical(), train.manifest["id"])
    method = importlib.import_module(f"elf.distillation.{spec.method}")
    try:
        synthetic = method.distill(
            RealImages(train.images, train.labels, train.classes),
            settings=spec.recipe,
            ipc=spec.ipc,
            network=spec.network,
            seed=spec.seed,
            progress=reporter(f"distill {spec.dataset}/{spec.name}", total=1),
            checkpoint=checkpoint,
        )
    except ElfError as error:
        raise ElfError(f"{spec.dataset}/{spec.name}: {error}") from error
    tensors = {"images": synthetic.images, "labels": synthetic.labels}
    manifest = describe(
        "synthetic set",
        spec.model_dump(mode="json") | {"extra": synthetic.extra},
        inputs={"dataset": train.manifest},
        code=job.code,
        measured=job.measured(),
    )
    write_tensors(arguments.images, tensors, manifest)
    checkpoint.remove()

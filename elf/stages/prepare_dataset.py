"""Read real images from their source into one verified file with everything needed to use them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from elf.artifacts.code import prepare_dataset_code
from elf.artifacts.files import write_json
from elf.artifacts.manifest import describe, seal_of
from elf.artifacts.tensors import write_tensors
from elf.data.allocation import Allocate, beside, in_memory
from elf.data.cards import data_card
from elf.data.images import subset
from elf.data.preprocessing import Normalisation, fit
from elf.data.reading import read_dataset
from elf.data.sources.layouts import source_state
from elf.data.sources.record import Record, new_records
from elf.running.job import Job, arguments_of, parse_spec
from elf.specs.dataset import DatasetSpec


def prepare_dataset(
    spec: DatasetSpec,
    data_folder: Path,
    allocate: Allocate = in_memory,
    workers: int = 1,
    records: Mapping[str, Record] | None = None,
):
    """Return the images of a specification and their preprocessing.

    Parameters
    ----------
    spec : DatasetSpec
    data_folder : Path
        Folder with the real images.
    allocate : callable
        Where pixels are put.
    workers : int
        Threads that decode images.
    records : dict of Record, optional
        Of ``train`` and ``test``: how images were converted, and what was left out.

    Returns
    -------
    dataset : Dataset
        With the first images of each class only, where the specification asks for it.
    preprocessing : Normalisation or ZCA
        ZCA is fitted on the training images that are kept.
    """
    # torchvision's own folder layout lies directly in the data folder.
    location = data_folder / (spec.location or "")
    dataset = read_dataset(
        spec.source,
        name=spec.name,
        location=location,
        side=spec.side,
        allocate=allocate,
        workers=workers,
        image_column=spec.image_column,
        label_column=spec.label_column,
        records=records,
    )
    train = subset(dataset.train, spec.train_per_class, what=f"{spec.name}, train split", allocate=allocate)
    test = subset(dataset.test, spec.test_per_class, what=f"{spec.name}, test split", allocate=allocate)
    dataset = replace(dataset, train=train, test=test)
    return dataset, fit(spec.normalisation, train.images) if spec.mean is None else Normalisation(spec.mean, spec.std)


def main(argv: list[str]) -> None:
    """Run the stage from the command line."""
    parser = arguments_of(
        "prepare-dataset", __doc__, data_folder="folder with the real images", images="output", card="output"
    )
    arguments = parser.parse_args(argv)
    spec = parse_spec(DatasetSpec, arguments.settings)
    job = Job(arguments, prepare_dataset_code(spec))
    state = source_state(spec.source, arguments.data_folder / (spec.location or ""))
    allocate = beside(arguments.images.parent)
    records = new_records()
    dataset, preprocessing = prepare_dataset(spec, arguments.data_folder, allocate, arguments.threads, records)
    tensors = {
        "train_images": dataset.train.images,
        "train_labels": dataset.train.labels,
        "test_images": dataset.test.images,
        "test_labels": dataset.test.labels,
        **preprocessing.to_tensors(),
    }
    manifest = describe(
        "dataset",
        spec.model_dump(mode="json")
        | {"class_names": list(dataset.class_names), "class_order": dataset.class_order}
        | {"source_state": state},
        inputs={},
        code=job.code,
        measured=job.measured(len(dataset.train.images) + len(dataset.test.images)),
    )
    manifest = write_tensors(arguments.images, tensors, manifest)
    card = data_card(
        dataset,
        source={"source": spec.source, "location": spec.location},
        preprocessing={"normalisation": spec.normalisation}
        | ({} if spec.mean is None else {"mean": spec.mean, "std": spec.std}),
        records=records,
    )
    card |= {"id": manifest["id"]}
    write_json(arguments.card, card | {"seal": seal_of(card)})

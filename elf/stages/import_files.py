"""Import what other code left behind: a synthetic set, expert trajectories or a trained network."""

import argparse
import os
import time
from pathlib import Path

from elf.artifacts.code import import_code
from elf.artifacts.manifest import Manifest, describe
from elf.artifacts.tensors import write_tensors
from elf.data.preprocessing import ZCA
from elf.errors import ElfError
from elf.importing import buffers
from elf.importing.conclusions import Conclusion
from elf.importing.labels import CHOICES as LABELS
from elf.importing.layout import LAYOUTS
from elf.importing.reading import file_digest, read
from elf.importing.recipes import check_free, check_name, write_recipe
from elf.importing.sets import Known, import_set
from elf.importing.spaces import CHOICES
from elf.running.inputs import read_preprocessing
from elf.specs.dataset import OWN
from elf.specs.network import parse
from elf.study.config_reading import read_yaml

CLASSES = {"digits": 10, "cifar10": 10, "cifar100": 100, "tiny-imagenet": 200, "imagenet64": 1000}
"""Of data sets that are named without their file."""


def parser() -> argparse.ArgumentParser:
    """Return the options of the command."""
    options = argparse.ArgumentParser(prog="elf import", description=__doc__)
    options.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="res_*.pt; images and labels as .pt, .npy, .npz or .safetensors; replay_buffer_*.pt; a state dict; or a "
        "folder of images by class",
    )
    options.add_argument("--name", help="name of the import: of its file and, for a set, of its method in the grid")
    options.add_argument("--as", dest="kind", choices=("set", "experts", "teacher"), help="what it is, if not as found")
    options.add_argument("--dataset", metavar="NAME_OR_FILE", help="data set it belongs to; its file tells the most")
    options.add_argument("--classes", type=int, metavar="N", help="number of classes, where nothing else tells it")
    options.add_argument("--experiment", type=int, metavar="N", help="which of several sets in a file; -1: the last")
    options.add_argument("--layout", choices=LAYOUTS, help="order of the axes of the images, if not as found")
    options.add_argument(
        "--labels", choices=LABELS, metavar="KIND", help=f"what the labels are, if not as found: {', '.join(LABELS)}"
    )
    options.add_argument(
        "--space", choices=CHOICES, default="auto", metavar="SPACE", help=f"pixel space: {', '.join(CHOICES)}"
    )
    options.add_argument("--network", metavar="NAME", help="network of experts or of a state dict, if not as found")
    options.add_argument("--side", type=int, metavar="N", help="height of the images of that network in pixels")
    options.add_argument("--out", type=Path, metavar="PATH", help="output (default: imported/<name>.safetensors)")
    options.add_argument("--config", type=Path, default=Path("config"), metavar="FOLDER", help="default: config")
    options.add_argument("--force", action="store_true", help="replace an earlier import of this name")
    options.add_argument("--dry-run", "--look", action="store_true", help="only say what it is, and write nothing")
    return options


def main(argv: list[str]) -> None:
    """Run the command."""
    started = time.monotonic()
    arguments = parser().parse_args(argv)
    for option in ("classes", "side"):
        value = getattr(arguments, option)
        if value is not None and value < 2:
            raise ElfError(f"--{option}: found {value}, allowed are 2 and more")
    if arguments.name is None and not arguments.dry_run:
        raise ElfError("--name: is missing; name the import, or only look at it with --dry-run")
    if arguments.name is not None:
        check_name(arguments.name)
    known, dataset = _known(arguments)
    contents = [None if path.is_dir() else read(path) for path in arguments.paths]
    kind = arguments.kind or ("set" if len(contents) != 1 else buffers.kind_of(contents[0]))
    if len(contents) > 1 and all(buffers.kind_of(content) == "experts" for content in contents):
        kind = arguments.kind or "experts"
    importer = {"set": _import_set, "experts": _import_experts, "teacher": _import_teacher}[kind]
    importer(arguments, contents, known, dataset, started)


def _known(arguments: argparse.Namespace) -> tuple[Known, Manifest | None]:
    """Return what is known beforehand, and the manifest of the data set if its file was named."""
    told = {
        "classes": arguments.classes,
        "experiment": arguments.experiment,
        "layout": arguments.layout,
        "space": arguments.space,
        "labels": arguments.labels,
    }
    name = arguments.dataset
    if name is None:
        return Known(**told), None
    if name.endswith(".safetensors") or Path(name).is_file():
        preprocessing, manifest = read_preprocessing(Path(name))
        spec = manifest["spec"]
        told["classes"] = _agreed(arguments.classes, len(spec["class_names"]), spec["name"])
        whitening = preprocessing if isinstance(preprocessing, ZCA) else None
        named = None if spec["normalisation"] == OWN else spec["normalisation"]
        facts = {"side": spec["side"], "normalisation": named, "class_names": spec["class_names"]}
        return Known(dataset=spec["name"], whitening=whitening, **facts, **told), manifest
    datasets = read_yaml(arguments.config / "datasets.yaml")
    base = name.removesuffix("-zca").removesuffix("-frepo")
    entry = datasets.get(name) or datasets.get(name.removesuffix("-zca"))
    if not isinstance(entry, dict):
        raise ElfError(f"--dataset: found {name!r}, which is no file; allowed names: {', '.join(datasets)}")
    told["classes"] = _agreed(arguments.classes, CLASSES.get(base), name)
    # Whitened for single experiments, a data set has the name of the plain one and an ending.
    normalisation = "zca" if name not in datasets else entry.get("normalisation")
    return Known(dataset=name, side=entry.get("side"), normalisation=normalisation, **told), None


def _agreed(told: int | None, known: int | None, dataset: str) -> int | None:
    if told is not None and known is not None and told != known:
        raise ElfError(f"--classes: found {told}, but {dataset} has {known}")
    return told or known


def _say(conclusions: list[Conclusion]) -> None:
    for conclusion in conclusions:
        print(conclusion)


def _measured(started: float) -> dict:
    return {"device": "cpu", "wall_seconds": round(time.monotonic() - started, 3)}


def _import_set(arguments, contents: list, known: Known, dataset: Manifest | None, started: float) -> None:
    imported = import_set(arguments.paths, known, contents)
    _say(imported.conclusions)
    if arguments.dry_run:
        return
    out = arguments.out or Path("imported", f"{arguments.name}.safetensors")
    recipe = arguments.config / "recipes" / f"{arguments.name}.yaml"
    if not recipe.parent.is_dir():
        raise ElfError(f"--config: there is no folder {recipe.parent}; run this where the project's config is")
    check_free(recipe, arguments.force)
    manifest = describe(
        "imported set",
        {"name": arguments.name, "dataset": known.dataset, **imported.spec()},
        inputs={"dataset": dataset} if dataset else {},
        code=import_code(),
        measured=_measured(started),
    )
    manifest = write_tensors(out, {"images": imported.images, "labels": imported.labels}, manifest)
    size = f"{imported.classes} classes, {imported.ipc} images per class, {imported.side}x{imported.side}"
    write_recipe(
        recipe,
        description=f"Imported set {arguments.name}: {size}, {imported.space.conclusion.finding}"
        + ("" if imported.label_kind == "hard" else f", labels: {imported.label_kind}"),
        # Relative to where the workflow runs, so that no path of this machine is written.
        file=Path(os.path.relpath(out)).as_posix(),
        identifier=manifest["id"],
        sources=imported.files,
        labels=imported.label_kind,
    )
    print(f"written: {out} and {recipe}")
    print(
        f"next: name {arguments.name} in 'methods' of a scale in {arguments.config / 'scales'} and in 'method' of a "
        f"block with ipc {imported.ipc}; 'snakemake' then evaluates it like any other method"
    )


def _import_experts(arguments, contents: list, known: Known, dataset: Manifest | None, started: float) -> None:
    folder = arguments.out or Path("imported", arguments.name or "")
    if not arguments.dry_run and folder.exists() and any(folder.iterdir()) and not arguments.force:
        raise ElfError(f"{folder}: is not empty; choose another --name or --out, or replace it with --force")
    network, index = arguments.network, 0
    for path, content in zip(arguments.paths, contents, strict=True):
        try:
            experts, found = buffers.import_experts(
                content, network=network, classes=known.classes, side=arguments.side or known.side
            )
        except ElfError as error:
            raise ElfError(f"{path.name}: {error}") from error
        _say(found.conclusions)
        network, digest = found.name, file_digest(path)
        for snapshots in experts:
            spec = {
                "dataset": known.dataset,
                "network": found.name,
                "classes": found.classes,
                "side": found.side,
                "index": index,
                "epochs": list(range(len(snapshots))),
                "held_out_per_class": 0,
                "storage": "float32",
                "recipe": None,
                "imported": _origin(path, digest, found.conclusions),
            }
            if not arguments.dry_run:
                _write(folder / f"expert{index}.safetensors", "expert trajectory", spec, dataset, started, snapshots)
            index += 1
    if not arguments.dry_run:
        print(f"written: {index} files in {folder}")
        print("next: give them to 'elf distill --experts' with a method that matches trajectories, such as mtt")


def _import_teacher(arguments, contents: list, known: Known, dataset: Manifest | None, started: float) -> None:
    path = arguments.paths[0]
    try:
        state, found = buffers.import_teacher(
            contents[0], network=arguments.network, classes=known.classes, side=arguments.side or known.side
        )
    except ElfError as error:
        raise ElfError(f"{path.name}: {error}") from error
    _say(found.conclusions)
    if arguments.dry_run:
        return
    out = arguments.out or Path("imported", f"{arguments.name}.safetensors")
    if out.exists() and not arguments.force:
        raise ElfError(f"{out}: exists; choose another --name or --out, or replace it with --force")
    spec = {
        "dataset": known.dataset,
        "network": str(parse(found.name)),
        "seed": None,
        "recipe": None,
        "classes": found.classes,
        "side": found.side,
        "epoch": None,
        "test_accuracy": None,
        "imported": _origin(path, file_digest(path), found.conclusions),
    }
    _write(out, "teacher checkpoint", spec, dataset, started, state)
    print(f"written: {out}")


def _origin(path: Path, digest: str, conclusions: list[Conclusion]) -> dict:
    return {"file": path.name, "sha256": digest, "conclusions": [conclusion.as_dict() for conclusion in conclusions]}


def _write(out: Path, kind: str, spec: dict, dataset: Manifest | None, started: float, content) -> None:
    tensors = content if isinstance(content, dict) else buffers.snapshot_names(content)
    # Readers compare what files were made from; of those of other people nobody knows it.
    inputs = {"dataset": dataset or {"kind": "dataset", "id": None}}
    code = import_code()
    write_tensors(out, tensors, describe(kind, spec, inputs=inputs, code=code, measured=_measured(started)))

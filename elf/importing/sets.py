"""From the files of a set to images, labels and what was concluded about them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from elf.artifacts.manifest import read_manifest
from elf.artifacts.tensors import read_tensors
from elf.data.preprocessing import WHITENED, ZCA
from elf.errors import ElfError
from elf.importing.beside import labels_beside, told_by_shape, two_arrays
from elf.importing.conclusions import Conclusion
from elf.importing.finding import Found, find_set
from elf.importing.folders import files_of_a_set, names_images, read_folder, unread_beside
from elf.importing.labels import POSITION, understand_labels
from elf.importing.layout import channels_first, is_grey
from elf.importing.names import refuse_grey_in_colour, result_name, said_by_name
from elf.importing.reading import file_digest, read
from elf.importing.spaces import Space, understand_space
from elf.specs.dataset import OWN
from elf.specs.labels import EARLIER, kind_of_recipe

OWN_KINDS = ("imported set", "exported set", "synthetic set")


@dataclass(frozen=True, eq=False)
class Known:
    """What is known about a set beforehand: what the user says, and what the data set says.

    Attributes
    ----------
    dataset : str or None
        Name of the data set.
    classes, side : int or None
    normalisation : str or None
        Of the data set: name of its constants or its whitening.
    class_names : list of str or None
    whitening : ZCA or None
    experiment : int or None
        Which of several sets in a file.
    layout : str or None
    space : str
        One of `elf.importing.spaces.CHOICES`.
    labels : str or None
        One of `elf.importing.labels.CHOICES`.
    """

    dataset: str | None = None
    classes: int | None = None
    side: int | None = None
    normalisation: str | None = None
    class_names: list[str] | None = None
    whitening: ZCA | None = None
    experiment: int | None = None
    layout: str | None = None
    space: str = "auto"
    labels: str | None = None


@dataclass(frozen=True, eq=False)
class ImportedSet:
    """A set in class-major order, in the pixel space that it was found in.

    Attributes
    ----------
    images : Tensor of float32, shape (n, 3, side, side)
    labels : Tensor of shape (n,) or (n, classes)
        int64 classes, or float32 rows.
    label_kind : str
        One of `elf.specs.labels.KINDS`.
    classes : int
    space : Space
    files : list of (name, sha256)
        Base names alone.
    experiment : int or None
    conclusions : list of Conclusion
    """

    images: Tensor
    labels: Tensor
    label_kind: str
    classes: int
    space: Space
    files: list[tuple[str, str]]
    experiment: int | None
    conclusions: list[Conclusion] = field(default_factory=list)

    @property
    def ipc(self) -> int:
        """Images per class."""
        return len(self.images) // self.classes

    @property
    def side(self) -> int:
        """Height and width of the images in pixels."""
        return self.images.shape[-1]

    def spec(self) -> dict[str, Any]:
        """Return what the manifest of the set says about it."""
        return {
            "space": self.space.name,
            "constants": self.space.constants,
            "classes": self.classes,
            "ipc": self.ipc,
            "side": self.side,
            "labels": self.label_kind,
            "experiment": self.experiment,
            "files": [{"name": name, "sha256": digest} for name, digest in self.files],
            "conclusions": [conclusion.as_dict() for conclusion in self.conclusions],
        }


def import_set(paths: Sequence[Path], known: Known | None = None, contents: Sequence[Any] | None = None) -> ImportedSet:
    """Read a set that other code left behind, and work out what its numbers are.

    Parameters
    ----------
    paths : sequence of Path
        One file with images and labels, one of each, or a folder.
    known : Known, optional
    contents : sequence, optional
        What `elf.importing.reading.read` gave for the paths, if they were read already.

    Raises
    ------
    ElfError
        If a file is unsafe, damaged or of another layout, if the parts do not fit each other or the data set, or if
        the values do not tell what they are.
    """
    known = known or Known()
    paths = [Path(path) for path in paths]
    if len(paths) == 1 and paths[0].is_dir():
        files = files_of_a_set(paths[0]) or two_arrays(paths[0])
        paths, contents = (files, None) if files else (paths, contents)
    where = " and ".join(path.name for path in paths)
    contents = contents if contents is not None else [None if path.is_dir() else read(path) for path in paths]
    try:
        found, space, known = _found(paths, contents, known)
        paths = [*paths, *([found.beside] if found.beside else [])]
        return _understood(paths, found, space, known)
    except ElfError as error:
        raise ElfError(f"{where}: {error}") from error


def _found(paths: list[Path], contents: Sequence[Any], known: Known) -> tuple[Found, Space | None, Known]:
    """Return images and labels, and what a manifest says about them besides what is known."""
    if len(paths) == 1 and paths[0].is_dir():
        images, labels, conclusions = read_folder(paths[0], known.class_names)
        return Found(images, labels, conclusions), None, known
    own = _own(paths[0], known) if len(paths) == 1 else None
    if own is not None:
        return own
    parts = [
        find_set(
            content,
            name=path.stem,
            experiment=known.experiment,
            class_names=known.class_names,
            by_position=known.labels == POSITION,
        )
        for path, content in zip(paths, contents, strict=True)
    ]
    images = [part.images for part in parts if part.images is not None]
    labels = [part.labels for part in parts if part.labels is not None]
    if len(parts) == len(images) == 2 and not labels:
        images, labels = told_by_shape(images, contents)
    if len(images) != 1 or len(labels) > 1:
        raise ElfError(f"found {len(images)} arrays of images and {len(labels)} of labels; name one set at a time")
    experiment = next((part.experiment for part in parts if part.experiment is not None), None)
    conclusions = [conclusion for part in parts for conclusion in part.conclusions]
    beside = None
    if not labels and len(paths) == 1 and known.labels != POSITION:
        found, beside, notes = labels_beside(paths[0], images[0])
        labels, conclusions = [found] if found is not None else [], conclusions + notes
    return Found(images[0], labels[0] if labels else None, conclusions, experiment, beside), None, known


def _own(path: Path, known: Known) -> tuple[Found, Space | None, Known] | None:
    """Read a set that this project wrote; its manifest says what others leave to be guessed."""
    try:
        kind = read_manifest(path)["kind"] if path.suffix == ".safetensors" else None
    except ElfError:
        return None
    if kind not in OWN_KINDS:
        return None
    tensors, manifest = read_tensors(path, kind, ["images", "labels"])
    spec, space = manifest["spec"], None
    if "space" in spec:
        constants = spec["constants"]
        if constants == OWN:
            raise ElfError(
                f"{path}: is normalised with constants that only its data set {spec['dataset']} has; nothing here "
                "tells them, so use the synthetic set itself"
            )
        finding = spec["space"] + (f" with the constants {constants}" if constants else "")
        space = Space(spec["space"], constants, Conclusion("pixel space", finding, "its manifest says so"))
    if known.labels is None:
        said = spec.get("labels", kind_of_recipe(spec.get("module"), spec.get("recipe")))
        labels_are_rows = tensors["labels"].dim() == 2
        known = replace(known, labels=EARLIER.get(said, said) if labels_are_rows and said != "hard" else None)
    conclusions = [Conclusion("file", kind, "its manifest says so")]
    return Found(tensors["images"], tensors["labels"], conclusions), space, known


def _understood(paths: list[Path], found: Found, own_space: Space | None, known: Known) -> ImportedSet:
    images, grouped, layout = channels_first(found.images, known.layout)
    labels = understand_labels(found.labels, len(images), classes=known.classes, grouped=grouped, told=known.labels)
    side = images.shape[-1]
    if known.side is not None and side != known.side:
        raise ElfError(
            f"the images are {side}x{side}, those of {known.dataset or 'the data set'} {known.side}x{known.side}"
        )
    stem = next((path.stem for path in paths if names_images(path)), paths[0].stem)
    result = result_name(stem)
    if is_grey(found.images):
        refuse_grey_in_colour(stem, known.dataset)
    space = own_space if own_space is not None and known.space == "auto" else None
    whitened = known.normalisation if known.normalisation in WHITENED else None
    space = space or understand_space(
        images,
        told=known.space,
        said=said_by_name(stem, known.dataset, known.normalisation),
        whitened=whitened,
        whitening=known.whitening,
    )
    conclusions = [*found.conclusions, layout, *labels.conclusions, space.conclusion]
    conclusions += [*_number_format(images), *unread_beside(paths)]
    as_float = images[labels.order].to(torch.float32).contiguous()
    if not torch.isfinite(as_float).all():
        raise ElfError("the images hold values that are too large for float32; get an intact copy")
    ipc = len(images) // labels.classes
    if result and int(result["ipc"]) != ipc:
        note = f"the name of the file says {result['ipc']}"
        conclusions.append(Conclusion("attention", f"{ipc} images a class", note))
    files = [(path.name, file_digest(path)) for path in paths]
    return ImportedSet(
        as_float, labels.values, labels.kind, labels.classes, space, files, found.experiment, conclusions
    )


def _number_format(images: Tensor) -> list[Conclusion]:
    if images.dtype != torch.float64:
        return []
    return [Conclusion("number format", "float32", "found float64; values are rounded to the nearest float32")]

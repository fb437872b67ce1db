"""Write a synthetic set as safetensors with a card, in the common layouts of other code, and as pictures."""

import argparse
import io
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from elf.artifacts.code import export_code
from elf.artifacts.files import write_bytes, write_json
from elf.artifacts.manifest import Manifest, describe, read_manifest
from elf.artifacts.tensors import write_tensors
from elf.data.preprocessing import CONSTANTS, ZCA, Normalisation
from elf.errors import ElfError
from elf.importing.reading import file_digest
from elf.importing.using import read_imported
from elf.objectives.labels import label_kind
from elf.running.inputs import (
    DATASET,
    check_made_from,
    check_settings,
    constants_of,
    read_preprocessing,
    read_synthetic_set,
)

FORMATS = ("safetensors", "res", "best", "png")


@dataclass(frozen=True, eq=False)
class Exported:
    """A set and its data set, in the space of the data set.

    Attributes
    ----------
    images : Tensor of float32, shape (n, 3, side, side)
    labels : Tensor of shape (n,) or (n, classes)
    label_kind : str
        One of `elf.specs.labels.KINDS`.
    manifest : dict
        Of the set.
    preprocessing : Normalisation or ZCA
    dataset : dict
        Manifest of the data set.
    """

    images: Tensor
    labels: Tensor
    label_kind: str
    manifest: Manifest
    preprocessing: Normalisation | ZCA
    dataset: Manifest

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, in the order of the labels."""
        return self.dataset["spec"]["class_names"]

    @property
    def ipc(self) -> int:
        """Images per class."""
        return len(self.images) // len(self.class_names)

    def spec(self) -> dict:
        """Return what the manifest of the exported file says about the set."""
        spec, normalisation = self.manifest["spec"], self.dataset["spec"]["normalisation"]
        constants = constants_of(self.manifest)
        whitened = isinstance(self.preprocessing, ZCA)
        return {
            "dataset": self.dataset["spec"]["name"],
            # An import has a name instead of a method of ours.
            "method": spec.get("method") or spec["name"],
            "network": spec.get("network"),
            "seed": spec.get("seed"),
            "recipe": spec.get("recipe"),
            "extra": spec.get("extra"),
            "imported": spec.get("files"),
            "space": "zca" if whitened else "normalised",
            "constants": normalisation if constants == DATASET else constants,
            "classes": len(self.class_names),
            "class_names": self.class_names,
            "ipc": self.ipc,
            "side": self.images.shape[-1],
            "labels": self.label_kind,
        }


def read_for_export(path: Path, dataset: Path) -> Exported:
    """Read a synthetic or imported set and the preprocessing of its data set.

    Raises
    ------
    ElfError
        If a file is missing, damaged or of another kind, or they do not belong together.
    """
    preprocessing, dataset_manifest = read_preprocessing(dataset)
    device = torch.device("cpu")
    if read_manifest(path)["kind"] == "imported set":
        normalisation = dataset_manifest["spec"]["normalisation"]
        imported, manifest = read_imported(path, preprocessing, normalisation, device)
        images, labels = imported.images, imported.labels
    else:
        images, labels, manifest = read_synthetic_set(path, device)
        check_settings(path, manifest, dataset=dataset_manifest["spec"]["name"])
        check_made_from(path, manifest, "dataset", dataset_manifest)
        preprocessing, _ = read_preprocessing(dataset, constants_of(manifest))
    classes, side = len(dataset_manifest["spec"]["class_names"]), dataset_manifest["spec"]["side"]
    found = labels.shape[1] if labels.dim() == 2 else int(labels.max()) + 1
    if found != classes or images.shape[-1] != side:
        raise ElfError(
            f"{path}: has {found} classes and side {images.shape[-1]}, but {dataset} has {classes} classes and side "
            f"{side}; name the data set that it belongs to"
        )
    return Exported(images, labels, label_kind(path, manifest, labels), manifest, preprocessing, dataset_manifest)


def result_name(spec: dict) -> str:
    """Return the name that the code of DC gives such a file, for example ``res_dm_cifar10_convnet-w128-d3-in_1ipc``."""
    parts = [spec["method"], spec["dataset"], spec["network"] or "none"]
    # The underscores are what takes the name apart again.
    plain = [re.sub("[^A-Za-z0-9.-]+", "-", part) for part in parts]
    return f"res_{'_'.join(plain)}_{spec['ipc']}ipc"


def export(exported: Exported, folder: Path, formats: tuple[str, ...] = FORMATS) -> list[Path]:
    """Write a set in some formats and ``card.json``, which says what the files hold.

    Parameters
    ----------
    exported : Exported
    folder : Path
    formats : tuple of str
        ``"safetensors"``: ``images.safetensors`` with a manifest. ``"res"``: ``res_<...>ipc.pt`` as the code of DC
        leaves it. ``"best"``: ``images_best.pt`` and ``labels_best.pt`` as that of MTT. ``"png"``: a folder a class;
        clipped to what pictures can show, which the card counts.

    Returns
    -------
    list of Path
        All files, the card last.
    """
    started = time.monotonic()
    spec = exported.spec()
    inputs = {"synthetic set": exported.manifest, "dataset": exported.dataset}
    manifest = describe("exported set", spec, inputs=inputs, code=export_code(), measured={})
    files, card = [], {"what": "exported set", **spec, **_numbers(exported)}
    if "safetensors" in formats:
        measured = {"device": "cpu", "wall_seconds": round(time.monotonic() - started, 3)}
        files.append(folder / "images.safetensors")
        tensors = {"images": exported.images, "labels": exported.labels}
        card["id"] = write_tensors(files[-1], tensors, manifest | {"measured": measured})["id"]
    if "res" in formats:
        files.append(folder / f"{result_name(spec)}.pt")
        _save(files[-1], {"data": [[exported.images, exported.labels]], "accs_all_exps": {}})
    if "best" in formats:
        for name, tensor in (("images_best.pt", exported.images), ("labels_best.pt", exported.labels)):
            files.append(folder / name)
            _save(files[-1], tensor)
    if "png" in formats:
        pixels = exported.preprocessing.inverse(exported.images)
        outside = float(((pixels < 0) | (pixels > 1)).double().mean())
        card["png"] = {
            "clipped": outside,
            "note": "share of values outside of what a picture can show, set to its ends",
        }
        for name, encoded in _pictures(pixels, exported):
            files.append(folder / "png" / name)
            write_bytes(files[-1], encoded)
    lineage = {"inputs": manifest["inputs"], "code_id": manifest["code_id"], "versions": manifest["versions"]}
    digests = {file.relative_to(folder).as_posix(): file_digest(file) for file in files}
    write_json(folder / "card.json", card | {"lineage": lineage, "sha256": digests})
    return [*files, folder / "card.json"]


def _numbers(exported: Exported) -> dict:
    normalisation = exported.dataset["spec"]["normalisation"]
    if isinstance(exported.preprocessing, ZCA):
        undo = "whitened with mean and matrix of the data set named under lineage: (pixels / 255 - mean) @ matrix"
        constants = {}
    else:
        undo = "(pixels / 255 - mean) / std for each channel"
        mean, std = CONSTANTS.get(normalisation, (exported.preprocessing.mean, exported.preprocessing.std))
        constants = {"mean": list(mean), "std": list(std)}
    return {
        "preprocessing": undo,
        **constants,
        "images_shape": list(exported.images.shape),
        "images_range": [float(exported.images.min()), float(exported.images.max())],
        "labels_shape": list(exported.labels.shape),
        "order": "class-major: all images of class 0, then those of class 1, and so on",
    }


def _save(path: Path, content) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(path, buffer.getvalue())


def _pictures(pixels: Tensor, exported: Exported) -> Iterator[tuple[str, bytes]]:
    as_bytes = pixels.clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    folders = _folder_names(exported.class_names)
    digits = max(2, len(str(exported.ipc - 1)))
    for place, image in enumerate(as_bytes):
        label, number = divmod(place, exported.ipc)
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, format="PNG")
        yield f"{folders[label]}/{number:0{digits}d}.png", buffer.getvalue()


def _folder_names(class_names: list[str]) -> list[str]:
    """Return a folder's name for each class, with the class's number in front if names need changing."""
    safe = [re.sub(r"[^\w .,()-]", "_", name).strip(" .") for name in class_names]
    if safe == class_names and len({name.casefold() for name in safe}) == len(safe):
        return safe
    width = len(str(len(safe) - 1))
    return [f"{label:0{width}d} {name}".strip() for label, name in enumerate(safe)]


def main(argv: list[str]) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="elf export", description=__doc__)
    parser.add_argument("set", type=Path, metavar="SET", help="input: synthetic or imported set (.safetensors)")
    parser.add_argument("--dataset", required=True, type=Path, metavar="FILE", help="input: its prepared dataset")
    parser.add_argument("--folder", required=True, type=Path, help="output: folder for all files")
    parser.add_argument(
        "--format", nargs="+", choices=FORMATS, default=FORMATS, help="which files, card.json aside (default: all)"
    )
    arguments = parser.parse_args(argv)
    for file in export(read_for_export(arguments.set, arguments.dataset), arguments.folder, tuple(arguments.format)):
        if file.suffix != ".png":
            print(f"written: {file}")

"""Draw the images of a synthetic set, without normalisation or whitening, as one picture."""

import argparse
import io
from pathlib import Path

import torch

from elf.artifacts.files import write_bytes
from elf.data.pictures import contact_sheet
from elf.running.inputs import constants_of, read_preprocessing, read_synthetic_set


def main(argv: list[str]) -> None:
    """Run the stage from the command line."""
    parser = argparse.ArgumentParser(prog="elf contact-sheet", description=__doc__)
    parser.add_argument("--images", required=True, type=Path, metavar="FILE", help="input: synthetic set")
    parser.add_argument("--dataset", required=True, type=Path, metavar="FILE", help="input: its dataset")
    parser.add_argument("--picture", required=True, type=Path, metavar="FILE", help="output: PNG")
    arguments = parser.parse_args(argv)
    images, labels, set_manifest = read_synthetic_set(arguments.images, torch.device("cpu"))
    if labels.dim() == 2:
        # Soft labels: a picture is shown in the row of the class that it is most of.
        labels = labels.argmax(dim=1)
    preprocessing, manifest = read_preprocessing(arguments.dataset, constants_of(set_manifest))
    picture = contact_sheet(preprocessing.inverse(images), labels, manifest["spec"]["class_names"])
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    write_bytes(arguments.picture, buffer.getvalue())

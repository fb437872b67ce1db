"""What the paper calls a run, in words."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from elf.results.labels import dataset_label, method_label, network_label, objective_label, value_label
from elf.specs.teacher import FULL_DATA

if TYPE_CHECKING:
    from elf.verdicts.comparison import Comparison


def setting_texts(row: Mapping) -> dict[str, str]:
    """Return the words for each column of the setting that applies: ``{"ipc": "IPC 10", "method": "DM", ...}``."""
    texts = {"paper_dataset": dataset_label(row["paper_dataset"])}
    if not pd.isna(row["ipc"]):
        texts["ipc"] = f"IPC {row['ipc']:g}"
    texts["method"] = method_label(row["method"])
    if not pd.isna(row["paper_distill_network"]):
        texts["paper_distill_network"] = f"images of {network_label(row['paper_distill_network'], short=False)}"
    texts["paper_eval_network"] = f"on {network_label(row['paper_eval_network'], short=False)}"
    if row["method"] != FULL_DATA:
        texts["objective"] = objective_label(row["objective"])
    if not pd.isna(row["distance"]):
        texts["distance"] = value_label("distance", row["distance"])
    if not pd.isna(row["paper_teacher_network"]):
        texts["paper_teacher_network"] = f"features of {network_label(row['paper_teacher_network'], short=False)}"
    return texts


def setting_text(row: Mapping) -> str:
    """Return one line that names a run: ``CIFAR-10, IPC 10, DM, images of ConvNet-W128-D3-IN, on VGG11-BN, baseline``.

    Networks are written out, because a table's short names mean different networks in different tables.
    """
    return ", ".join(setting_texts(row).values())


def set_text(one: "Comparison") -> str:
    """Return one line that names a run that is held against a printed one, with its images if others made them."""
    named = f"; images: {one.other_set}, of others" if one.other_set else ""
    return setting_text(one.printed) + named


def contrast_texts(first: Mapping, second: Mapping) -> tuple[str, str, str]:
    """Return what two runs have in common, and what each has for itself.

    A run without a teacher differs from one with it by its objective alone: the rest is a matter of course.
    """
    ours, theirs = setting_texts(first), setting_texts(second)
    if (ours.get("objective") == objective_label("task")) != (theirs.get("objective") == objective_label("task")):
        for texts in (ours, theirs):
            texts.pop("paper_teacher_network", None)
            if texts.get("distance") == value_label("distance", "ce"):
                texts.pop("distance")
    shared = [text for column, text in ours.items() if theirs.get(column) == text]
    return (
        ", ".join(shared),
        ", ".join(text for text in ours.values() if text not in shared),
        ", ".join(text for text in theirs.values() if text not in shared),
    )

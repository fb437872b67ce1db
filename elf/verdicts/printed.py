"""The numbers that the paper prints, in the names of this project."""

import re
from functools import cache
from importlib.resources import files

import pandas as pd

from elf.errors import ElfError
from elf.specs.network import NetworkName, matching_teacher
from elf.specs.teacher import FULL_DATA

TABLES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12)
"""Tables of accuracies; Table 10 lists epochs."""

SETTING = (
    "paper_dataset",
    "ipc",
    "method",
    "paper_distill_network",
    "paper_eval_network",
    "objective",
    "distance",
    "paper_teacher_network",
)
"""What the paper calls a run: two numbers that agree on these columns should be equal."""

DATASETS = {
    ("CIFAR-10", "0"): "cifar10",
    ("CIFAR-10", "1?"): "cifar10-frepo",
    ("CIFAR-100", "0"): "cifar100",
    ("CIFAR-100", "1"): "cifar100-zca",
    ("TinyImageNet", "0"): "tiny-imagenet",
    ("ImageNet-1K", "0"): "imagenet-1k",
}
METHODS = {"DM": "dm", "DSA": "dsa", "MTT": "mtt", "TESLA": "tesla", "FrePo": "frepo", "full": FULL_DATA}
OBJECTIVES = {
    ("baseline", "task"): "task",
    ("full_data", ""): "task",
    ("elf", "task+front+rear"): "elf",
    ("elf_ablation_a", "task+rear"): "elf[rear+task]",
    ("elf_ablation_b", "task+front"): "elf[front+task]",
    ("elf_ablation_c", "front+rear"): "elf[front+rear]",
    # A gain is that of ELF as in all tables but the ablations.
    ("gain_as_printed", ""): "elf",
}
_NETWORK = re.compile(
    r"ConvNet(D(?P<depth>\d+))?(W(?P<width>\d+))?-(?P<convnet_norm>IN|BN)"
    r"|(?P<family>ResNet18|VGG11)-(?P<norm>IN|BN)"
    r"|FrePoConv-(?P<frepoconv_norm>BN)"
)


def network_of(printed: str) -> str | None:
    """Return the name of a network that the paper prints: ``ConvNet-IN`` is ``convnet-w128-d3-in``.

    Parameters
    ----------
    printed : str
        A ConvNet has width 128 and depth 3 where its name does not say otherwise. Empty where none is printed.

    Raises
    ------
    ElfError
        If the network is unknown.
    """
    if not printed:
        return None
    match = _NETWORK.fullmatch(printed)
    if match is None:
        raise ElfError(f"the paper's numbers name an unknown network {printed!r}")
    if match["convnet_norm"]:
        width, depth = int(match["width"] or 128), int(match["depth"] or 3)
        return str(NetworkName("convnet", width, depth, match["convnet_norm"].lower()))
    if match["frepoconv_norm"]:
        return str(NetworkName("frepoconv", 128, norm="bn"))
    return f"{match['family']}-{match['norm']}".lower()


def read_printed() -> pd.DataFrame:
    """Return what the paper prints in Tables 1 to 9, 11 and 12, one row a printed cell.

    Returns
    -------
    DataFrame
        ``table``, ``row`` (in the file of that table), ``experiment`` (``table01``); ``side`` of the images in pixels;
        the columns ``SETTING`` (``ipc`` is NaN for full data, networks and ``distance`` are None where there are none);
        ``teacher_epoch`` (NaN without a teacher); ``mean`` and ``std`` in percent (NaN where not printed; the
        population standard deviation over 5 networks); ``bold``; ``inferred``, whether the column of the table was
        inferred; ``note``; ``kind``, ``accuracy`` or ``gain``. An accuracy without a mean is a cell whose value is
        lost.
    """
    return _printed().copy()


@cache
def _printed() -> pd.DataFrame:
    return pd.concat([_table(number) for number in TABLES], ignore_index=True)


def paper_side(dataset: str) -> int:
    """Return height and width of the images of a dataset of the paper, in pixels."""
    printed = _printed()
    (side,) = printed.loc[printed["paper_dataset"] == dataset, "side"].unique()
    return int(side)


def _text(number: int) -> pd.DataFrame:
    with (files("elf.verdicts") / "paper" / f"table{number:02d}.csv").open(encoding="utf-8") as stream:
        return pd.read_csv(stream, dtype=str, keep_default_na=False)


def _table(number: int) -> pd.DataFrame:
    text = _text(number)
    rows = text.to_dict("records")
    gain = text["variant"] == "gain_as_printed"
    objective = _named(zip(text["variant"], text["loss_terms"], strict=True), OBJECTIVES)
    return pd.DataFrame(
        {
            "table": number,
            "row": text["row"].astype(int),
            "experiment": f"table{number:02d}",
            "paper_dataset": _named(zip(text["dataset"], text["zca"], strict=True), DATASETS),
            "side": text["resolution"].astype(int),
            "ipc": pd.to_numeric(text["ipc"].replace("full", "")),
            "method": _named(text["method"], METHODS),
            "paper_distill_network": _names([network_of(name) for name in text["distill_model"]]),
            "paper_eval_network": _names([network_of(name) for name in text["eval_model"]]),
            "objective": _names(
                ["frepo" if row["method"] == "FrePo" else name for row, name in zip(rows, objective, strict=True)]
            ),
            "distance": _names(
                ["ce" if of_gain else row["distance"].lower() or None for row, of_gain in zip(rows, gain, strict=True)]
            ),
            "paper_teacher_network": _names(
                [None if name == "task" else _teacher(row) for row, name in zip(rows, objective, strict=True)]
            ),
            "teacher_epoch": pd.to_numeric(text["feature_epoch"].str.rstrip("?")),
            "mean": pd.to_numeric(text["mean"]),
            "std": pd.to_numeric(text["std"]),
            "bold": text["bold"] == "1",
            "inferred": text["column_inferred"] == "1",
            "note": text["note"],
            "kind": ["gain" if of_gain else "accuracy" for of_gain in gain],
        }
    )


def _named(keys, names: dict) -> list[str]:
    keys = list(keys)
    unknown = [key for key in keys if key not in names]
    if unknown:
        raise ElfError(f"the paper's numbers name an unknown {unknown[0]!r}; known are {', '.join(map(str, names))}")
    return [names[key] for key in keys]


def _names(values: list) -> pd.Series:
    # pandas would turn None into NaN in a column of text.
    return pd.Series(values, dtype=object)


def _teacher(row: dict) -> str | None:
    return network_of(row["feature_model"]) or matching_teacher(network_of(row["eval_model"]), int(row["resolution"]))


def read_teacher_epochs() -> pd.DataFrame:
    """Return Table 10: the epoch of the teacher for each table, dataset and method.

    Returns
    -------
    DataFrame
        ``applies_to_table`` (int), ``paper_dataset``, ``ipc``, ``method``, ``teacher_epoch`` (NaN for a dash).
    """
    text = _text(10)
    return pd.DataFrame(
        {
            "applies_to_table": text["applies_to_table"].astype(int),
            "paper_dataset": _named([(name, "0") for name in text["dataset"]], DATASETS),
            "ipc": text["ipc"].astype(float),
            "method": _named(text["method"], METHODS),
            "teacher_epoch": pd.to_numeric(text["feature_epoch"]),
        }
    )

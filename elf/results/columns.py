"""The columns of the results, how a cell selects its rows, and what values are called in print."""

import hashlib
import json
import numbers
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from elf.errors import ElfError
from elf.results.statistics import Summary, summarise_seeds

# A synthetic set: cells that agree on these are evaluations of the same images.
SET_COLUMNS = ("paper_dataset", "dataset", "method", "distill_network", "ipc", "synthetic_variant")
# How a network is trained on them.
TRAINING_COLUMNS = (
    "distance",
    "lambda_front",
    "lambda_rear",
    "teacher_network",
    "teacher_epoch",
    "lr",
    "epochs",
)
KEY_COLUMNS = (*SET_COLUMNS, "paper_eval_network", "eval_network", "objective", *TRAINING_COLUMNS)

PROVENANCE_COLUMNS = (
    "dataset_id",
    "synthetic_set_id",
    "teacher_id",
    "features_id",
    "code_id",
    "device",
    "train_seconds",
    "peak_memory_bytes",
)
REQUIRED_COLUMNS = (
    *(column for column in KEY_COLUMNS if column != "synthetic_variant"),
    "seed",
    "accuracy",
    *PROVENANCE_COLUMNS,
)


@dataclass(frozen=True, eq=False)
class Cell:
    """One training configuration that a table or figure wants, with the results it has so far.

    Attributes
    ----------
    key : dict
        Value of each of ``KEY_COLUMNS``; None where it does not apply.
    aligned : bool
        Whether the evaluation network is the one that the set was distilled with.
    rows : DataFrame
        Its rows of the results, one a seed, in the order of the seeds; empty when it has not been run.
    """

    key: dict
    aligned: bool
    rows: pd.DataFrame

    def __getitem__(self, column: str):
        return self.key[column]

    @cached_property
    def accuracies(self) -> pd.Series:
        """Accuracy (fraction of the test set) by seed."""
        return self.rows.set_index("seed")["accuracy"].astype(float)

    @cached_property
    def summary(self) -> Summary:
        """Statistics of the accuracies, as fractions."""
        return summarise_seeds(self.accuracies)

    @property
    def anchor(self) -> str:
        """Identifier that depends on the key alone, for links."""
        text = json.dumps(self.key, sort_keys=True)
        return f"cell-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def check_results(results: pd.DataFrame) -> None:
    """Refuse results that cannot be shown without a wrong number.

    Raises
    ------
    ElfError
        When a column is missing, or an accuracy is not a fraction between 0 and 1.
    """
    missing = [column for column in REQUIRED_COLUMNS if column not in results.columns]
    if missing:
        raise ElfError(f"the results lack the column(s) {', '.join(missing)}; make the results again")
    accuracy = pd.to_numeric(results["accuracy"], errors="coerce")
    wrong = ~accuracy.between(0, 1)
    if wrong.any():
        row = wrong.idxmax()
        raise ElfError(
            f"row {row} of the results has the accuracy {results.loc[row, 'accuracy']!r}; "
            "allowed are fractions from 0 to 1; make that evaluation again"
        )


def gather(cells: pd.DataFrame, results: pd.DataFrame) -> list[Cell]:
    """Join cells with their results on the key columns, where a missing value equals a missing value.

    Parameters
    ----------
    cells : DataFrame
        One row a cell, with ``KEY_COLUMNS`` and ``aligned``; a cell listed twice counts once.
    results : DataFrame
        One row a seed, with ``REQUIRED_COLUMNS``. ``synthetic_variant`` may be absent as long as the cells
        name no more than one.

    Raises
    ------
    ElfError
        When a column is missing, an accuracy is no fraction, or a cell has two rows with the same seed.
    """
    check_results(results)
    missing = [column for column in (*KEY_COLUMNS, "aligned") if column not in cells.columns]
    if missing:
        raise ElfError(
            f"the cells lack the column(s) {', '.join(missing)}; name each of {', '.join(KEY_COLUMNS)}"
        )
    joined = [column for column in KEY_COLUMNS if column in results.columns]
    if "synthetic_variant" not in joined and cells["synthetic_variant"].nunique(dropna=False) > 1:
        raise ElfError("the results lack the column synthetic_variant, by which the cells differ")
    positions: dict[tuple, list[int]] = {}
    for position, values in enumerate(_tuples(results, joined)):
        positions.setdefault(values, []).append(position)
    gathered: dict[tuple, Cell] = {}
    for values, aligned in zip(_tuples(cells, KEY_COLUMNS), cells["aligned"], strict=True):
        key = dict(zip(KEY_COLUMNS, values, strict=True))
        rows = results.iloc[positions.get(tuple(key[column] for column in joined), [])].sort_values("seed")
        if rows["seed"].duplicated().any():
            seed = rows.loc[rows["seed"].duplicated(), "seed"].iloc[0]
            raise ElfError(f"the results have seed {seed} twice for {describe(key)}; make the results again")
        gathered.setdefault(values, Cell(key, bool(aligned), rows))
    return list(gathered.values())


def _tuples(frame: pd.DataFrame, columns: Sequence[str]) -> list[tuple]:
    return list(zip(*([_plain(value) for value in frame[column]] for column in columns), strict=True))


def _plain(value):
    """Return None for a missing value and a float for a number, so that 30, 30.0 and NumPy's 30 are equal."""
    if value is None or pd.isna(value):
        return None
    return float(value) if isinstance(value, numbers.Real) else str(value)


def baseline_of(cell: Cell, cells: Iterable[Cell]) -> Cell | None:
    """Return the cell that trains the same network on the same synthetic set with the task loss alone.

    Where several do (for instance at two learning rates) the one with the same ``lr`` and ``epochs`` is
    preferred, then the first.
    """
    same = (*SET_COLUMNS, "paper_eval_network", "eval_network")
    baselines = [
        other for other in cells if other["objective"] == "task" and all(other[c] == cell[c] for c in same)
    ]
    matched = [other for other in baselines if all(other[c] == cell[c] for c in ("lr", "epochs"))]
    return next(iter(matched + baselines), None)


METHOD_LABELS = {
    "dm": "DM",
    "dsa": "DSA",
    "mtt": "MTT",
    "tesla": "TESLA",
    "frepo": "FrePo",
    "random": "Random real images",
}
DATASET_LABELS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "tiny-imagenet": "Tiny ImageNet"}
FAMILY_LABELS = {"convnet": "ConvNet", "resnet18": "ResNet18", "vgg11": "VGG11"}
NORM_ORDER = ("in", "bn")
OBJECTIVE_LABELS = {"task": "baseline", "elf": "+ ELF", "kd": "+ KD"}
DISTANCE_LABELS = {"ce": "CE", "mae": "MAE", "mse": "MSE", "cos": "Cos"}
SETTING_LABELS = {
    "distance": "distance",
    "lambda_front": "λ front",
    "lambda_rear": "λ rear",
    "teacher_network": "teacher",
    "teacher_epoch": "teacher epoch",
    "lr": "lr",
    "epochs": "epochs",
    "ipc": "IPC",
    "eval_network": "network",
    "distill_network": "distilled with",
    "paper_dataset": "dataset",
    "dataset": "data",
    "synthetic_variant": "variant",
}


def method_label(name: str) -> str:
    """Return the name of a distillation method as the paper prints it."""
    return METHOD_LABELS.get(name, name)


def dataset_label(name: str) -> str:
    """Return the name of a dataset as the paper prints it."""
    return DATASET_LABELS.get(name, name)


def objective_label(name: str) -> str:
    """Return the label of a table row: ``baseline``, ``+ ELF``, ``+ ELF[front+task]``, ``+ KD``."""
    if name.startswith("elf["):
        return "+ ELF" + name.removeprefix("elf")
    return OBJECTIVE_LABELS.get(name, f"+ {name}")


def network_label(name: str, *, short: bool = True) -> str:
    """Return a network as the paper prints it: ``ConvNet-IN``, or in full ``ConvNet-W128-D3-IN``."""
    family, *parts = name.split("-")
    if family not in FAMILY_LABELS or not parts:
        return name
    return "-".join([FAMILY_LABELS[family], *(part.upper() for part in (parts[-1:] if short else parts))])


def network_labels(names: Iterable[str]) -> dict[str, str]:
    """Return the short label of each network, and the full one where two would share the short one."""
    names = list(dict.fromkeys(names))
    short = {name: network_label(name) for name in names}
    shared = [label for label in short.values() if list(short.values()).count(label) > 1]
    return {name: network_label(name, short=label not in shared) for name, label in short.items()}


def network_order(name: str) -> tuple:
    """Return the sorting key of the paper's column order: by family, then IN before BN."""
    family, norm = name.split("-")[0], name.split("-")[-1]
    families = list(FAMILY_LABELS)
    return (
        families.index(family) if family in families else len(families),
        NORM_ORDER.index(norm) if norm in NORM_ORDER else len(NORM_ORDER),
    )


def setting_label(column: str, value) -> str:
    """Return a setting and its value for print, such as ``λ front 0.5`` or ``teacher epoch 30``."""
    return f"{SETTING_LABELS.get(column, column)} {value_label(column, value)}"


def value_label(column: str, value) -> str:
    """Return the value of a key column for print."""
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:g}"
    if column == "method":
        return method_label(value)
    if column in ("dataset", "paper_dataset"):
        return dataset_label(value)
    if column == "distance":
        return DISTANCE_LABELS.get(value, value)
    return network_label(value, short=False) if column.endswith("network") else value


def describe(key: dict) -> str:
    """Return one line that names a cell."""
    return f"{method_label(key['method'])} {objective_label(key['objective'])} on {key['eval_network']}"

"""The table of columns of results: what each holds, what it is read from, what it is for and what it is called.

The schema of results files and their rows, the columns of cells, what cells are joined with results by, names of cells,
labels, and what is read of files that lack a column come from it: a new column is one entry.
"""

from collections.abc import Callable, Mapping
from typing import Any

from elf.specs.column import ORIGIN, PAPER, PLACE, SET, SHOWN, SPENT, TRAINING, VARIANT, Column, Run

# What several columns have in common; such as are added later, or by other people left out, are optional.
DATA = {"role": SET, "names": "dataset", "section": "data"}
OBJECTIVE = {"role": TRAINING, "section": "objective"}
TEACHER = {"section": "teacher"}
TRAINED = {"role": TRAINING, "section": "training"}
NETWORK = {"names": "network"}
LATER = {"is_optional": True}


def _of_objective(column: str) -> Callable[[Run], Any]:
    """Return what reads the setting of an objective that has a column; None for objectives without it."""
    return lambda run: run.objective.column(column)


# In the order of results files; what the paper calls it stands before what was taken for it.
COLUMNS = (
    Column("scale", str, lambda run: run.scale),
    Column("paper_dataset", None, lambda run: run.paper_dataset, **DATA, label="dataset", **LATER),
    Column("dataset", str, lambda run: run.evaluation.dataset, **DATA, label="data", words="{}"),
    Column("data_source", str, lambda run: run.source),
    Column("method", str, lambda run: run.images.method, SET, names="method", section="images", words="{}"),
    Column(
        "synthetic_variant",
        str,
        lambda run: run.images.variant,
        VARIANT,
        label="variant",
        names="variant",
        section="images",
        words="{}",
        **LATER,
    ),
    Column(
        "paper_distill_network", None, lambda run: run.paper_distill_network, PAPER, **NETWORK, section="distilled with"
    ),
    Column(
        "distill_network",
        str,
        lambda run: run.images.network,
        SET,
        **NETWORK,
        label="distilled with",
        section="distilled with",
        words="from-{} {}",
    ),
    Column("ipc", int, lambda run: run.images.ipc, SET, label="IPC", section="images", words="ipc{:g}"),
    Column("distill_seed", int, lambda run: run.images.seed),
    Column(
        "paper_eval_network",
        None,
        lambda run: run.paper_eval_network,
        PLACE,
        **NETWORK,
        label="paper's network",
        section="evaluated",
        **LATER,
    ),
    Column(
        "eval_network",
        str,
        lambda run: run.evaluation.network,
        PLACE,
        **NETWORK,
        label="network",
        section="evaluated",
        words="{}",
    ),
    Column("objective", str, lambda run: run.objective.label, PLACE, section="objective", words="{}"),
    Column("distance", str, _of_objective("distance"), **OBJECTIVE, names="distance", words="{}"),
    Column(
        "lambda_front",
        float,
        _of_objective("lambda_front"),
        **OBJECTIVE,
        label="λ front",
        words="front{:g}",
    ),
    Column(
        "lambda_rear",
        float,
        _of_objective("lambda_rear"),
        **OBJECTIVE,
        label="λ rear",
        words="rear{:g}",
    ),
    Column(
        "variant",
        str,
        _of_objective("variant"),
        **OBJECTIVE,
        label="definition",
        words="{}-loss",
        **LATER,
    ),
    Column(
        "temperature",
        float,
        _of_objective("temperature"),
        **OBJECTIVE,
        words="temperature{:g}",
        **LATER,
    ),
    Column(
        "kd_weight",
        float,
        _of_objective("kd_weight"),
        **OBJECTIVE,
        label="KD weight",
        words="weight{:g}",
        **LATER,
    ),
    Column("paper_teacher_network", None, lambda run: run.paper_teacher_network, PAPER, **NETWORK, **TEACHER),
    Column(
        "teacher_network",
        str,
        lambda run: run.evaluation.teacher_network,
        TRAINING,
        **NETWORK,
        **TEACHER,
        label="teacher",
        words="teacher-{}",
    ),
    Column("teacher_epoch", int, lambda run: run.evaluation.teacher_epoch, TRAINING, **TEACHER, words="epoch{:g}"),
    Column("lr", float, lambda run: run.recipe.lr, **TRAINED, words="lr{:g}"),
    Column("epochs", int, lambda run: run.recipe.epochs, **TRAINED),
    Column("batch_size", int, lambda run: run.recipe.batch_size, **TRAINED, label="batch", **LATER),
    Column("precision", str, lambda run: run.recipe.precision, **TRAINED, **LATER, earlier="float32"),
    # In one piece where nobody says it.
    Column(
        "batch_norm_splits",
        int,
        lambda run: run.recipe.splits,
        **TRAINED,
        label="batch norm pieces",
        **LATER,
        earlier=1,
        unsaid=1,
    ),
    Column(
        "training_variant",
        str,
        lambda run: run.evaluation.training_variant,
        **TRAINED,
        label="training",
        words="{}",
        **LATER,
    ),
    Column("labels", str, lambda run: run.images.label_kind, **LATER),
    # Those of `elf.specs.shard.SHARD`: evaluations depend on it, and not on this table.
    Column("seed", int, checkpoint=lambda manifest: manifest["spec"]["seed"]),
    Column("accuracy", float, checkpoint=lambda manifest: manifest["spec"]["test_accuracy"]),
    Column("train_seconds", float, role=SPENT, checkpoint=lambda manifest: manifest["measured"]["wall_seconds"]),
    Column("peak_memory_bytes", int, role=SPENT, checkpoint=lambda manifest: manifest["measured"]["peak_memory_bytes"]),
    Column("dataset_id", str, role=ORIGIN, checkpoint=lambda manifest: manifest["inputs"]["dataset"]["id"]),
    Column("synthetic_set_id", str, role=ORIGIN),
    Column("features_id", str, role=ORIGIN),
    Column("teacher_id", str, role=ORIGIN, checkpoint=lambda manifest: manifest["id"]),
    Column("device", str, role=ORIGIN, checkpoint=lambda manifest: manifest["measured"]["device"]),
    Column("code_id", str, role=ORIGIN, checkpoint=lambda manifest: manifest["code_id"]),
    Column("shard", str, lambda run: run.shard),
    Column("aligned", None, lambda run: run.aligned, SHOWN, words="aligned"),
    Column("seeds", None, lambda run: len(run.evaluation.seeds), SHOWN, section="training"),
)

BY_NAME = {column.name: column for column in COLUMNS}


def of_cell(run: Run) -> dict[str, Any]:
    """Return what identifies a cell in results, how the paper labels it, and what is shown with it."""
    return {column.name: column.of(run) for column in COLUMNS if column.is_of_cells}


def of_row(run: Run) -> dict[str, Any]:
    """Return what a row has besides what stands in its shard."""
    return {column.name: column.of(run) for column in COLUMNS if column.stored and column.of}


def of_checkpoint(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the row of a training on all real images has in place of a shard's columns."""
    shard = [column for column in COLUMNS if column.stored and not column.of]
    return {column.name: column.checkpoint and column.checkpoint(manifest) for column in shard}

"""What the report says of one number: its seeds, what it was made from, and how to make it again."""

from collections.abc import Mapping

import pandas as pd

from elf.artifacts.lineage import Artifact
from elf.report import text
from elf.report.comparisons import comparison_row
from elf.report.content import Origin, Report
from elf.results.columns import KEY_COLUMNS, Cell
from elf.results.labels import (
    dataset_label,
    method_label,
    network_label,
    objective_label,
    value_label,
)
from elf.specs.columns import BY_NAME
from elf.specs.kinds import EXPERTS

LISTED = ("labels", "dataset_id", "synthetic_set_id", "features_id", "teacher_id", "code_id", "device")
"""Columns of the results that are the same for every seed of a cell."""

SEED_COLUMNS = ("seed", "accuracy", "train_seconds", "peak_memory_bytes", "shard")


def appearances(report: Report) -> dict[str, list[dict]]:
    """Return where each cell is shown, by its anchor: tables and figures, with addresses relative to its page."""
    found: dict[str, list[dict]] = {}
    for table in report.tables:
        for anchor in dict.fromkeys(cell.anchor for cell in table.cells):
            found.setdefault(anchor, []).append({"title": table.title, "address": f"../tables/{table.name}.html"})
    for figure, name in zip(report.figures, text.slugs(figure.name for figure in report.figures), strict=True):
        for anchor in dict.fromkeys(cell.anchor for cell in figure.cells):
            found.setdefault(anchor, []).append({"title": figure.title, "address": f"../figures.html#{name}"})
    return found


def comparisons_by_cell(report: Report) -> dict[str, list[dict]]:
    """Return the printed numbers that each cell is compared with, by its anchor."""
    found: dict[str, list[dict]] = {}
    for table in report.tables:
        for row in map(comparison_row(table), table.comparisons):
            if row["anchor"] is not None:
                found.setdefault(row["anchor"], []).append({"title": table.title, **row})
    return found


def title(cell: Cell) -> str:
    """Return one line that names a cell: dataset, images per class, method, network, objective."""
    parts = [dataset_label(cell["paper_dataset"])]
    if cell["ipc"] is not None:
        parts.append(f"IPC {cell['ipc']:g}")
    parts += [method_label(cell["method"]), network_label(cell["paper_eval_network"])]
    if cell["ipc"] is not None:
        parts.append(objective_label(cell["objective"]))
    return ", ".join(parts)


def cell_view(cell: Cell, origin: Origin) -> dict:
    """Return what the page of a cell shows."""
    rows, summary = cell.rows, cell.summary
    known = LISTED if not rows.empty else ()
    shared = [column for column in known if column in rows and not rows[column].isna().all()]
    interval = ""
    if summary.n > 1:
        interval = f"{text.percent(summary.low)} to {text.percent(summary.high)}"
    return {
        "anchor": cell.anchor,
        "title": title(cell),
        "settings": {
            BY_NAME[column].printed: value_label(column, cell[column])
            for column in KEY_COLUMNS
            if cell[column] is not None
        },
        "shared": {column.replace("_", " "): _texts(rows[column]) for column in shared},
        "seeds": _seeds(rows),
        "wanted": cell.seeds,
        "mean": text.percent(summary.mean),
        "std": text.percent(summary.std),
        "interval": interval,
        "artifacts": [artifact_view(artifact) for artifact in origin.artifacts if artifact.role != EXPERTS.one],
        "experts": [artifact_view(artifact) for artifact in origin.artifacts if artifact.role == EXPERTS.one],
        "recipes": origin.recipes,
        "commands": origin.commands,
    }


def artifact_view(artifact: Artifact) -> dict:
    """Return what is said of a file: where, which, how and when it was made."""
    manifest: Mapping = artifact.manifest or {}
    measured = manifest.get("measured", {})
    return {
        "role": artifact.role,
        "path": artifact.path,
        "state": artifact.state,
        "id": artifact.id or text.NOTHING,
        "code_id": manifest.get("code_id", text.NOTHING),
        "device": measured.get("device", text.NOTHING),
        "seconds": text.seconds(measured.get("wall_seconds")),
        "memory": text.size(measured.get("peak_memory_bytes")),
        "spec": manifest.get("spec", {}),
        "versions": manifest.get("versions", {}),
        "inputs": {role: source["id"] for role, source in manifest.get("inputs", {}).items()},
    }


def _seeds(rows: pd.DataFrame) -> list[dict]:
    # Column by column, because a frame gives its rows away slowly.
    columns = {name: rows[name].tolist() if name in rows else [None] * len(rows) for name in SEED_COLUMNS}
    return [_seed(dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)]


def _seed(row: dict) -> dict:
    duration, memory, shard = row["train_seconds"], row["peak_memory_bytes"], row["shard"]
    return {
        "seed": row["seed"],
        "accuracy": text.percent(row["accuracy"]),
        "seconds": "" if pd.isna(duration) else f"{duration:.1f}",
        "memory": "" if pd.isna(memory) else f"{memory / 2**20:.0f}",
        "shard": "" if pd.isna(shard) else shard,
    }


def _texts(values) -> str:
    return ", ".join(str(value) for value in dict.fromkeys(values.dropna()))

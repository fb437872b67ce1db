"""Fill docs/scaling.md: each table and list stands between two marks of its name, and comes from the measured files."""

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import scaling_sentences as sentences
import scaling_tables as tables

BLOCKS: dict[str, Callable[[tables.Frames], str]] = {
    "answer": sentences.answer,
    "ask": sentences.ask,
    "graph-notes": sentences.graph_notes,
    "wall-time": tables.wall_time,
    "saturation": tables.saturation,
    "longest": tables.longest,
    "unrolled": tables.unrolled,
    "groups": tables.groups,
    "orders": tables.orders,
    "sensitivity": tables.sensitivity,
    "kinds": tables.kinds,
    "folders": tables.folders,
    "limits": tables.limits,
    "graph": tables.graph,
}


def filled(text: str, folder: Path) -> str:
    """Return a document with its blocks made anew from the files of a folder; what has no file yet stays."""
    frames = {file.stem: pd.read_csv(file) for file in folder.glob("*.csv")}
    for name, render in BLOCKS.items():
        if ("graph" if name.startswith("graph") else "runs") in frames:
            made = render(frames)
            pattern = rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)"
            text = re.sub(pattern, rf"\1\n{made}\n\n\2", text, flags=re.DOTALL)
    return text


def fill(document: Path, folder: Path) -> None:
    """Make the blocks of a document anew."""
    document.write_text(filled(document.read_text(encoding="utf-8"), folder), encoding="utf-8")

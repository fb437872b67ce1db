"""Where the results of a benchmark go: to the terminal, and as a document with its data into a folder."""

from pathlib import Path

import pandas as pd


def publish(text: str, frame: pd.DataFrame, folder: Path | None, document: str, data: str) -> None:
    """Print a text; with a folder, write it there as ``document``, and the rows behind it as parquet as ``data``."""
    print(text)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / document).write_text(text, encoding="utf-8")
        frame.to_parquet(folder / data, index=False)

"""Which scales were run in a folder, and which of them is meant where nobody says."""

from collections.abc import Callable
from pathlib import Path

CLAIMS = Path(".snakemake/elf")
"""Here a run leaves a file named after its scale, which is as old as the end of the run."""


def scale_meant(scales: list[str], default: str, results: Path, say: Callable[[str], None]) -> str:
    """Return the scale that was run last here; where no run is known, the only one with results, or the default.

    Parameters
    ----------
    scales : list of str
        All that are configured.
    default : str
        That of ``config.yaml``.
    results : Path
        Folder with the results of all scales, in the folder in which the workflow was run.
    say : callable (str) -> None
        Prints a line; told which scale it is wherever it could have been meant to be another.
    """
    ages = {name: _age(results.parent / CLAIMS / f"{name}.claim") for name in scales}
    run = [name for name in scales if ages[name]]
    found = [name for name in scales if any((results / name).glob("*"))]
    if run:
        meant, why = max(run, key=lambda name: ages[name]), "run last here"
    elif len(found) == 1:
        meant, why = found[0], "the only one with results here"
    else:
        meant, why = default, "that of config.yaml"
    others = [name for name in found if name != meant]
    if others or meant != default:
        also = f"; there are results of {', '.join(others)}, too (--scale)" if others else ""
        say(f"scale {meant}: {why}{also}")
    return meant


def _age(file: Path) -> float:
    return file.stat().st_mtime if file.is_file() else 0.0

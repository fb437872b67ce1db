"""The command line for which Snakemake reads the Snakefile: it tells it neither targets nor executor."""

import inspect
import os
import shlex
import shutil
import sys
from argparse import Namespace
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

PARTITION = "slurm_partition"
OTHER_CLUSTERS = ("cluster", "clusters", "slurm_cluster")
"""Resources that send jobs to a cluster whose partitions are not those that are seen here."""


@dataclass(frozen=True)
class Started:
    """How Snakemake was started, its profiles included.

    Attributes
    ----------
    targets : tuple of str
        Names of rules and files; empty for everything.
    executor : str
        ``local`` is this machine.
    dry_run : bool
    partitions : tuple of str
        Partitions of this cluster that the resources name, without those that are computed.
    """

    targets: tuple[str, ...] = ()
    executor: str = "local"
    dry_run: bool = False
    partitions: tuple[str, ...] = ()


def started() -> Started:
    """Return how the Snakemake was started that is reading the Snakefile.

    Its parsed arguments are looked for on the stack: parsing them again would read the profiles again, which are
    not found from another folder, and say so twice. A Snakemake that is called as a library has none.
    """
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name == "args_to_api" and "args" in frame.f_locals:
            return started_by(frame.f_locals["args"])
        frame = frame.f_back
    return Started()


def started_by(arguments: Namespace) -> Started:
    """Return what the arguments of Snakemake say, as its own parser gives them."""
    resources = [arguments.default_resources or {}, *(arguments.set_resources or {}).values()]
    return Started(
        targets=tuple(arguments.targets),
        executor=arguments.executor or "local",
        dry_run=bool(arguments.dryrun),
        partitions=tuple(dict.fromkeys(name for mapping in resources for name in _partitions(mapping))),
    )


def _partitions(resources: Mapping) -> list[str]:
    if any(name in resources for name in OTHER_CLUSTERS):
        return []
    # An expression that is not a name is computed for each job.
    found = getattr(resources.get(PARTITION), "raw", None)
    names = str(found or "").split(",")
    return names if all(name.replace("-", "_").isidentifier() for name in names) else []


def with_targets(targets: Iterable[str], words: Sequence[str], parse: Callable[[list[str]], Namespace]) -> str:
    """Return the command line that is given, for other targets.

    Parameters
    ----------
    targets : iterable of str
    words : sequence of str
        What stands behind ``snakemake``.
    parse : callable (list of str) -> Namespace
        Parser of Snakemake's arguments: what is a target, and what the value of an option, only that can tell.
    """
    words, place = list(words), 0
    for index in reversed(range(len(words))):
        others = words[:index] + words[index + 1 :]
        before, after = _targets(words, parse), _targets(others, parse)
        if before and after is not None and sorted([*after, words[index]]) == sorted(before):
            words, place = others, index
    words = [word for word in words if word != "--"]
    return shlex.join([*_program(), *words[:place], *targets, *words[place:]])


def _targets(words: list[str], parse: Callable[[list[str]], Namespace]) -> Collection[str] | None:
    try:
        with redirect_stderr(StringIO()):
            return list(parse(words).targets)
    except SystemExit:
        return None


def _program() -> list[str]:
    """Return how Snakemake was called."""
    called = Path(sys.argv[0])
    if called.name != "snakemake":
        return [sys.executable, "-m", "snakemake"]
    found = shutil.which("snakemake")
    return ["snakemake" if found and called.exists() and os.path.samefile(found, called) else str(called)]

"""The recipe that gives an imported set its place in the grid."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from elf.artifacts.files import write_text
from elf.errors import ElfError
from elf.study.config import Recipe

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")


def check_name(name: str) -> None:
    """Raise an error if a name cannot be that of a method, a file and a recipe."""
    if NAME.fullmatch(name) is None:
        raise ElfError(f"--name: found {name!r}, allowed is [a-z0-9][a-z0-9_.-]*")


def check_free(recipe: Path, force: bool) -> None:
    """Raise an error if a recipe of this name is not that of an import, or is and may not be replaced."""
    if not recipe.exists():
        return
    try:
        content = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        content = None
    if not isinstance(content, dict) or content.get("module") != "imported":
        raise ElfError(f"{recipe}: is the recipe of a method of the project; choose another --name")
    if not force:
        raise ElfError(f"{recipe}: there is an import of this name; choose another --name, or replace it with --force")


SOURCE = re.compile(r"(?:^|; )(.+?), sha256 ([0-9a-f]{64})(?=;|$)")


def sources_of(recipe: Recipe) -> list[tuple[str, str]]:
    """Return names and sha256 of the files that the set of a recipe was imported from, as `write_recipe` wrote them."""
    return SOURCE.findall(recipe.values["file"].where)


def write_recipe(
    recipe: Path,
    *,
    description: str,
    file: str,
    identifier: str,
    sources: Sequence[tuple[str, str]],
    labels: str = "hard",
) -> None:
    """Write the recipe of an imported set.

    Parameters
    ----------
    recipe : Path
        ``config/recipes/<name>.yaml``.
    description : str
    file : str
        Path of the set, relative to where the workflow runs.
    identifier : str
        Of the set: when it changes, so do all that was made from it.
    sources : sequence of (name, sha256)
        The files that were imported.
    labels : str
        Kind of the labels; said where they are not hard.
    """
    where = "; ".join(f"{name}, sha256 {digest}" for name, digest in sources)
    # A JSON text is a YAML text too, whatever is in a name.
    write_text(
        recipe,
        f"description: {json.dumps(description, ensure_ascii=False)}\n"
        "module: imported\n"
        "uses_network: false\n"
        "values:\n"
        "  file:\n"
        f"    value: {json.dumps(file, ensure_ascii=False)}\n"
        "    source: third party\n"
        f"    where: {json.dumps(where, ensure_ascii=False)}\n"
        "  id:\n"
        f"    value: {json.dumps(identifier)}\n"
        "    source: third party\n"
        '    where: "identifier of that file; a set with other content is another method"\n'
        + ("" if labels == "hard" else _labels(labels)),
    )


def _labels(kind: str) -> str:
    return (
        "  labels:\n"
        f"    value: {kind}\n"
        "    source: third party\n"
        '    where: "kind of the labels in that file; objectives take them by it"\n'
    )

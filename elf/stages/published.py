"""Name the files of sets that others published, take them in from a folder, and evaluate them.

Nothing is downloaded. Files are recognised by their checksums, whatever they are called.
"""

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path

from elf.artifacts.manifest import read_manifest
from elf.errors import ElfError
from elf.importing.reading import file_digest
from elf.importing.recipes import sources_of
from elf.stages.import_files import main as import_files
from elf.study.config import Recipe, Settings
from elf.study.config_reading import load_settings

CONFIG = Path("config")


def main(argv: list[str]) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="elf published", description=__doc__)
    parser.add_argument(
        "folder", nargs="?", type=Path, metavar="FOLDER", help="where the files lie, or in folders below"
    )
    parser.add_argument("--scale", default="published", help="whose sets are meant (default: published)")
    parser.add_argument(
        "--evaluate",
        nargs="*",
        metavar="TARGET",
        help="then run the workflow, for these tables and figures (default: all)",
    )
    arguments = parser.parse_args(argv)
    settings = load_settings(CONFIG, arguments.scale)
    sets = sets_of(settings)
    if not sets:
        raise ElfError(
            f"config/scales/{settings.name}.yaml: methods: holds no set of others (other_set_of in its recipe)"
        )
    if arguments.folder is None and arguments.evaluate is None:
        print(listed(sets), end="")
        return
    take_in(sets, arguments.folder)
    if arguments.evaluate is not None:
        command = ["-m", "snakemake", *arguments.evaluate, "--profile", "profiles/local"]
        command += ["--config", f"scale={settings.name}"]
        raise SystemExit(subprocess.run([sys.executable, *command], check=False).returncode)


def sets_of(settings: Settings) -> dict[str, Recipe]:
    """Return the recipes of the sets of others that a scale evaluates, by their method."""
    recipes = {name: settings.recipes[name] for name in settings.scale.methods}
    return {name: recipe for name, recipe in recipes.items() if recipe.other_set_of is not None}


def listed(sets: Mapping[str, Recipe]) -> str:
    """Return the files of each set, with their checksums, and where they are published."""
    lines = []
    for name, recipe in sets.items():
        lines.append(f"{name}, published by {recipe.other_set_of.published}:")
        lines += [f"  {file}  sha256 {digest}" for file, digest in sources_of(recipe)]
    return "".join(f"{line}\n" for line in lines)


def take_in(sets: Mapping[str, Recipe], folder: Path | None) -> None:
    """Import every set that is not imported yet.

    Raises
    ------
    ElfError
        If files of a set are missing, after the others were imported; or if a set is another one than its recipe says.
    """
    if folder is not None and not folder.is_dir():
        raise ElfError(f"{folder}: there is no such folder; 'elf published' names the files that are looked for")
    absent = {name: recipe for name, recipe in sets.items() if not _is_imported(recipe)}
    # A file that is hashed is read as a whole: only where something is still to be found.
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder and absent else []
    found: dict[str, dict[str, Path]] = {}
    for path in files:
        found.setdefault(file_digest(path), {})[path.name] = path
    missing = []
    for name, recipe in absent.items():
        lacking = [(name, file, digest) for file, digest in sources_of(recipe) if digest not in found]
        missing += lacking
        if not lacking:
            # Of files with the same content that with the published name.
            paths = [_named(found[digest], file) for file, digest in sources_of(recipe)]
            _import(name, recipe, paths)
    if missing:
        name, file, digest = missing[0]
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        where = folder or "no folder was named"
        raise ElfError(
            f"{where}: {file} of {name} (sha256 {digest}){more} is missing; 'elf published' says where it is published"
        )
    for name, recipe in sets.items():
        print(f"{name}: {recipe.values['file'].value}")


def _named(files: Mapping[str, Path], name: str) -> Path:
    return files.get(name) or next(iter(files.values()))


def _is_imported(recipe: Recipe) -> bool:
    file = Path(str(recipe.values["file"].value))
    if not file.is_file():
        return False
    found = read_manifest(file)["id"]
    if found != recipe.values["id"].value:
        raise ElfError(f"{file}: is another set ({found}) than its recipe says; move it, and start again")
    return True


def _import(name: str, recipe: Recipe, paths: list[Path]) -> None:
    """Import one set; its recipe is there already and stays as it is."""
    out = Path(str(recipe.values["file"].value))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "recipes").mkdir()
        shutil.copy(CONFIG / "datasets.yaml", folder)
        told = ["--name", name, "--dataset", recipe.other_set_of.dataset, "--config", folder, "--out", str(out)]
        with redirect_stdout(io.StringIO()):
            # It would name the folder.
            import_files([*map(str, paths), *told])
    if not _is_imported(recipe):
        raise ElfError(f"{out}: was not written")

"""Which code a result depends on, as one digest for each module.

A digest is taken over the syntax tree without docstrings, so that comments, docstrings and formatting make
nothing stale. ``ast.unparse`` gives the same text under Python 3.11, 3.12 and 3.13; ``ast.dump`` does not.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

from elf.errors import ElfError
from elf.specs.base import canonical_json

PACKAGE = Path(__file__).resolve().parent

PLANNING = ("elf.fingerprint", "elf.stages.code")
"""Modules that only say which code a result depends on; what they say is the fingerprint itself. Followed, they
would tie every result to the specifications of all stages."""


def fingerprint(*roots: str, package: Path = PACKAGE) -> str:
    """Return the digests of all modules of ``elf`` that some modules reach by import.

    Parameters
    ----------
    *roots : str
        Dotted names, for example ``"elf.stages.distill", "elf.distillation.dm"``. Modules that are imported
        by name at run time (methods, objectives, networks) are not seen in the syntax tree: name them here.
    package : Path
        Folder of the package ``elf``.

    Returns
    -------
    str
        Canonical JSON, module to digest.

    Raises
    ------
    ElfError
        If there is no such module.
    """
    for root in roots:
        if not _exists(root, package):
            raise ElfError(f"there is no module {root} ({_file(root, package)}); it was asked for by name")
    return _fingerprint(roots, package)


# Planning asks a thousand times for a few dozen answers.
@cache
def _fingerprint(roots: tuple[str, ...], package: Path) -> str:
    found: dict[str, str] = {}
    waiting = list(roots)
    while waiting:
        module = waiting.pop()
        if module in found or module in PLANNING:
            continue
        found[module], imports = _read(module, package)
        waiting.extend(imports)
    return canonical_json(found)


def _file(module: str, package: Path) -> Path:
    parts = module.split(".")[1:]
    folder = package.joinpath(*parts)
    return folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")


def _exists(module: str, package: Path) -> bool:
    return (module == "elf" or module.startswith("elf.")) and _file(module, package).is_file()


@cache
def _read(module: str, package: Path) -> tuple[str, tuple[str, ...]]:
    """Return the digest of a module and the modules of ``elf`` that it imports, packages included."""
    file = _file(module, package)
    tree = ast.parse(file.read_text(encoding="utf-8"), filename=str(file))
    names = dict.fromkeys(_imports(tree, module, is_package=file.name == "__init__.py"))
    imports = tuple(name for name in names if _exists(name, package))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            _drop_docstrings(node)
    digest = hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:12]
    return digest, imports


def _imports(tree: ast.AST, module: str, *, is_package: bool):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")[: len(module.split(".")) - node.level + is_package]
                base = ".".join([*parents, base] if base else parents)
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[:length]) for length in range(1, len(parts) + 1))


def _drop_docstrings(node) -> None:
    """Remove every statement that is only a string: docstrings, and the strings that describe constants."""
    kept = [s for s in node.body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
    node.body = kept or [ast.Pass()]

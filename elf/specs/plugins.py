"""What a plug-in says of itself, read from its module without running the rest of it, and so without PyTorch.

A plug-in is a module of a room of the package, or of a folder of the same name in the user's folder (`plugins` of
``config/config.yaml``), found by its name: there is no list of them. What others must know of it stands at the top of
the module under fixed names (`Room.about` says which). Only these definitions are run here, with those that they use;
functions that compute, and imports that nothing of it needs, are not.
"""

import ast
import importlib
import sys
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from elf.errors import ElfError
from elf.specs.base import Spec

PACKAGE = Path(__file__).resolve().parents[1]

USERS = "elf_plugins"
"""By this name modules of the user's folder are imported."""

_folders: dict[str, Path] = {}


def use(folder: Path | None) -> None:
    """Look for plug-ins in a folder of the user's, too; with None in the package alone."""
    if _folders.get(USERS) == folder:
        return
    _folders.clear()
    for module in [name for name in sys.modules if name.partition(".")[0] == USERS]:
        del sys.modules[module]
    if folder is not None:
        _folders[USERS] = folder
        package = types.ModuleType(USERS)
        package.__path__ = [str(folder)]
        sys.modules[USERS] = package
        importlib.invalidate_caches()


def places() -> dict[str, Path]:
    """Return where modules lie, by the first part of their names: the package, and the user's folder if any."""
    return {"elf": PACKAGE, **_folders}


@dataclass(frozen=True)
class Room:
    """A folder of the package whose modules are plug-ins.

    Attributes
    ----------
    folder : str
    one : str
        What one of them is called in messages.
    functions : tuple of str
        What a module of the folder must define to be one; the others hold what these share.
    about : type of Spec
        What one says of itself: each field is a name at the top of its module.
    """

    folder: str
    one: str
    functions: tuple[str, ...]
    about: type[Spec]

    def names(self) -> list[str]:
        """Return the names of all plug-ins."""
        own = [file for file in (PACKAGE / self.folder).glob("*.py") if self._is_one(file)]
        return sorted(file.stem for file in [*own, *self.files_of_user()])

    def files_of_user(self) -> list[Path]:
        """Return the user's plug-ins; a name that starts with an underscore is that of what they share."""
        if USERS not in _folders:
            return []
        return sorted(file for file in (_folders[USERS] / self.folder).glob("*.py") if not file.name.startswith("_"))

    def module(self, name: str) -> str:
        """Return the module of a plug-in, by the name that Python imports it by."""
        return f"{self._place(name)}.{self.folder}.{name}"

    def _place(self, name: str) -> str:
        return USERS if f"{name}.py" in [file.name for file in self.files_of_user()] else "elf"

    def _is_one(self, file: Path) -> bool:
        return {*self.functions} <= _bindings(file).keys()

    def check_users(self) -> None:
        """Raise an error for a plug-in of the user's that cannot be read, or has the name of one of the package."""
        for file in self.files_of_user():
            if (PACKAGE / self.folder / file.name).is_file():
                raise ElfError(f"{file}: elf/{self.folder} has a {file.name}, too; give it another name")
            for function in self.functions:
                if function not in _bindings(file):
                    raise ElfError(f"{file}: defines no {function}, which every {self.one} has")
            self.read(file.stem)

    def read(self, name: str) -> Any:
        """Return what a plug-in says of itself, as ``about``.

        Raises
        ------
        ElfError
            If there is none of this name, or it says not what it must; the message names its file.
        """
        file = places()[self._place(name)] / self.folder / f"{name}.py"
        if not name.isidentifier() or not file.is_file() or not self._is_one(file):
            raise ElfError(f"there is no {self.one} {name!r}; allowed: {', '.join(self.names())}")
        return _read(self, self.module(name), file)


def use_checked(folder: Path | None, rooms: Iterable[Room]) -> None:
    """Look for plug-ins in a folder of the user's, too, and raise an error for the first that is wrong."""
    use(folder)
    if folder is None:
        return
    if not folder.is_dir():
        raise ElfError(f"plugins: there is no folder {folder}")
    known = {room.folder: room for room in rooms}
    for inner in sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] not in "._"):
        if inner.name not in known:
            raise ElfError(f"{inner}: holds no plug-ins that are known; allowed: {', '.join(known)}")
        known[inner.name].check_users()


@cache
def _read(room: Room, module: str, file: Path) -> Any:
    wanted = tuple(room.about.model_fields)
    namespace = _run(_slice(file, wanted), module, file)
    for value in namespace.values():
        # Where a module postpones its annotations, they are texts, which only its own names explain.
        if isinstance(value, type) and issubclass(value, Spec) and value.__module__ == module:
            value.model_rebuild(_types_namespace=namespace)
    said = {key: namespace[key] for key in wanted if key in namespace}
    try:
        return room.about(**said)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        missing = first["type"] == "missing"
        problem = "is missing" if missing else f"{first['msg'].removeprefix('Value error, ')}"
        raise ElfError(f"{file}: {where}: {problem}; every {room.one} says this of itself") from None


def _run(tree: ast.Module, module: str, file: Path) -> dict[str, Any]:
    """Run some definitions of a module and return what they bind."""
    namespace = {"__name__": module, "__file__": str(file)}
    without_torch = "torch" not in sys.modules
    try:
        exec(compile(tree, str(file), "exec"), namespace)
    except Exception as error:
        line = next((f", line {tb}" for tb in _lines(error, file)), "")
        raise ElfError(
            f"{file}{line}: what it says of itself cannot be read: {type(error).__name__}: {error}"
        ) from None
    if without_torch and "torch" in sys.modules:
        raise ElfError(
            f"{file}: what it says of itself imports PyTorch, for which planning would wait; name no tensors there"
        )
    return namespace


def _lines(error: Exception, file: Path) -> Iterator[int]:
    """Yield the lines of a file at which an error came up, innermost first."""
    found, traceback = [], error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == str(file):
            found.insert(0, traceback.tb_lineno)
        traceback = traceback.tb_next
    yield from found


def _slice(file: Path, names: tuple[str, ...]) -> ast.Module:
    """Return the statements at the top of a module that bind some names, and those that bind what they use."""
    bindings, wanted = _bindings(file), list(names)
    used: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name not in used and name in bindings:
            used.add(name)
            nodes = [node for statement in bindings[name] for node in ast.walk(statement)]
            wanted += [node.id for node in nodes if isinstance(node, ast.Name)]
            wanted += [word for node in nodes if isinstance(node, ast.Constant) for word in _words(node.value)]
    kept = [_only(statement, used) for statement in _tree(file).body]
    return ast.Module([statement for statement in kept if statement is not None], [])


def _only(statement: ast.stmt, used: set[str]) -> ast.stmt | None:
    """Return what of a statement binds used names; of an import only these."""
    if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
        return statement
    if isinstance(statement, ast.Import | ast.ImportFrom):
        names = [alias for alias in statement.names if _imported(alias) in used]
        made = type(statement)(**{**dict(ast.iter_fields(statement)), "names": names})
        return ast.copy_location(made, statement) if names else None
    return statement if used.intersection(_binds(statement)) else None


def _words(value: Any) -> list[str]:
    """Return the names in an annotation that is written as text."""
    return [value] if isinstance(value, str) and value.isidentifier() else []


@cache
def _tree(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        reason = error.msg if isinstance(error, SyntaxError) else error
        raise ElfError(f"{file}{line}: is no Python that can be read ({reason}); mend it") from None


@cache
def _bindings(file: Path) -> dict[str, list[ast.stmt]]:
    """Return the statements that bind each name at the top of a module."""
    found: dict[str, list[ast.stmt]] = {}
    for statement in _tree(file).body:
        for name in dict.fromkeys(_binds(statement)):
            found.setdefault(name, []).append(statement)
    return found


def _binds(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        yield from map(_imported, statement.names)
    else:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield node.name
            elif isinstance(node, ast.alias):
                yield _imported(node)


def _imported(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]

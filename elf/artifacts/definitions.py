"""What a module defines, what its names stand for, and what it does when it is imported; read from its syntax tree.

A *definition* is a statement at the top of a module that binds names: a function, a class, a constant, or a choice
between such (``if``, ``try``). Imports bind names, too, and are followed to what they stand for. Any other statement
does more than define: whoever imports the module runs it, so that the module counts as a whole.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from elf.errors import ElfError

WHOLE = ""
"""In the place of a definition's name: all that a module says."""

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
IMPORTS = (ast.Import, ast.ImportFrom)
NAMING = (ast.Name, ast.Constant)


@dataclass(frozen=True)
class Target:
    """What a name stands for.

    Attributes
    ----------
    module : str
        Dotted name of a module of the project; empty for what is not of the project.
    name : str
        Of a definition, ``WHOLE`` for the module itself; the dotted name of what is not of the project.
    """

    module: str
    name: str

    @property
    def is_outside(self) -> bool:
        """Whether it is not of the project."""
        return not self.module

    @property
    def is_module(self) -> bool:
        """Whether it is a module of the project."""
        return bool(self.module) and self.name == WHOLE


@dataclass(frozen=True, eq=False)
class Module:
    """One file.

    Attributes
    ----------
    name : str
        Dotted name.
    is_package : bool
    body : tuple of ast.stmt
        Its statements without docstrings.
    """

    name: str
    is_package: bool
    body: tuple[ast.stmt, ...]

    @cached_property
    def imports(self) -> list[ast.Import | ast.ImportFrom]:
        """Statements that import, at the top or in a choice there, that run when the module is imported."""
        found = []
        for statement in self.body:
            if not _is_for_type_checkers(statement):
                found += [node for node in _at_the_top(statement) if isinstance(node, IMPORTS)]
        return found

    @cached_property
    def definitions(self) -> dict[str, ast.stmt]:
        """The statement that binds a name; not of names that are bound more than once, of which the order matters."""
        once = {name: found[0] for name, found in self.bound.items() if len(found) == 1 and name not in self.imported}
        return {name: statement for name, statement in once.items() if defines(statement)}

    @cached_property
    def bound(self) -> dict[str, list[ast.stmt]]:
        """The statements besides imports that bind a name."""
        bound: dict[str, list[ast.stmt]] = {}
        for statement in self.body:
            if not isinstance(statement, IMPORTS) and not _is_for_type_checkers(statement):
                for name in dict.fromkeys(_binds(statement)):
                    bound.setdefault(name, []).append(statement)
        return bound

    @cached_property
    def imported(self) -> dict[str, list[tuple[str, str | None]]]:
        """What imports bind to a name: module and what is taken from it, None for the module itself."""
        imported: dict[str, list] = {}
        for statement in self.body:
            inner = statement.body if _is_for_type_checkers(statement) else [statement]
            for name, source in (b for one in inner if isinstance(one, IMPORTS) for b in self.bindings(one)):
                imported.setdefault(name, [])
                imported[name] += [source] if source not in imported[name] else []
        return imported

    @cached_property
    def does_more(self) -> bool:
        """Whether the module does more than define names, each once, and import what it uses."""
        if not all(isinstance(statement, IMPORTS) or defines(statement) for statement in self.body):
            return True
        if any(len(found) > 1 or name in self.imported for name, found in self.bound.items()):
            return True
        if any(len(sources) > 1 for sources in self.imported.values()):
            return True
        # What is imported from elsewhere and not used is imported for what it does.
        nodes = [node for statement in self.body for node in ast.walk(statement)]
        used = {node.id if isinstance(node, ast.Name) else node.value for node in nodes if isinstance(node, NAMING)}
        top = self.name.partition(".")[0]
        outside = [name for name, sources in self.imported.items() if sources[0][0].partition(".")[0] != top]
        return any(name not in used for name in outside)

    def bindings(self, statement: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, tuple[str, str | None]]]:
        """Yield each name that an import binds, with the module and what is taken from it.

        Raises
        ------
        ElfError
            For ``from ... import *``: nobody can say which names it binds.
        """
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                first = alias.name.partition(".")[0]
                yield alias.asname or first, (alias.name if alias.asname else first, None)
            return
        base = self.base(statement)
        for alias in statement.names:
            if alias.name == "*":
                raise ElfError(f"{self.name}: 'from {base} import *' hides what the module uses; name what it imports")
            if base != "__future__":
                yield alias.asname or alias.name, (base, alias.name)

    def base(self, statement: ast.ImportFrom) -> str:
        """Return the module that ``from ... import`` names, in full."""
        if not statement.level:
            return statement.module or ""
        parts = self.name.split(".")
        parents = parts[: len(parts) - statement.level + self.is_package]
        return ".".join([*parents, statement.module] if statement.module else parents)

    @cached_property
    def future(self) -> tuple[str, ...]:
        """Changes of the language that the module asks for."""
        asked = [s for s in self.body if isinstance(s, ast.ImportFrom) and s.module == "__future__"]
        return tuple(sorted(alias.name for s in asked for alias in s.names))


@dataclass(frozen=True, eq=False)
class Modules:
    """All modules of the project, each read when it is asked for.

    Attributes
    ----------
    places : mapping of str to Path
        First part of a module's name, folder in which the modules with it lie: ``elf`` is in the folder of the package.
    """

    places: Mapping[str, Path]

    def __post_init__(self) -> None:
        object.__setattr__(self, "module", cache(self._module))
        object.__setattr__(self, "exists", cache(lambda name: self.file(name).is_file()))

    def file(self, name: str) -> Path:
        """Return the file of a module, whether it is there or not."""
        top, *parts = name.split(".")
        if top not in self.places:
            return Path()
        folder = self.places[top].joinpath(*parts)
        package = folder / "__init__.py"
        return package if package.is_file() or not parts else folder.with_suffix(".py")

    def _module(self, name: str) -> Module:
        file = self.file(name)
        try:
            tree = ast.parse(file.read_text(encoding="utf-8"), filename=str(file))
        except (SyntaxError, UnicodeDecodeError) as error:
            line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
            raise ElfError(f"{file}{line}: is no Python that can be read ({error}); mend it") from None
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, *FUNCTIONS)):
                _drop_docstrings(node)
        return Module(name, file.name == "__init__.py", tuple(tree.body))

    def is_of_project(self, name: str) -> bool:
        """Whether a module's name is one of the project's: it has a file, or is a folder without ``__init__``."""
        top, *parts = name.split(".")
        return self.exists(name) or (top in self.places and self.places[top].joinpath(*parts).is_dir())

    def inside(self, module: str) -> list[str]:
        """Return the modules that a package holds; none for a module that is no package."""
        file = self.file(module)
        if file.name != "__init__.py":
            return []
        files = [path for path in file.parent.glob("*.py") if path != file]
        packages = [path.parent for path in file.parent.glob("*/__init__.py")]
        return sorted(f"{module}.{path.stem}" for path in [*files, *packages])

    def imported_by(self, module: Module, statement: ast.Import | ast.ImportFrom) -> Iterator[str]:
        """Yield the modules of the project that Python loads for an import, packages first."""
        if isinstance(statement, ast.Import):
            names = [alias.name for alias in statement.names]
        else:
            base = module.base(statement)
            names = [base, *(f"{base}.{alias.name}" for alias in statement.names)]
        for name in names:
            parts = name.split(".")
            loaded = (".".join(parts[:length]) for length in range(1, len(parts) + 1))
            yield from (one for one in loaded if self.exists(one))

    def meaning(self, module: str, name: str) -> tuple[Target, ...]:
        """Return what a name stands for at the top of a module; nothing if it is bound there nowhere."""
        return self._meaning(module, name, ())

    def attribute(self, module: str, name: str) -> tuple[Target, ...]:
        """Return what ``module.name`` stands for; the whole module if nobody can say."""
        return self._attribute(module, name, ())

    def _meaning(self, module: str, name: str, on_the_way: tuple) -> tuple[Target, ...]:
        if (module, name) in on_the_way:
            return (Target(module, WHOLE),)
        known = self.module(module)
        found = [Target(module, name if name in known.definitions else WHOLE)] if name in known.bound else []
        for base, taken in known.imported.get(name, ()):
            if taken is not None:
                found += self._attribute(base, taken, (*on_the_way, (module, name)))
            else:
                found.append(Target(base, WHOLE) if self.is_of_project(base) else Target("", base))
        return tuple(dict.fromkeys(found))

    def _attribute(self, module: str, name: str, on_the_way: tuple) -> tuple[Target, ...]:
        if not self.is_of_project(module):
            return (Target("", f"{module}.{name}"),)
        inner = (Target(f"{module}.{name}", WHOLE),) if self.is_of_project(f"{module}.{name}") else ()
        if not self.exists(module):
            return inner or (Target("", f"{module}.{name}"),)
        # A name of a package may be that of a module in it, too: then both count.
        return self._meaning(module, name, on_the_way) + inner or (Target(module, WHOLE),)


def _drop_docstrings(node) -> None:
    """Remove every statement that is only a constant: docstrings, and the strings that describe constants."""
    kept = [s for s in node.body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
    node.body = kept or ([] if isinstance(node, ast.Module) else [ast.Pass()])


def defines(statement: ast.stmt) -> bool:
    """Whether a statement at the top only binds names."""
    if isinstance(statement, ast.If):
        return all(map(defines, [*statement.body, *statement.orelse]))
    if isinstance(statement, ast.Try):
        handlers = [s for handler in statement.handlers for s in handler.body]
        return all(map(defines, [*statement.body, *handlers, *statement.orelse, *statement.finalbody]))
    if isinstance(statement, ast.Assign):
        return all(map(_is_name, statement.targets))
    if isinstance(statement, ast.AnnAssign):
        return isinstance(statement.target, ast.Name)
    # The type statement of newer Pythons.
    newer = filter(None, [vars(ast).get("TypeAlias")])
    return isinstance(statement, (*FUNCTIONS, ast.ClassDef, *IMPORTS, ast.Pass, *newer))


def _is_name(target: ast.expr) -> bool:
    if isinstance(target, ast.Tuple | ast.List):
        return all(map(_is_name, target.elts))
    return isinstance(target, ast.Name)


def _is_for_type_checkers(statement: ast.stmt) -> bool:
    """Whether a statement never runs: ``if TYPE_CHECKING`` with nothing but imports."""
    return (
        isinstance(statement, ast.If)
        and ast.unparse(statement.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        and not statement.orelse
        and all(isinstance(inner, ast.Import | ast.ImportFrom) for inner in statement.body)
    )


def _at_the_top(statement: ast.AST) -> Iterator[ast.AST]:
    """Yield a statement and those in it that run when the module is imported."""
    yield statement
    if not isinstance(statement, FUNCTIONS):
        for child in ast.iter_child_nodes(statement):
            if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
                yield from _at_the_top(child)


def _binds(statement: ast.AST) -> Iterator[str]:
    """Yield the names that a statement binds at the top of its module."""
    children = ast.iter_child_nodes(statement)
    if isinstance(statement, (*FUNCTIONS, ast.ClassDef)):
        yield statement.name
        # What is inside is bound inside; a walrus in a decorator or a default is not.
        outside = [] if isinstance(statement, ast.ClassDef) else [statement.args]
        children = iter([*statement.decorator_list, *outside])
    for child in children:
        if isinstance(child, ast.comprehension):
            yield from (node.target.id for node in ast.walk(child) if isinstance(node, ast.NamedExpr))
        elif isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store | ast.Del):
            yield child.id
        elif isinstance(child, ast.alias):
            yield child.asname or child.name.partition(".")[0]
        elif not isinstance(child, ast.Lambda | ast.arg):
            yield from _binds(child)

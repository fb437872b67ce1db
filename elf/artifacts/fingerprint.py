"""Which code a result depends on, as one digest for each definition that its making reaches.

What counts is content: a definition's text with what it refers to (`elf.artifacts.references`), never the module in
which it stands. So nothing becomes stale when modules are moved, renamed or split, and everything does that a name
comes to mean something else for. Where nobody can say what a name stands for, all that it may be counts:

- A module's top level that does more than define counts as a whole, for everyone who imports the module; and so does
  a definition that calls, while it is imported, what is not known to leave no trace.
- A module that is used as a value, or whose names are bound more than once, counts as a whole.
- Code that is found by other ways than names, or imported by ``*``, is refused.

Not seen is what objects of the project do by operators, properties, formatting or ``__set_name__`` while a module is
imported that is used for something else; what is told in docstrings; and files that are no Python, which the rules name
as inputs.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from elf.artifacts.definitions import IMPORTS, WHOLE, Module, Modules, Target, defines
from elf.artifacts.references import Text, acts, text_of
from elf.errors import ElfError
from elf.specs.base import canonical_json
from elf.specs.plugins import places

PACKAGE = Path(__file__).resolve().parents[1]

PLANNING = (
    *("elf.artifacts.fingerprint", "elf.artifacts.definitions", "elf.artifacts.references", "elf.artifacts.code"),
    *("elf.specs.kind", "elf.specs.kinds"),
)
"""Modules that only say which code a result depends on; what they say is the fingerprint itself. Followed, they
would tie every result to the specifications of all stages."""

BY_NAME = (
    *("elf.data.reading:read_dataset", "elf.networks.building:build_network", "elf.importing.architectures:skeleton"),
    *(
        "elf.specs.plugins:_run",
        "elf.specs.plugins:use",
        "elf.stages.distill:main",
        "elf.stages.evaluate:_objective",
        "elf.stages.figure:main",
        "elf.stages.report:_figure",
    ),
)
"""Definitions that import or run a module by a name that they compute: a source, family, method, objective or figure.
What they may import is named as a root where the fingerprint is asked for; no other definition may import like this."""

WIRING = "(what names stand for)"
"""In the place of a definition's name: one digest of everything, of what each name stands for, too."""
ALL_OF_A_MODULE = "(all of a module)"


def fingerprint(*roots: str, without: tuple[str, ...] = (), package: Path | None = None) -> str:
    """Return the digests of all definitions that some definitions reach.

    Parameters
    ----------
    *roots : str
        Module and definition, for example ``"elf.stages.distill:main", "elf.distillation.dm:distill"``; without a
        definition all of the module. What is imported by a computed name at run time cannot be seen: name it here.
    without : tuple of str
        Definitions that are reached by name but never called for this result, or only for people to read.
    package : Path, optional
        Folder of the package ``elf``; by default that of this file. The user's plug-ins are looked for where
        `elf.specs.plugins.use` says.

    Returns
    -------
    str
        Canonical JSON, name of a definition without its module to digest; where several have one name, their digests.

    Raises
    ------
    ElfError
        If there is no such module or definition, or if something reached finds code by other ways than names.
    """
    return _fingerprint(roots, without, _places(package))


# Planning asks a thousand times for a few dozen answers.
@cache
def _fingerprint(roots: tuple[str, ...], without: tuple[str, ...], places: tuple[tuple[str, Path], ...]) -> str:
    reach = _reached(roots, without, places)
    found: dict[str, list[str]] = {}
    for node, text in reach.texts.items():
        named = [[target.name or ALL_OF_A_MODULE for target in targets] for targets in text.references]
        found.setdefault(node.name or ALL_OF_A_MODULE, []).append(_digest(text.text, named))
    return canonical_json({name: "+".join(sorted(digests)) for name, digests in found.items()} | {WIRING: reach.wiring})


def code_id(code: str) -> str:
    """Return the identifier of a fingerprint: what a rule compares and a manifest says."""
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def changed(one: Mapping[str, str], other: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of the definitions that differ between two fingerprints."""
    differing = sorted({name for name, _ in set(one.items()) ^ set(other.items())})
    return tuple(name for name in differing if name != WIRING) or tuple(differing)


@dataclass
class Reach:
    """What some definitions reach.

    Attributes
    ----------
    texts : dict of Target to Text
        The definitions that count.
    loaded : list of str
        Modules that Python imports on the way.
    """

    modules: Modules
    without: frozenset[Target]
    roots: list[Target] = field(default_factory=list)
    texts: dict[Target, Text] = field(default_factory=dict)
    loaded: dict[str, None] = field(default_factory=dict)
    acting: list[Target] = field(default_factory=list)

    def follow(self, roots: Iterable[Target]) -> None:
        """Add all that definitions reach."""
        waiting = list(roots)
        while waiting:
            target = waiting.pop()
            if target in self.texts or target in self.without or target.is_outside or target.module in PLANNING:
                continue
            text = self.texts[target] = _text(self.modules, target)
            acting = len(self.acting)
            for module in (*_with_packages(target.module), *text.loads):
                self._load(module)
            waiting += [*(one for targets in text.references for one in targets), *self.acting[acting:]]

    def _load(self, module: str) -> None:
        """Import a module as Python does: what it imports and what it does, in the order of its statements."""
        if module in self.loaded or not self.modules.exists(module):
            return
        self.loaded[module] = None
        for step in _steps(self.modules, module):
            if isinstance(step, str):
                self._load(step)
            elif step.module not in PLANNING:
                self.acting.append(step)

    @property
    def wiring(self) -> str:
        """One digest of all texts and of what each reference in them stands for.

        A digest of a text and of those of its references is taken again and again, until more of them differ no
        longer: then two definitions have the same digest only if all that can be reached from them is the same.
        """
        digests = {node: _digest(node.name, text.text, []) for node, text in self.texts.items()}
        known = 0
        while known < len(set(digests.values())):
            known = len(set(digests.values()))
            digests = {
                node: _digest(
                    node.name, text.text, [[self._of(one, digests) for one in targets] for targets in text.references]
                )
                for node, text in self.texts.items()
            }
        ends = [[self._of(one, digests) for one in targets] for targets in (self.roots, self.acting)]
        return _digest(sorted(set(digests.values())), sorted(ends[0]), ends[1])

    @staticmethod
    def _of(target: Target, digests: Mapping[Target, str]) -> list[str]:
        # What is outside stands beside others only where a name may be one or another.
        left_out = target.name if not target.is_module else ALL_OF_A_MODULE
        return [target.name if not target.is_module else "", digests.get(target, f"not followed: {left_out}")]


def reached(*roots: str, without: tuple[str, ...] = (), package: Path | None = None) -> Reach:
    """Return what some definitions reach; arguments as for :func:`fingerprint`."""
    return _reached(roots, without, _places(package))


def _places(package: Path | None) -> tuple[tuple[str, Path], ...]:
    """Return where modules lie, by the first part of their names."""
    return tuple((places() | {"elf": package or PACKAGE}).items())


@cache
def _reached(roots: tuple[str, ...], without: tuple[str, ...], places: tuple[tuple[str, Path], ...]) -> Reach:
    modules = _modules(places)
    reach = Reach(modules, frozenset(_target(modules, name) for name in without))
    reach.roots = [_target(modules, root) for root in roots]
    reach.follow(reach.roots)
    return reach


@cache
def _modules(places: tuple[tuple[str, Path], ...]) -> Modules:
    return Modules(dict(places))


@cache
def _text(modules: Modules, target: Target) -> Text:
    of_module = [name for name in BY_NAME if name.startswith(f"{target.module}:")]
    known = target.name == WHOLE or f"{target.module}:{target.name}" in of_module
    return text_of(modules, target.module, target.name, may_look_up=bool(of_module) and known)


@cache
def _steps(modules: Modules, module: str) -> tuple[str | Target, ...]:
    """Return what importing a module does: modules that it imports, and statements that do more than define."""
    known: Module = modules.module(module)
    steps: list[str | Target] = []
    for statement in known.body:
        if isinstance(statement, IMPORTS):
            steps += modules.imported_by(known, statement)
        elif known.does_more:
            steps += [] if defines(statement) else [Target(module, WHOLE)]
        elif acts(modules, module, statement):
            steps += [Target(module, name) for name in known.definitions if known.definitions[name] is statement]
    if known.does_more and Target(module, WHOLE) not in steps:
        steps.append(Target(module, WHOLE))
    inner = [node for node in known.imports if node not in known.body]
    return (*steps, *(name for node in inner for name in modules.imported_by(known, node)))


def _target(modules: Modules, root: str) -> Target:
    module, _, name = root.partition(":")
    if not modules.exists(module):
        raise ElfError(f"there is no module {module} ({modules.file(module)}); it was asked for by name")
    if name and name not in modules.module(module).definitions:
        found = modules.meaning(module, name)
        if len(found) != 1 or found[0].is_outside:
            raise ElfError(f"{modules.file(module)}: defines no {name}, which was asked for by name")
        return found[0]
    return Target(module, name)


def _with_packages(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts) + 1)]


def _digest(*parts) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

"""What the table of artifact kinds, `elf.specs.kinds`, says of each."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from elf.specs.base import Spec

Files = Mapping[str, str]
"""From the role that a manifest gives an input to its path."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of artifact.

    Attributes
    ----------
    name, one : str
        What several and one of them are called.
    stage : str
        Module of ``elf.stages`` that makes it; its command is called the same.
    files : tuple of str
        What one job makes, below the results folder of the scale, with the wildcards of its rule. The first file stands
        for the job.
    spec : type of Spec or None
        What determines it; None for results and drawings.
    inputs, given : function of a specification to dict of str to str
        Files of any kind that it is made from, by role; and files from elsewhere, whose paths start where the workflow
        runs.
    mains : tuple of str
        What of the stage the commands call.
    named : function of a specification, or of the name of a table or figure, to list of str
        Definitions, as ``"module:name"``, that the stage finds by a name that it computes (method, objective, network
        family, source of images), so that an edit of one makes stale only what comes from it.
    without : function of the same to tuple of str
        Definitions that the stage reaches and never calls for this specification, or calls only to tell people
        something: they are no part of its code.
    path : function of a specification
        Its first file.
    manifest : str or None
        What manifests call it, ``one`` if nothing else is said; None for drawings, which carry none.
    rule : str or None
        Of Snakemake, called as the stage if nothing else is said; None for what is made by the way.
    collection : str or None
        Attribute of the grid that holds its specifications.
    group : str
        Under which name forecasts count it.
    shows : tuple of str
        Patterns of the project's own files that are inputs of its rule.
    making : str
        What the report calls its jobs.
    is_brief : bool
        Whether it takes a moment, so that neither work nor speed is looked at.
    """

    name: str
    one: str
    stage: str
    files: tuple[str, ...]
    spec: type[Spec] | None = None
    inputs: Callable[[Any], Files] = lambda spec: {}
    given: Callable[[Any], Files] = lambda spec: {}
    mains: tuple[str, ...] = ("main",)
    named: Callable[[Any], list[str]] = lambda about: []
    without: Callable[[Any], tuple[str, ...]] = lambda about: ()
    path: Callable[[Any], str] = lambda spec: str(spec.path)
    manifest: str | None = ""
    rule: str | None = ""
    collection: str | None = ""
    group: str = ""
    shows: tuple[str, ...] = ()
    making: str = ""
    is_brief: bool = False

    def __post_init__(self) -> None:
        own = {"manifest": self.one, "rule": self.stage, "collection": self.name.replace(" ", "_"), "group": self.name}
        for field, default in own.items():
            if getattr(self, field) == "":
                object.__setattr__(self, field, default)

    @property
    def command(self) -> str:
        """Of ``elf``."""
        return self.stage.replace("_", "-")

    def roots(self, about: Any) -> tuple[str, ...]:
        """Return the definitions from which its code starts."""
        return *(f"elf.stages.{self.stage}:{main}" for main in self.mains), *self.named(about)

    def at(self, **wildcards: Any) -> str:
        """Return the first file of one of this kind, below the results folder."""
        return self.files[0].format(**wildcards)

    def made_with(self, path: str) -> tuple[str, ...]:
        """Return all files of the job that makes a (first) file, that one first."""
        if len(self.files) == 1:
            return (path,)
        wildcards = re.fullmatch(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", self.files[0].replace(".", r"\.")), path)
        return tuple(file.format(**wildcards.groupdict()) for file in self.files)

    @property
    def pattern(self) -> str:
        """Of the first files of all of this kind, for `pathlib.Path.glob`."""
        return re.sub(r"{\w+}", "*", self.files[0])

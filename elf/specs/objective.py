"""What is minimised while an evaluation network is trained, and what a module of ``elf/objectives`` says of itself."""

import re
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from elf.errors import ElfError
from elf.specs.base import Spec
from elf.specs.labels import UNCHANGED, LabelKind
from elf.specs.plugins import Room

SettingColumn = Literal["distance", "lambda_front", "lambda_rear", "variant", "temperature", "kd_weight"]
"""Columns of results that hold settings of objectives."""

OF_EVERY_OBJECTIVE = ("name", "labels")


class ObjectiveSettings(Spec):
    """Settings of an objective: the keyword arguments of its loss, with types, ranges and defaults.

    Those of an objective derive from this and may say other texts than these two.
    """

    @property
    def slug(self) -> str:
        """Part of a path, behind the objective's name, that tells these settings from all others."""
        return "".join(f"-{key}{_text(value)}" for key, value in self.model_dump().items())

    def mark(self, without: set[str]) -> str:
        """Return what stands in brackets behind the objective's name in results: settings that have no column there."""
        return ",".join(f"{key}={_text(value)}" for key, value in self.model_dump(exclude=without).items())


class ObjectiveAbout(Spec):
    """What an objective says of itself: these names, at the top of its module.

    Attributes
    ----------
    LABEL : str
        What rows of tables are called.
    TAKES : dict of str to str
        Kinds of labels that it takes, see `elf.specs.labels.KINDS`, and as what they enter its loss.
    NEEDS : {"features", "logits"} or None
        What it is given of a teacher, for the images without augmentation.
    RECIPE : {"evaluation", "frepo-evaluation"}
        Recipe of the training, and with it the protocol.
    COLUMNS : dict of str to str
        Columns of results that hold its settings; a setting without one becomes part of its name there.
    Settings : type of ObjectiveSettings
        Its settings, if it has any.
    """

    LABEL: str = Field(min_length=1)
    TAKES: dict[LabelKind, str] = Field(min_length=1)
    NEEDS: Literal["features", "logits"] | None = None
    RECIPE: Literal["evaluation", "frepo-evaluation"] = "evaluation"
    COLUMNS: dict[str, SettingColumn] = Field(default={})
    Settings: type[ObjectiveSettings] = ObjectiveSettings

    @field_validator("Settings")
    @classmethod
    def _check_names(cls, settings: type[ObjectiveSettings]) -> type[ObjectiveSettings]:
        taken = [key for key in settings.model_fields if key in OF_EVERY_OBJECTIVE or hasattr(ObjectiveSettings, key)]
        if taken:
            raise ValueError(f"no setting may be called {taken[0]!r}, which means something else")
        required = [key for key, field in settings.model_fields.items() if field.is_required()]
        if required:
            raise ValueError(f"the setting {required[0]!r} has no default")
        return settings

    @model_validator(mode="after")
    def _check_columns(self) -> Self:
        unknown = [key for key in self.COLUMNS if key not in self.Settings.model_fields]
        if unknown:
            raise ValueError(f"COLUMNS: {unknown[0]!r} is none of its settings")
        if len({*self.COLUMNS.values()}) < len(self.COLUMNS):
            raise ValueError("COLUMNS: two settings have the same column")
        return self


OBJECTIVES = Room("objectives", "objective", ("loss", "lowest"), ObjectiveAbout)


class Objective(Spec):
    """What is minimised while the evaluation network is trained: a module of ``elf/objectives``, and its settings.

    Its settings are attributes, too; one that is not given has the module's default, so that every value is explicit.

    Attributes
    ----------
    name : str
        Of the module: ``task`` is the baseline, ``elf`` the method of the paper, ``kd`` plain logit distillation.
    labels : {"unchanged"} or None
        Whether learned labels enter the loss as they are, whatever their kind: so the official evaluator of ELF feeds
        FrePo's regression targets to the cross-entropy, which has no lowest value then. None: as ``TAKES`` of the
        module says, which refuses kinds that the loss is not made for.
    """

    model_config = ConfigDict(extra="allow")

    name: str
    # Left out where it says nothing, so that what was made before it could be said stays what it is.
    labels: Literal["unchanged"] | None = Field(default=None, exclude_if=lambda value: value is None)

    @model_validator(mode="before")
    @classmethod
    def _with_all_settings(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or not isinstance(values.get("name"), str):
            return values
        shared = {key: values[key] for key in OF_EVERY_OBJECTIVE if key in values}
        given = {key: value for key, value in values.items() if key not in shared}
        settings = OBJECTIVES.read(values["name"]).Settings
        try:
            return shared | settings(**given).model_dump()
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise ValueError(f"{where}: found {first['input']!r}: {first['msg']}") from None

    @model_validator(mode="after")
    def _fits_into_paths(self) -> Self:
        if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]*", self.slug) is None:
            raise ValueError(f"{self.name}: {self.slug!r} would be part of a path; settings are numbers or plain words")
        return self

    @property
    def about(self) -> ObjectiveAbout:
        """What its module says of itself."""
        return OBJECTIVES.read(self.name)

    @property
    def settings(self) -> dict[str, Any]:
        """Keyword arguments of the loss function."""
        return dict(self.model_extra or {})

    @property
    def needs_teacher(self) -> bool:
        """Whether a teacher's features or logits enter the loss."""
        return self.about.NEEDS is not None

    def refusal(self, kind: str) -> str | None:
        """Return why labels of a kind of `elf.specs.labels.KINDS` are not taken, and what to do; None if they are."""
        takes = self.about.TAKES
        if kind in takes or (self.labels == "unchanged" and kind != "hard"):
            return None
        fitting = ", ".join(name for name in OBJECTIVES.names() if kind in OBJECTIVES.read(name).TAKES)
        return (
            f"the objective {self.name} takes no labels of the kind {kind} (allowed: {', '.join(takes)}); "
            f"choose one that does ({fitting}), or ask for them as they are with 'labels: unchanged' in the objective, "
            "which tables then say"
        )

    def use_of(self, kind: str) -> str:
        """Return as what labels of a kind that is taken enter the loss."""
        return "unchanged" if self.labels == "unchanged" and kind != "hard" else self.about.TAKES[kind]

    @property
    def label(self) -> str:
        """Name in results: ``task``, ``elf``, ``elf[rear+task]``, ``task, labels unchanged``; tables print `LABEL`."""
        mark = self._own_settings.mark({*self.about.COLUMNS})
        name = f"{self.name}[{mark}]" if mark else self.name
        return name + (UNCHANGED if self.labels == "unchanged" else "")

    def column(self, name: SettingColumn) -> Any:
        """Return the value of a column of results that holds a setting; None if no setting of this objective does."""
        of_columns = {column: key for key, column in self.about.COLUMNS.items()}
        return self.settings[of_columns[name]] if name in of_columns else None

    @property
    def slug(self) -> str:
        """Part of a path that tells this objective from every other."""
        return f"{self.name}{self._own_settings.slug}" + ("-labels-unchanged" if self.labels == "unchanged" else "")

    @property
    def _own_settings(self) -> ObjectiveSettings:
        return self.about.Settings(**self.settings)


def printed_name(name: str) -> str:
    """Return what tables call an objective; one that is not known here, as in others' results, by its own name."""
    try:
        return OBJECTIVES.read(name).LABEL
    except ElfError:
        return f"+ {name}"


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)

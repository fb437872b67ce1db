"""What the files under ``config/`` may contain; elf/study/config_reading.py reads them."""

import json
import re
from itertools import product
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from elf.errors import ElfError
from elf.specs.objective import OBJECTIVES, Objective
from elf.specs.synthetic import RecipeValue

TRAINING_RECIPES = ("evaluation", "teacher", "expert", "frepo-evaluation")
"""Recipes of trainings; every other one is that of a distillation method."""

NORMALISATIONS = (
    "cifar",
    "cifar100-dc",
    "imagenet",
    "frepo-cifar10",
    "frepo-cifar100",
    "frepo-tiny-imagenet",
    "frepo-imagenet64",
    "digits",
    "zca",
    "frepo-cifar10-zca",
    "frepo-cifar100-zca",
    "frepo-tiny-imagenet-zca",
)
"""Repeated from elf/data/preprocessing.py, which cannot be read without PyTorch."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
"""What may be part of a path: nothing that leads elsewhere, or that a shell, Snakemake or an option takes otherwise."""
NAME_RULE = (
    "allowed are up to 100 letters (a to z), digits, '_', '.' and '-', the first of them a letter or digit, because it "
    "becomes part of paths"
)

ImagesPerClass = Annotated[int, Field(ge=1)]
Epoch = Annotated[int, Field(ge=0)]
Weight = Annotated[float, Field(ge=0)]
Rate = Annotated[float, Field(gt=0)]


class Strict(BaseModel):
    """A frozen part of the configuration that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Constants(Strict):
    """Per channel, of pixels in [0, 1], in the order red, green, blue."""

    mean: list[Annotated[float, Field(ge=0, le=1)]] = Field(min_length=3, max_length=3, description="Is subtracted.")
    std: list[Rate] = Field(min_length=3, max_length=3, description="Divides what is left.")


class DatasetConfig(Strict):
    """One entry of ``config/datasets.yaml``."""

    source: Literal["auto", "digits", "torchvision", "parquet", "folder", "downsampled"] = Field(
        description="How the images are stored; auto: what lies in the location, parquet files first."
    )
    location: str | None = Field(default=None, description="Folder below the data folder (ELF_DATA_DIR).")
    obtain: str | None = Field(default=None, description="Where the images come from, said when they are missing.")
    side: int = Field(ge=4, description="Height and width of the images in pixels.")
    normalisation: Literal[NORMALISATIONS] | None = Field(
        default=None, description="Name of the constants in elf/data/preprocessing.py, or of a whitening."
    )
    constants: Constants | None = Field(
        default=None, description="Constants of its own by which pixels are normalised, instead of a normalisation."
    )
    train_per_class: int | None = Field(default=None, ge=1, description="Keep the first images of each class.")
    test_per_class: int | None = Field(default=None, ge=1, description="Test on the first images of each class.")
    image_column: str | None = Field(
        default=None, description="Column of parquet files with the images; by default img or image."
    )
    label_column: str | None = Field(
        default=None, description="Column of parquet files with the labels; by default label, labels or fine_label."
    )

    @model_validator(mode="after")
    def _is_normalised_once(self) -> "DatasetConfig":
        if self.normalisation is None and self.constants is None:
            raise ValueError("normalisation: this key is missing, and there are no constants in its place")
        if self.normalisation is not None and self.constants is not None:
            raise ValueError("constants: stand in place of a normalisation; leave one of them out")
        return self

    @model_validator(mode="after")
    def _columns_are_those_of_parquet_files(self) -> "DatasetConfig":
        if self.source not in ("auto", "parquet") and (self.image_column or self.label_column):
            raise ValueError(
                f"image_column and label_column name columns of parquet files, but source is {self.source}"
            )
        return self


def _with_settings(schema: dict[str, Any]) -> None:
    """Add the settings of all objectives to a schema: a value, or a list of values that spans a product."""
    for name in OBJECTIVES.names():
        own = OBJECTIVES.read(name).Settings.model_json_schema().get("properties", {})
        for key, entry in own.items():
            value = {part: entry[part] for part in entry if part not in ("title", "description", "default")}
            known = schema["properties"].setdefault(key, {"anyOf": [], "description": ""})
            known["anyOf"] += [value, {"items": value, "minItems": 1, "type": "array"}]
            default = f"; by default {json.dumps(entry['default'])}."
            text = f"Of {name}: {entry['description'].rstrip('.')}{default}"
            known["description"] = f"{known['description']} {text}".strip()


class ObjectiveConfig(Strict):
    """One objective of a block, with its settings; lists span a product."""

    model_config = ConfigDict(extra="allow", json_schema_extra=_with_settings)

    name: str = Field(description="Module in elf/objectives.")
    labels: Literal["unchanged"] | None = Field(
        default=None,
        description="unchanged: learned labels of any kind enter the loss as they are, and tables say so.",
    )

    @model_validator(mode="after")
    def _check_settings(self) -> Self:
        """The objective itself says which settings it has."""
        try:
            model = OBJECTIVES.read(self.name).Settings
        except ElfError as error:
            raise ValueError(f"name: {error}") from None
        for key, values in (self.model_extra or {}).items():
            if key not in model.model_fields:
                allowed = ", ".join(sorted((*type(self).model_fields, *model.model_fields)))
                raise ValueError(f"{key}: unknown key; allowed: {allowed}")
            if values == []:
                raise ValueError(f"{key}: names no value")
            for index, value in enumerate(values if isinstance(values, list) else [values]):
                try:
                    model.model_validate({key: value}, strict=True)
                except ValidationError as error:
                    where = f"{key}.{index}" if isinstance(values, list) else key
                    raise ValueError(f"{where}: found {value!r}: {error.errors()[0]['msg']}") from None
        self.expand()
        return self

    def expand(self) -> list[Objective]:
        """Return the objectives that this entry names, in the order of the settings of its module."""
        given = self.model_extra or {}
        axes = {key: given[key] for key in OBJECTIVES.read(self.name).Settings.model_fields if key in given}
        values = product(*(value if isinstance(value, list) else [value] for value in axes.values()))
        return [Objective(name=self.name, labels=self.labels, **dict(zip(axes, one, strict=True))) for one in values]


class Block(Strict):
    """A product of axes; an experiment is the union of its blocks."""

    dataset: str = Field(description="Dataset of the paper; a scale may let another stand in for it.")
    full_data: bool = Field(
        default=False, description="Whether the networks are trained on all real images, by the recipe of teachers."
    )
    ipc: list[ImagesPerClass] = Field(default=[], description="Images per class.")
    method: list[str] = Field(
        default=[], description="Distillation methods; those that the scale does not run stay empty."
    )
    distill_network: list[str] = Field(default=[], description="Distillation networks.")
    eval_network: list[str] = Field(min_length=1, description="Evaluation networks.")
    objective: list[ObjectiveConfig] = Field(default=[], description="What is minimised.")
    teacher_network: str | list[str] = Field(
        default="match", description="Feature models; match takes the IN ConvNet whose map fits."
    )
    teacher_epoch: Epoch | list[Epoch] | dict[str, Epoch] = Field(
        default=[], description="Epochs of the feature model: one, several, or one for each method."
    )
    recipe: dict[str, RecipeValue] = Field(
        default={}, description="Hyper-parameters of the distillation method that differ from its recipe."
    )
    lr: Rate | dict[str, Rate] | None = Field(
        default=None, description="Learning rate of the evaluation, also by method; null takes the recipe's."
    )
    evaluation: dict[str, RecipeValue | list[RecipeValue]] = Field(
        default={},
        description="Hyper-parameters of the evaluation that differ from its recipe: a value, or several as an axis.",
    )
    aligned: bool = Field(default=False, description="Whether this is evaluation with the distillation network.")
    enabled: bool = Field(default=True, description="Whether the block is part of the experiment.")

    @model_validator(mode="after")
    def _check_axes(self) -> Self:
        """A block of full data has no synthetic set; every other block needs all that determines one."""
        for key in ("ipc", "method", "distill_network", "objective"):
            if self.full_data == bool(getattr(self, key)):
                problem = "must be left out of a block with full_data" if self.full_data else "this key is missing"
                raise ValueError(f"{key}: {problem}")
        if self.full_data and self.evaluation:
            raise ValueError("evaluation: must be left out of a block with full_data, which has the recipe of teachers")
        if self.lr is not None and "lr" in self.evaluation:
            raise ValueError("evaluation.lr: the block's own lr says it already; leave one of them out")
        for key, values in self.evaluation.items():
            if values == []:
                raise ValueError(f"evaluation.{key}: names no value")
        return self


class Experiment(Strict):
    """One file of ``config/experiments/``: a table or a figure."""

    title: str = Field(description="First sentence of the caption.")
    kind: Literal["table", "figure"] = Field(description="What is drawn.")
    number: int = Field(ge=1, description="Number in the paper.")
    columns: Literal["network", "ipc"] = Field(
        default="network", description="Columns of a table: evaluation networks, or images per class."
    )
    shows: Literal["accuracy", "teacher_epoch"] = Field(default="accuracy", description="What stands in a table.")
    gains: bool = Field(default=False, description="Whether a table has rows with the change from the baseline.")
    bold: bool = Field(default=False, description="Whether a table prints the best of a column in bold.")
    blocks: dict[str, Block] = Field(description="Named products of axes.")

    @model_validator(mode="after")
    def _check_marks(self) -> Self:
        """Figures have no place for the mark of labels that enter a loss that is not made for them."""
        asking = [name for name, block in self.blocks.items() if any(entry.labels for entry in block.objective)]
        if self.kind == "figure" and asking:
            raise ValueError(f"blocks.{asking[0]}.objective: 'labels' is for tables, whose rows say so")
        return self


class Sourced(Strict):
    """A hyper-parameter and where its value comes from."""

    value: RecipeValue = Field(description="The value.")
    source: Literal["paper", "official code", "third party", "own choice"] = Field(description="Kind of source.")
    where: str = Field(description="Table, script or reason.")
    minimum: float | None = Field(default=None, description="Smallest allowed value.")
    maximum: float | None = Field(default=None, description="Largest allowed value.")
    choices: list[RecipeValue] | None = Field(default=None, description="Allowed values.")
    unmarked: RecipeValue | None = Field(
        default=None,
        description="The value that needs no mention; any other becomes part of the set's name and of its label.",
    )

    def refusal(self, value: RecipeValue) -> str | None:
        """Return why another value cannot take the place of this one; None if it can."""
        expected = type(self.value)
        fits = isinstance(value, expected) and not (expected is int and isinstance(value, bool))
        if not (fits or (expected is float and isinstance(value, int) and not isinstance(value, bool))):
            return f"found {value!r}, expected a value of type {expected.__name__}"
        if self.unmarked is not None and isinstance(value, str) and NAME.fullmatch(value) is None:
            return f"found {value!r}, {NAME_RULE}"
        if self.choices is not None and value not in self.choices:
            return f"found {value!r}, allowed: {', '.join(map(str, self.choices))}"
        too_small = self.minimum is not None and value < self.minimum
        too_large = self.maximum is not None and value > self.maximum
        if too_small or too_large:
            lower = "-inf" if self.minimum is None else f"{self.minimum:g}"
            upper = "inf" if self.maximum is None else f"{self.maximum:g}"
            return f"found {value!r}, allowed: {lower} to {upper}"
        return None

    def changed(self, value: RecipeValue, where: str) -> "Sourced":
        """Return the hyper-parameter with a value of our own; 1 instead of 1.0 is no change of type."""
        value = float(value) if isinstance(self.value, float) else value
        return self.model_copy(update={"value": value, "source": "own choice", "where": where})


class Condition(Strict):
    """When a variant of a recipe holds; an axis that is not named matches everything."""

    dataset: list[str] | None = Field(default=None, description="Datasets of the paper.")
    ipc: list[int] | None = Field(default=None, description="Images per class.")


class Variant(Strict):
    """Values that replace others under a condition."""

    when: Condition = Field(description="Condition.")
    values: dict[str, Sourced] = Field(description="Replaced hyper-parameters.")


class PrintedSet(Strict):
    """The set of the paper that a set of others is held against."""

    method: str = Field(description="Method by which both were distilled, as the paper's tables have it.")
    network: str | None = Field(default=None, description="Network that both were distilled with.")
    dataset: str = Field(description="Dataset of both, which says how the pixels of a file are normalised.")
    published: str = Field(description="Where the files of the set are published.")


class Recipe(Strict):
    """One file of ``config/recipes/``: hyper-parameters with sources."""

    description: str = Field(description="What the recipe is for.")
    module: str | None = Field(
        default=None, description="Module in elf/distillation that makes the set; by default the recipe's name."
    )
    uses_network: bool = Field(default=True, description="Whether a distillation network is involved.")
    network: str | None = Field(
        default=None, description="The method's own distillation network, instead of the one that a block names."
    )
    other_set_of: PrintedSet | None = Field(
        default=None, description="For a set that others distilled: the paper's own, and where to find theirs."
    )
    uses_experts: bool = Field(default=False, description="Whether the method matches expert trajectories.")
    values: dict[str, Sourced] = Field(description="Hyper-parameters.")
    variants: list[Variant] = Field(default=[], description="Values for single datasets or image counts.")

    def module_of(self, name: str) -> str:
        """Return the module in ``elf/distillation`` of the recipe of this name."""
        return self.module or name.replace("-", "_")

    def sourced(self, dataset: str | None = None, ipc: int | None = None) -> dict[str, Sourced]:
        """Return the values that hold for a dataset of the paper and a number of images per class."""
        values = dict(self.values)
        for variant in self.variants:
            when = variant.when
            if (when.dataset is None or dataset in when.dataset) and (when.ipc is None or ipc in when.ipc):
                values |= variant.values
        return values


class ScaleVariant(Strict):
    """Hyper-parameters that a scale changes under a condition."""

    when: Condition = Field(description="Condition.")
    values: dict[str, RecipeValue] = Field(description="Changed hyper-parameters.")


class Scale(Strict):
    """One file of ``config/scales/``: budgets, and which data stands in for which."""

    description: str = Field(description="Shown in captions.")
    methods: list[str] = Field(description="Distillation methods that are run; cells of others stay empty.")
    experiments: list[str] = Field(description="Tables and figures that are made.")
    stand_ins: dict[str, str] = Field(default={}, description="Dataset of the paper: dataset that stands in for it.")
    teacher_epochs: dict[str, Epoch] = Field(
        default={}, description="Epoch of the feature model in an experiment: epoch at this scale."
    )
    comparable: bool = Field(
        default=False, description="Whether sizes and budgets are the paper's, so that numbers are held against its."
    )
    width: float = Field(default=1.0, gt=0, le=1, description="Multiplies the width of every network.")
    seeds: int = Field(default=5, ge=1, description="Evaluation networks per cell.")
    seeds_per_job: int = Field(default=5, ge=1, description="Evaluation networks that one job trains.")
    seeds_per_job_for: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default={}, description="The same for single datasets, such as those whose trainings take long."
    )
    seeds_at_once: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="Whether a job trains its evaluation networks at once, not one by one; auto: few images on a GPU.",
    )
    datasets: dict[str, dict[str, Any]] = Field(default={}, description="Changes to config/datasets.yaml.")
    recipes: dict[str, dict[str, RecipeValue]] = Field(default={}, description="Changed hyper-parameters.")
    variants: dict[str, list[ScaleVariant]] = Field(
        default={}, description="Hyper-parameters changed for single datasets of the paper or image counts."
    )
    changes: dict[str, dict[str, Any]] = Field(
        default={}, description="Changes to experiments, merged into their keys."
    )

    def shard_size(self, dataset: str) -> int:
        """Return how many networks one job trains on the synthetic sets of a dataset."""
        return self.seeds_per_job_for.get(dataset, self.seeds_per_job)


class Top(Strict):
    """``config/config.yaml``."""

    scale: str = Field(description="A file of config/scales/, without its ending.")
    plugins: str | None = Field(
        default=None,
        description="Folder with plug-ins of your own, in objectives/ or distillation/; from where config/ lies.",
    )


class Settings(Strict):
    """Everything that was read, with the changes of the scale applied."""

    name: str
    scale: Scale
    datasets: dict[str, DatasetConfig]
    recipes: dict[str, Recipe]
    experiments: dict[str, Experiment]

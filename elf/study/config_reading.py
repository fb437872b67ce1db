"""Reading the files under ``config/``, when the workflow starts.

Whatever is wrong ends as one line that names the file, the key, what was found and what is allowed.
"""

import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from elf.errors import ElfError
from elf.specs.expert import ExpertRecipe
from elf.specs.method import METHODS
from elf.specs.objective import OBJECTIVES
from elf.specs.plugins import use_checked
from elf.specs.synthetic import RecipeValue
from elf.specs.training import FrepoRecipe, TrainingRecipe
from elf.study.config import (
    NAME,
    NAME_RULE,
    TRAINING_RECIPES,
    DatasetConfig,
    Experiment,
    Recipe,
    Scale,
    Settings,
    Sourced,
    Top,
    Variant,
)

PACKAGE = Path(__file__).resolve().parents[1]

ROOMS = (OBJECTIVES, METHODS)
"""Folders in which a user's plug-ins may lie."""


def load_settings(folder: Path, scale: str | None = None, plugins: str | None = None) -> Settings:
    """Read and validate the configuration.

    Parameters
    ----------
    folder : Path
        The folder ``config``.
    scale : str or None
        Scale to load; None takes the one of ``config.yaml``.
    plugins : str or None
        Folder with the user's plug-ins, from where ``config`` lies; None takes that of ``ELF_PLUGINS`` or
        ``config.yaml``.

    Raises
    ------
    ElfError
        One line that names the file, the key, what was found and what is allowed.
    """
    top = load_top(folder)
    use_checked(plugins_folder(folder, plugins), ROOMS)
    # Snakemake takes digits behind --config for a number.
    name = top.scale if scale is None else str(scale)
    scale_file = folder / "scales" / f"{name}.yaml"
    known = sorted(path.stem for path in (folder / "scales").glob("*.yaml"))
    if name not in known:
        shown = scale_file if name.isprintable() else repr(str(scale_file))
        raise ElfError(f"{folder / 'config.yaml'}: scale: there is no {shown}; allowed: {', '.join(known)}")
    check_name(name, scale_file, "name of the file")
    scale_config = validated(Scale, read_yaml(scale_file), scale_file)
    datasets = _datasets(folder / "datasets.yaml", scale_config, scale_file)
    experiments = _experiments(folder / "experiments", scale_config, scale_file)
    named = {block.dataset for experiment in experiments.values() for block in experiment.blocks.values()}
    known_keys(scale_config.stand_ins, named | set(datasets), scale_file, "stand_ins")
    known_keys(scale_config.stand_ins.values(), datasets, scale_file, "stand_ins")
    known_keys(scale_config.seeds_per_job_for, datasets, scale_file, "seeds_per_job_for")
    return Settings(
        name=name,
        scale=scale_config,
        datasets=datasets,
        recipes=_recipes(folder / "recipes", scale_config, scale_file),
        experiments=experiments,
    )


def load_top(folder: Path) -> Top:
    """Read and validate ``config.yaml``."""
    return validated(Top, read_yaml(folder / "config.yaml"), folder / "config.yaml")


def plugins_folder(folder: Path, said: str | None = None) -> Path | None:
    """Return the folder with the user's plug-ins, if any: as said, or of ``ELF_PLUGINS``, or the configured one."""
    named = os.environ.get("ELF_PLUGINS") if said is None else said
    if named is None and (folder / "config.yaml").is_file():
        named = load_top(folder).plugins
    return (folder.parent / named).resolve() if named else None


def _datasets(file: Path, scale: Scale, scale_file: Path) -> dict[str, DatasetConfig]:
    raw = read_yaml(file)
    for name in raw:
        check_name(name, file, "name of a dataset")
    datasets = {name: _dataset(entry, file, name) for name, entry in raw.items()}
    known_keys(scale.datasets, datasets, scale_file, "datasets")
    for name, changes in scale.datasets.items():
        datasets[name] = _dataset(raw[name] | changes, scale_file, f"datasets.{name}")
    return datasets


def _dataset(content: Any, file: Path, where: str) -> DatasetConfig:
    dataset = validated(DatasetConfig, content, file, where)
    place = PurePosixPath(dataset.location or ".")
    if place.is_absolute() or ".." in place.parts or not str(place).isprintable():
        # It is written into manifests and cards, which are no place for the folders of one machine.
        raise ElfError(
            f"{file}: {where}.location: found {dataset.location!r}, allowed is a folder below the data folder "
            "(ELF_DATA_DIR); a link there may lead anywhere"
        )
    return dataset


def _recipes(folder: Path, scale: Scale, scale_file: Path) -> dict[str, Recipe]:
    recipes = {file.stem: _recipe(file) for file in sorted(folder.glob("*.yaml"))}
    for name in TRAINING_RECIPES:
        if name not in recipes:
            raise ElfError(f"{folder / f'{name}.yaml'}: there is no such file, but every scale needs it")
    modules = {name: recipe.module_of(name) for name, recipe in recipes.items()}
    makes = METHODS.names()
    methods = [name for name, module in modules.items() if module in makes]
    known_keys(scale.recipes, recipes, scale_file, "recipes")
    known_keys(scale.methods, methods, scale_file, "methods")
    known_keys(scale.variants, recipes, scale_file, "variants")
    for name in dict.fromkeys([*scale.recipes, *scale.variants]):
        recipes[name] = _changed(name, recipes[name], scale, scale_file)
    return recipes


def _changed(name: str, recipe: Recipe, scale: Scale, scale_file: Path) -> Recipe:
    """Return a recipe with the changes of the scale: those for every dataset, then those under a condition."""
    where = f"budget of the scale {scale_file.stem}"

    def sourced(changes: dict[str, RecipeValue], key: str) -> dict[str, Sourced]:
        known_keys(changes, recipe.values, scale_file, key)
        for entry, value in changes.items():
            _check_value(recipe.values[entry], value, scale_file, f"{key}.{entry}")
        return {entry: recipe.values[entry].changed(value, where) for entry, value in changes.items()}

    changed = sourced(scale.recipes.get(name, {}), f"recipes.{name}")
    # A change of the scale is meant for every dataset, so it also ends the variants of that key.
    variants = [
        variant.model_copy(update={"values": {k: v for k, v in variant.values.items() if k not in changed}})
        for variant in recipe.variants
    ]
    values = recipe.values | changed
    _check_training(name, values, scale_file, f"recipes.{name}")
    for number, variant in enumerate(scale.variants.get(name, [])):
        key = f"variants.{name}.{number}.values"
        own = sourced(variant.values, key)
        _check_training(name, values | own, scale_file, key)
        variants.append(Variant(when=variant.when, values=own))
    return recipe.model_copy(update={"values": values, "variants": variants})


def _recipe(file: Path) -> Recipe:
    check_name(file.stem, file, "name of the file")
    recipe = validated(Recipe, read_yaml(file), file)
    if recipe.module is not None and not re.fullmatch("[a-z][a-z0-9_]{0,99}", recipe.module):
        raise ElfError(f"{file}: module: found {recipe.module!r}, allowed is a module of elf/distillation")
    for key, entry in recipe.values.items():
        check_name(key, file, "name of a value")
        _check_value(entry, entry.value, file, f"values.{key}.value")
    if recipe.module == "imported" and "file" in recipe.values:
        _check_imported(str(recipe.values["file"].value), file)
    _check_training(file.stem, recipe.values, file, "values")
    for number, variant in enumerate(recipe.variants):
        known_keys(variant.values, recipe.values, file, f"variants.{number}.values")
        for key, entry in variant.values.items():
            for bounds in (recipe.values[key], entry):
                _check_value(bounds, entry.value, file, f"variants.{number}.values.{key}.value")
        _check_training(file.stem, recipe.values | variant.values, file, f"variants.{number}.values")
    return recipe


def _check_training(name: str, values: dict[str, Sourced], file: Path, where: str) -> None:
    if name in TRAINING_RECIPES:
        model = {"expert": ExpertRecipe, "frepo-evaluation": FrepoRecipe}.get(name, TrainingRecipe)
        validated(model, {key: entry.value for key, entry in values.items()}, file, where)


def _check_imported(found: str, file: Path) -> None:
    if PurePosixPath(found).is_absolute() or not found.isprintable() or re.search("^-|[{}]", found):
        # It is written into manifests, which are no place for the folders of one machine. To Snakemake, what stands
        # in braces is the name of something else.
        raise ElfError(
            f"{file}: values.file.value: found {found!r}, allowed is a path from where the workflow runs, such as "
            f"imported/{file.stem}.safetensors"
        )


def _check_value(entry: Sourced, value: RecipeValue, file: Path, key: str) -> None:
    refusal = entry.refusal(value)
    if refusal is not None:
        raise ElfError(f"{file}: {key}: {refusal}")


def _experiments(folder: Path, scale: Scale, scale_file: Path) -> dict[str, Experiment]:
    files = {file.stem: file for file in sorted(folder.glob("*.yaml"))}
    known_keys(scale.experiments, files, scale_file, "experiments")
    known_keys(scale.changes, files, scale_file, "changes")
    experiments = {}
    for name, file in files.items():
        check_name(name, file, "name of the file")
        raw = read_yaml(file)
        experiments[name] = validated(Experiment, raw, file)
        _check_drawable(name, experiments[name], file)
        changes = scale.changes.get(name)
        if changes:
            if isinstance(changes.get("blocks"), dict):
                known_keys(changes["blocks"], raw["blocks"], scale_file, f"changes.{name}.blocks")
            experiments[name] = validated(Experiment, merged(raw, changes), scale_file, f"changes.{name}")
    return experiments


def _check_drawable(name: str, experiment: Experiment, file: Path) -> None:
    if not re.fullmatch(f"{experiment.kind}0*{experiment.number}", name):
        raise ElfError(
            f"{file}: kind, number: found {experiment.kind} and {experiment.number}, "
            f"but the rules draw {experiment.kind}{experiment.number:02d} from a file of that name"
        )
    if experiment.kind == "figure" and not (PACKAGE / "results" / f"{name}.py").is_file():
        allowed = ", ".join(sorted(path.stem for path in (PACKAGE / "results").glob("figure*.py")))
        raise ElfError(f"{file}: nothing draws {name}: there is no elf/results/{name}.py; allowed: {allowed}")


def merged(base: dict, changes: dict) -> dict:
    """Return ``base`` with ``changes`` merged in: mappings key by key, everything else replaced."""
    result = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


# The parser in C is ten times as fast, where PyYAML was built with it.
class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """YAML without its traps: a key that occurs twice, keys that are no text, and 1e-3, which it takes for text."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is no text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} occurs twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+"), list("-+0123456789")
)


def read_yaml(file: Path) -> dict:
    """Read a YAML mapping; what is wrong with it ends as one line."""
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise ElfError(f"{file}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).replace('"<unicode string>", ', "").split())
        raise ElfError(f"{file}: not valid YAML: {reason}") from None
    if not isinstance(content, dict):
        raise ElfError(f"{file}: found {type(content).__name__}, expected a mapping of keys to values")
    return content


def check_name(name: str, file: Path, where: str) -> None:
    """Raise an error for a name that cannot safely be part of a path."""
    if NAME.fullmatch(name) is None:
        shown = file if str(file).isprintable() else repr(str(file))
        raise ElfError(f"{shown}: {where}: found {name!r}, {NAME_RULE}")


def known_keys(keys: Iterable[str], allowed: Collection[str], file: Path, where: str) -> None:
    """Raise an error for the first key that is not allowed."""
    for key in keys:
        if key not in allowed:
            raise ElfError(f"{file}: {where}: unknown {key!r}; allowed: {', '.join(sorted(map(str, allowed)))}")


def validated(model: type[BaseModel], content: Any, file: Path, where: str = ""):
    """Return ``content`` as a model; the first mistake ends as one line.

    Parameters
    ----------
    model : type
        Pydantic model.
    content : Any
        What was read.
    file : Path
        File to name in the message.
    where : str
        Key of ``content`` in the file.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        errors = error.errors(include_url=False)
    # A value that may be of several types gives errors for each: those that lie deepest are about the type that
    # was meant, and where none was, all of them say together what is allowed.
    start = _path(errors[0])
    errors = [other for other in errors if _path(other)[: len(start)] == start]
    first = max(errors, key=lambda other: len(_path(other)))
    path = _path(first)
    key = ".".join([where, *map(str, path)] if where else map(str, path))
    if first["type"] == "extra_forbidden":
        allowed = ", ".join(_fields_at(model, path[:-1]))
        raise ElfError(f"{file}: {key}: unknown key; allowed: {allowed}") from None
    if first["type"] == "missing":
        raise ElfError(f"{file}: {key}: this key is missing") from None
    if first["type"] == "value_error" and isinstance(first["input"], dict):
        # What is wrong with several keys together names them itself; the whole mapping would hide it.
        inside = f"{key}." if re.match(r"[\w.]+: ", str(first["ctx"]["error"])) else f"{key}: "
        raise ElfError(f"{file}: {inside}{first['ctx']['error']}") from None
    reasons = dict.fromkeys(other["msg"] for other in errors if _path(other) == path)
    raise ElfError(f"{file}: {key}: found {first['input']!r}: {' or '.join(reasons)}") from None


def _path(error: dict) -> list:
    """Return the keys that lead to an error, without the types that Pydantic tried on the way."""
    return [
        part for part in error["loc"] if not re.match(r"(list|dict|constrained-\w+)\b|(int|float|bool|str)$", str(part))
    ]


def _fields_at(model: type[BaseModel], path: list) -> list[str]:
    """Names of the fields of the model that lies at ``path`` inside ``model``."""
    for part in path:
        if isinstance(part, str) and part in model.model_fields:
            nested = _model_in(model.model_fields[part].annotation)
            model = nested or model
    return sorted(model.model_fields)


def _model_in(annotation) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_in(argument)
        if found is not None:
            return found
    return None

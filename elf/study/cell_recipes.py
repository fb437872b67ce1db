"""The hyper-parameters behind a cell, each with its source."""

from collections.abc import Iterator, Mapping

from elf.specs.base import canonical_json
from elf.study.cells import Cell, FullDataCell, training_recipe
from elf.study.config import Settings
from elf.study.plan import Plan


def recipes_of(settings: Settings, cell: Cell | FullDataCell) -> dict[str, list[dict]]:
    """Return the values that hold for a cell, by what they are for: images, experts, evaluation, teacher.

    Each value is a dict with ``recipe``, ``key``, ``value``, ``source`` and ``where``; of the recipe of a method there
    are only those that the method reads.
    """
    dataset = cell.paper_dataset
    if isinstance(cell, FullDataCell):
        return {"training on all images": _lines(settings, "teacher", dataset, None, _values(cell.teacher.recipe))}
    synthetic, evaluation = cell.synthetic, cell.evaluation
    protocol = evaluation.objective.about.RECIPE
    found = {"synthetic images": _lines(settings, synthetic.method, dataset, synthetic.ipc, synthetic.recipe)}
    if "experts" in synthetic.recipe:
        experts = training_recipe(settings, "expert", dataset, None, synthetic.network)
        found["experts"] = _lines(settings, "expert", dataset, None, _values(experts))
    found["evaluation"] = _lines(settings, protocol, dataset, synthetic.ipc, _values(evaluation.recipe))
    if evaluation.objective.needs_teacher:
        teacher = training_recipe(settings, "teacher", dataset, None, evaluation.teacher_network)
        found["teacher"] = _lines(settings, "teacher", dataset, None, _values(teacher))
    return found


def all_recipes(plan: Plan) -> list[dict]:
    """Return the hyper-parameters that hold for the cells of the grid, each once; teachers' even if none is used."""
    lines = {canonical_json(line): line for line in _lines(plan.settings, "teacher", None, None)}
    for line in _of_grid(plan):
        lines.setdefault(canonical_json(line), line)
    return sorted(lines.values(), key=lambda line: line["recipe"])


def _of_grid(plan: Plan) -> Iterator[dict]:
    for cells in plan.grid.cells.values():
        for cell in cells:
            for lines in recipes_of(plan.settings, cell).values():
                yield from lines


def _values(recipe) -> dict:
    return recipe.model_dump(mode="json")


def _lines(settings: Settings, name: str, dataset: str | None, ipc: int | None, used: Mapping | None = None) -> list:
    """Return the values of a recipe; ``used`` are those that a run was given, which an experiment may have changed."""
    lines = []
    for key, entry in settings.recipes[name].sourced(dataset, ipc).items():
        if used is not None and key not in used:
            continue
        if used is not None and used[key] != entry.value:
            changed = entry.changed(used[key], "experiment")
            # A rate that an experiment sets may well be the paper's: the recipe says so.
            entry = changed.model_copy(update={"where": f"experiment; {entry.where}"}) if key == "lr" else changed
        lines.append({"recipe": name, "key": key, "value": entry.value, "source": entry.source, "where": entry.where})
    return lines

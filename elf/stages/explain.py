"""Say what a number of a table or figure is made of: seeds, files, code, recipes, and how to make it again."""

import json
import re
import sys

from elf.errors import ElfError
from elf.status.cell_names import Names, words_of
from elf.status.explanation import accuracies, explain, summary
from elf.status.explanation_text import mean_text, render
from elf.status.jobs import jobs_of, selected
from elf.status.origins import results_of
from elf.status.states import states_of
from elf.study.cells import Cell, FullDataCell
from elf.study.images import data_folder
from elf.study.plan import Plan, arguments_of_scale, load_plan


def main(argv: list[str]) -> None:
    """Run the command."""
    parser = arguments_of_scale("explain", __doc__)
    parser.add_argument(
        "cell",
        metavar="TABLE[/CELL]",
        help="for example table05/dm/resnet18-in/elf: words that only this cell has, in any order; a table or figure "
        "alone lists its cells",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    arguments = parser.parse_args(argv)
    plan = load_plan(arguments)
    asked, *words = [word for word in arguments.cell.strip("/").split("/") if word]
    experiment = _experiment(plan, asked)
    cells = plan.grid.cells[experiment]
    names = Names([words_of(cell.columns) for cell in cells])
    found = _found(names, experiment, words)
    if len(found) > 1 or not words:
        print(_listed(plan, experiment, [(names.shortest(index), cells[index]) for index in found], arguments.json))
        if words:
            sys.stdout.flush()
            raise ElfError(
                f"{arguments.cell} is the name of {len(found)} cells; add a word, as in the names listed above"
            )
        return
    explanation = explain(plan, experiment, names.shortest(found[0]), cells[found[0]], data_folder())
    print(json.dumps(explanation, indent=2, ensure_ascii=False) if arguments.json else render(explanation))


def _experiment(plan: Plan, asked: str) -> str:
    """Return the experiment of this name or number: ``table5`` is ``table05``."""
    match = re.fullmatch(r"(table|figure)0*([1-9][0-9]*)", asked.lower())
    name = match and (f"table{int(match[2]):02d}" if match[1] == "table" else f"figure{match[2]}")
    if name not in plan.grid.cells:
        allowed = ", ".join(plan.grid.cells)
        raise ElfError(f"{asked!r} is no table or figure of the scale {plan.settings.name}; allowed: {allowed}")
    return name


def _found(names: Names, experiment: str, words: list[str]) -> list[int]:
    """Return the cells with these words; none is an error that says which words there are."""
    found = names.matching(words)
    if found:
        return found
    if unknown := names.unknown(words):
        raise ElfError(f"no cell of {experiment} has the word {unknown[0]!r}; known are {_known(names, None)}")
    # The words that go together, as far as they do.
    fitting = next(
        names.matching(words[:count]) for count in range(len(words) - 1, -1, -1) if names.matching(words[:count])
    )
    raise ElfError(
        f"no cell of {experiment} has all of {', '.join(words)}; the first of them go with {_known(names, fitting)}"
    )


def _known(names: Names, among: list[int] | None) -> str:
    return "; ".join(f"{kind} {', '.join(words)}" for kind, words in names.known(among).items())


def _listed(plan: Plan, experiment: str, named: list[tuple[str, Cell | FullDataCell]], as_json: bool) -> str:
    """Return the cells, each with its mean and spread."""
    targets = {name: results_of(plan, cell) for name, cell in named}
    wanted = [f"{plan.folder.as_posix()}/{path}" for paths in targets.values() for path in paths]
    states = states_of(selected(plan, jobs_of(plan), wanted), plan.folder, data_folder())
    entries = []
    for name, cell in named:
        found, damaged = accuracies(plan.folder, cell, targets[name], states)
        is_current = not damaged and all(states[path].done for path in targets[name])
        entries.append({"cell": f"{experiment}/{name}", "number": summary(found), "current": is_current})
    if as_json:
        return json.dumps(entries, indent=2)
    width = max(len(entry["cell"]) for entry in entries)
    return "\n".join(f"{entry['cell']:<{width}}  {_result(entry)}".rstrip() for entry in entries)


def _result(entry: dict) -> str:
    if entry["number"] is None:
        return "not run"
    return mean_text(entry["number"]) + ("" if entry["current"] else "  (to be made again)")

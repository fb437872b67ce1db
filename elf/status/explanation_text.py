"""An explanation of a number as text."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from elf.specs.column import TRAINING
from elf.specs.columns import COLUMNS
from elf.specs.kinds import EXPERTS, KINDS
from elf.status.text import wrapped

CAUSE_TEXTS = {
    "missing": "not made yet",
    "damaged": "damaged",
    "settings": "made with other settings",
    "code": "made by other code: changed",
    "input": "made from another state of",
    "gone": "no longer there, so that what was made from it cannot be made again",
    "follows": "waits for what is made again",
}
MARKS = {"scale": "*", "experiment": "+", None: " "}


def render(explanation: Mapping) -> str:
    """Return the text of what :func:`elf.status.explanation.explain` gives."""
    title = f"{explanation['experiment']}/{explanation['cell']} at the scale {explanation['scale']}"
    parts = [title, "=" * len(title), "", *_number(explanation)]
    parts += ["", "The number", *_columns(explanation["columns"])]
    parts += ["", "What it is made of, from the number to the images", *_files(explanation["files"])]
    parts += _recipes(explanation["recipes"])
    parts += ["", "To make it again" + (" (nothing is stale, so it is forced)" if explanation["current"] else "")]
    return "\n".join([*parts, f"  {explanation['command']}"])


def _number(explanation: Mapping) -> Iterator[str]:
    number, columns = explanation["number"], explanation["columns"]
    if number is None:
        others = any(reason["cause"] == "settings" for file in explanation["files"] for reason in file["reasons"])
        yield "measured   not run" + (" with these settings" if others else "")
    else:
        found = len(number["seeds"])
        count = f"{found} {'seeds' if found != 1 else 'seed'}"
        count += f" of {columns['seeds']}" if found < columns["seeds"] else ""
        interval = "" if number["low"] is None else f", 95 % t-interval {number['low']:.2f} to {number['high']:.2f}"
        yield f"measured   {mean_text(number)} (population std), {count}{interval}"
        yield from wrapped(", ".join(f"{s}: {a:.2f}" for s, a in number["seeds"].items()), 11, "seeds      ")
    for row in explanation["paper"]:
        yield from wrapped(_printed(row, columns), 11, "paper      ")
    if not explanation["paper"]:
        yield "paper      prints no such number"
    elif explanation["not comparable"]:
        yield f"           not to be compared: {'; '.join(explanation['not comparable'])}"
    if number is None:
        return
    state = "current: settings, code and inputs are those of now"
    yield f"state      {state if explanation['current'] else 'to be made again, see below'}"


def _printed(row: Mapping, columns: Mapping) -> str:
    unit = "points" if row["kind"] == "gain" else "%"
    mean = "a value that is lost" if row["mean"] is None else f"{row['mean']:.2f}"
    std = "" if row["std"] is None else f" ± {row['std']:.2f}"
    notes = [row["note"]] if row["note"] else []
    if row["teacher_epoch"] is not None and columns["teacher_epoch"] not in (None, row["teacher_epoch"]):
        notes.append(f"teacher of epoch {row['teacher_epoch']:g} instead of {columns['teacher_epoch']}")
    kind = "gain " if row["kind"] == "gain" else ""
    return f"{kind}{mean}{std} {unit}, Table {row['table']}" + (f" ({'; '.join(notes)})" if notes else "")


def mean_text(number: Mapping) -> str:
    """Return mean and population standard deviation in percent; that of one seed has no spread."""
    return f"{number['mean']:.2f}" + (f" ± {number['std']:.2f}" if len(number["seeds"]) > 1 else "") + " %"


def _columns(columns: Mapping) -> Iterator[str]:
    sections: dict[str, list[str]] = {}
    for column in (column for column in COLUMNS if column.section and columns[column.name] is not None):
        value, values = columns[column.name], sections.setdefault(column.section, [])
        text = f"{value:g}" if isinstance(value, float) else str(value)
        if column.name.startswith("paper_"):
            # Only where the scale has another one in its place.
            other = columns[column.name.removeprefix("paper_")]
            values += [] if value == other else [f"in place of {text}"]
        elif column.names == "network" or (column.stored is str and column.role != TRAINING):
            values.insert(0, text)
        else:
            values.append(f"{column.printed} {text}")
    yield from (f"  {section:<15} {', '.join(values)}" for section, values in sections.items() if values)


def _files(files: Iterable[Mapping]) -> Iterator[str]:
    files = list(files)
    experts = [file for file in files if file["kind"] == EXPERTS.name]
    for file in files:
        if file["kind"] != EXPERTS.name:
            yield from ("", *_file(file))
        elif file is experts[0]:
            yield from ("", *(_experts(experts) if len(experts) > 1 else _file(file)))


def _file(file: Mapping) -> Iterator[str]:
    name = KINDS[file["kind"]].one if file["kind"] in KINDS else file["kind"]
    yield f"  {name:<14} {file['path']}"
    if file["state"] == "current" and "id" not in file:
        yield from _inside("no longer there, but all that was made from it is current")
        return
    for text in _states(file["reasons"]):
        yield from _inside(text)
    if "id" not in file:
        return
    seconds = "" if file["wall_seconds"] is None else f"{file['wall_seconds']:g} s on "
    yield from _inside(f"{file['id']}, code {file['code_id']}, {seconds}{file['device']}, written {file['written']}")
    yield from _inside("with " + ", ".join(f"{name} {version}" for name, version in file["versions"].items()))
    inputs = [entry for entry in file["inputs"] if not entry["role"].startswith("expert ")]
    experts = [entry for entry in file["inputs"] if entry["role"].startswith("expert ")]
    texts = [f"{entry['role']} {entry['id']} ({_fits([entry['fits']])})" for entry in inputs]
    texts += [f"{len(experts)} experts ({_fits([entry['fits'] for entry in experts])})"] if experts else []
    if texts:
        yield from _inside("from " + ", ".join(texts))


def _experts(files: list[Mapping]) -> Iterator[str]:
    folder = files[0]["path"].rpartition("/")[0]
    yield f"  experts        {len(files)} trajectories in {folder}/"
    gone = sum(file["state"] == "current" and "id" not in file for file in files)
    if gone:
        yield from _inside(f"{gone} of {len(files)}: no longer there, but all that was made from them is current")
    alike = Counter(text for file in files if "id" in file or file["reasons"] for text in _states(file["reasons"]))
    for text, count in alike.items():
        yield from _inside(f"{count} of {len(files)}: {text}" if count < len(files) else text)
    made = [file for file in files if "id" in file]
    if made:
        yield from _inside("ids " + ", ".join(file["id"] for file in made))
        seconds = sum(file["wall_seconds"] or 0 for file in made)
        yield from _inside(f"{seconds:g} s in all, on {', '.join(sorted({str(file['device']) for file in made}))}")


def _states(reasons: Sequence[Mapping]) -> list[str]:
    if reasons and reasons[0]["cause"] == "missing":
        return [_state(**reasons[0])]
    return [_state(**reason) for reason in reasons] or ["current"]


def _state(cause: str, details: Sequence[str]) -> str:
    # Of a hundred experts that are others, the first tell enough.
    shown = [*details[:8], f"and {len(details) - 8} more"] if len(details) > 8 else details
    return CAUSE_TEXTS[cause] + (f": {', '.join(shown)}" if shown else "")


def _fits(fits: Sequence[bool | None]) -> str:
    if False in fits:
        return "another state lies there now"
    return "no longer there" if None in fits else "as it lies there"


def _inside(text: str) -> list[str]:
    return wrapped(text, 19, " " * 17)


def _recipes(recipes: Mapping[str, list[Mapping]]) -> Iterator[str]:
    for what, lines in recipes.items():
        if not lines:
            continue
        yield from ("", f"Recipe of the {what}: config/recipes/{lines[0]['recipe']}.yaml")
        keys = max(len(line["key"]) for line in lines)
        values = max(len(_value(line["value"])) for line in lines)
        for line in lines:
            mark, key, value = MARKS[line["changed by"]], line["key"].ljust(keys), _value(line["value"]).ljust(values)
            head = f"{mark} {key}  {value}  "
            # Long values push the source to lines of its own.
            yield from wrapped(f"{line['source']}: {line['where']}", len(head) if len(head) <= 60 else 6, head)
    if any(line["changed by"] for lines in recipes.values() for line in lines):
        yield from ("", "* changed by the scale, + by the table or figure")


def _value(value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)

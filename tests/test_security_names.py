"""Names from the configuration, the environment and data never reach a shell or lead out of the results."""

import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import PROJECT
from PIL import Image

from elf.cli import COMMANDS
from elf.errors import ElfError
from elf.study.config_reading import load_settings

pytest_plugins = ("workflow_copy",)

SCALE_FILE = "config/scales/tiny.yaml"

HOSTILE = {
    "a command": "; touch pwned",
    "a command in brackets": "$(touch pwned)",
    "a command in backticks": "`touch pwned`",
    "a quote": "it's",
    "quotes": '"; touch pwned; "',
    "a space": "a b",
    "a line break": "a\ntouch pwned\n",
    "an option": "-rf",
    "another folder": "../../evil",
    "the root": "/evil",
    "the folder above": "..",
    "this folder": ".",
    "a wildcard of Snakemake": "{dataset}",
    "a wildcard of the shell": "*",
    "a variable": "$HOME",
    "letters that are no ASCII": "ünï",
    "nothing": "",
    "a control character": "a\x1b[2J",
    "too much": "a" * 300,
}
LINKING = "may lead anywhere"
NAMING = "because it becomes part of paths"


@pytest.fixture
def config(tmp_path) -> Path:
    from workflow_copy import TINY

    shutil.copytree(PROJECT / "config", tmp_path / "config")
    (tmp_path / SCALE_FILE).write_text(TINY, encoding="utf-8")
    return tmp_path / "config"


def edit(file: Path, change) -> None:
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    change(content)
    # A JSON text is a YAML text, too, whatever is in it.
    file.write_text(json.dumps(content), encoding="utf-8")


def scale(config: Path, name: str) -> str:
    return name


def scale_file(config: Path, name: str) -> str:
    shutil.copy(config / "scales/tiny.yaml", config / "scales" / f"{name}.yaml")
    return name


def dataset(config: Path, name: str) -> str:
    edit(config / "datasets.yaml", lambda content: content.update({name: content["digits"]}))
    edit(config / "scales/tiny.yaml", lambda content: content["stand_ins"].update(cifar10=name))
    return "tiny"


def location(config: Path, name: str) -> str:
    edit(config / "datasets.yaml", lambda content: content["digits"].update(source="folder", location=name))
    return "tiny"


def location_of_the_scale(config: Path, name: str) -> str:
    edit(config / "scales/tiny.yaml", lambda content: content["datasets"]["digits"].update(location=name))
    return "tiny"


def method(config: Path, name: str) -> str:
    scale_file(config, name)
    (config / "scales" / f"{name}.yaml").unlink()
    edit(config / "recipes/dm.yaml", lambda content: content.update(module="dm"))
    shutil.copy(config / "recipes/dm.yaml", config / "recipes" / f"{name}.yaml")
    edit(config / "scales/tiny.yaml", lambda content: content.update(methods=[name]))
    return "tiny"


def module(config: Path, name: str) -> str:
    edit(config / "recipes/dm.yaml", lambda content: content.update(module=name))
    return "tiny"


def value_in_the_name_of_a_set(config: Path, name: str) -> str:
    entry = {"value": name, "unmarked": "ours", "source": "own choice", "where": "here"}
    edit(config / "recipes/dm.yaml", lambda content: content["values"].update(flavour=entry))
    return "tiny"


def value_of_a_variant(config: Path, name: str) -> str:
    entry = {"value": "ours", "unmarked": "ours", "source": "own choice", "where": "here"}
    variant = {"when": {"ipc": [10]}, "values": {"flavour": entry | {"value": name}}}

    def change(content: dict) -> None:
        content["values"]["flavour"] = entry
        content["variants"] = [variant]

    edit(config / "recipes/dm.yaml", change)
    return "tiny"


def name_of_a_value(config: Path, name: str) -> str:
    entry = {"value": 2, "unmarked": 1, "source": "own choice", "where": "here"}
    edit(config / "recipes/dm.yaml", lambda content: content["values"].update({name: entry}))
    return "tiny"


def experiment(config: Path, name: str) -> str:
    scale_file(config, name)
    (config / "scales" / f"{name}.yaml").unlink()
    shutil.copy(config / "experiments/table05.yaml", config / "experiments" / f"{name}.yaml")
    edit(config / "scales/tiny.yaml", lambda content: content.update(experiments=[name]))
    return "tiny"


PLACES = {
    "scale": (scale, "scale: there is no"),
    "name of the file of a scale": (scale_file, NAMING),
    "dataset": (dataset, NAMING),
    "location": (location, LINKING),
    "location in a scale": (location_of_the_scale, LINKING),
    "method": (method, NAMING),
    "module of a method": (module, "allowed is a module of elf/distillation"),
    "value in the name of a set": (value_in_the_name_of_a_set, NAMING),
    "value of a variant": (value_of_a_variant, NAMING),
    "name of a value": (name_of_a_value, NAMING),
    "experiment": (experiment, NAMING),
}
# Folders below the data folder may be called what one likes: they are quoted, and no file is written there.
OUTSIDE = ("another folder", "the root", "the folder above", "a line break", "a control character")


# No file can be called that.
NO_FILES = ("another folder", "the root", "the folder above", "nothing", "too much")
FILES = ("name of the file of a scale", "method", "experiment")
CASES = [(place, what) for place in PLACES for what in HOSTILE if place not in FILES or what not in NO_FILES]


@pytest.mark.parametrize(("place", "what"), CASES)
def test_names_that_cannot_be_part_of_a_path_are_refused_with_one_line(place, what, config):
    put, reason = PLACES[place]
    name = put(config, HOSTILE[what])
    if reason == LINKING and what not in OUTSIDE:
        load_settings(config, name)
        return
    with pytest.raises(ElfError) as raised:
        load_settings(config, name)
    message = str(raised.value)
    assert re.search(reason, message) and "\n" not in message and "\x1b" not in message, message


def test_every_name_that_the_project_uses_is_allowed(config):
    for file in (config / "scales").iterdir():
        load_settings(config, file.stem)


@pytest.mark.parametrize(
    "file", ["/evil/set.safetensors", "-rf", "imported/a\nb.safetensors", "imported/{dataset}.safetensors"]
)
def test_imported_files_of_other_folders_are_refused(file, config):
    values = {"file": file, "id": "0123"}
    entries = {key: {"value": value, "source": "third party", "where": "here"} for key, value in values.items()}
    recipe = {"description": "theirs", "module": "imported", "uses_network": False, "values": entries}
    (config / "recipes/theirs.yaml").write_text(json.dumps(recipe))
    with pytest.raises(ElfError, match=r"theirs\.yaml: values\.file\.value: found .*allowed is a path from where"):
        load_settings(config, "tiny")


# --- through Snakemake --------------------------------------------------------------------------------------------


def written(workflow) -> set[str]:
    """Return what lies in and around the copy, besides the project's own files and what runs may write."""
    own = ("results", "logs", "timings", ".snakemake", "__pycache__")
    files = (file.relative_to(workflow.folder.parent) for file in workflow.folder.parent.rglob("*") if file.is_file())
    return {str(file) for file in files if not set(own).intersection(file.parts)}


@pytest.mark.parametrize("name", ["../scales/tiny", "; touch pwned", "$(touch pwned)"])
def test_a_scale_that_is_none_stops_the_workflow_with_one_line(fresh, name):
    before = written(fresh)
    ended = fresh.run(scale=name)
    assert ended.status != 0
    lines = [line for line in ended.output.splitlines() if "configuration error" in line]
    assert len(lines) == 1 and "scale: there is no" in lines[0] and "Traceback" not in ended.output
    assert written(fresh) == before and not (fresh.folder / "results").exists()


FOLDER = 'a b;$(touch pwned) `touch pwned` it\'s "x" {dataset} *?[x]\\ ünï & touch pwned'


def test_every_command_of_the_workflow_is_words_and_nothing_else(fresh):
    """All jobs are planned with hostile names wherever one may stand, and their commands taken apart like a shell."""
    data = f"-data {FOLDER}\ntouch pwned"
    edit(fresh.folder / "config/datasets.yaml", lambda c: c["digits"].update(source="folder", location=FOLDER))
    fresh.edit(SCALE_FILE, "description: tiny scale of the tests", f"description: {json.dumps(FOLDER)}")
    edit(fresh.folder / "config/experiments/table05.yaml", lambda c: c.update(title=FOLDER))
    for split in ("train", "val"):
        (fresh.folder / data / FOLDER / split).mkdir(parents=True)
    ended = fresh.run("--dry-run", "--printshellcmds", "--forceall", ELF_DATA_DIR=data)
    assert ended.status == 0, ended.output
    commands = re.findall(r"^Shell command: \n(.*?)\n *\n", ended.output, flags=re.DOTALL | re.MULTILINE)
    # One for each job; those that collect targets have none.
    assert len(commands) == len(ended.jobs) > 60
    for command in commands:
        lexer = shlex.shlex(command.strip(), posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = list(lexer)
        operators = {word for word in words if word and set(word) <= set("();<>|&")}
        assert operators <= {">", ">>", ">&"}, command
        for start in (place for place, word in enumerate(words) if word == "python"):
            assert words[start + 1 : start + 3] == ["-m", "elf"] and words[start + 3] in COMMANDS
        if words[3] == "prepare-dataset":
            assert (
                f"--data-folder={data}" in words
                and json.loads(words[words.index("--settings") + 1])["location"] == FOLDER
            )
    assert not list(fresh.folder.parent.rglob("pwned"))


def test_hostile_names_in_data_are_data(fresh):
    """Really run: classes, their folder, the data folder and an imported file have names that are commands."""
    classes = (
        "$(touch pwned)",
        "; touch pwned #",
        "<script>alert(1)",
        "-rf",
        'it\'s "x"',
        "{dataset}",
        "ünï",
    )
    data = fresh.folder / "images" / "of $(touch pwned)"
    random = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 2)):
        for name in classes:
            folder = data / FOLDER / split / name
            folder.mkdir(parents=True)
            for place in range(count):
                pixels = random.integers(0, 255, (32, 32, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"-{place} $(touch pwned).png")
    edit(fresh.folder / "config/datasets.yaml", lambda c: c["digits"].update(source="folder", location=FOLDER))
    fresh.edit(SCALE_FILE, "digits: {train_per_class: 12, test_per_class: 10}", "digits: {test_per_class: 2}")
    environment = {"ELF_DATA_DIR": str(data)}
    random_set = "synthetic/digits/random-ipc10-seed0"
    ended = fresh.run(f"results/tiny/{random_set}/contact_sheet.png", **environment)
    assert ended.status == 0, ended.output

    imported = "imported/theirs; $(touch pwned) it's `touch pwned`.safetensors"
    told = ["--name", "theirs", "--dataset", "results/tiny/datasets/digits/images.safetensors", "--out", imported]
    elf = [sys.executable, "-m", "elf"]
    ended = fresh.call([*elf, "import", f"results/tiny/{random_set}/images.safetensors", *told], **environment)
    assert ended.status == 0, ended.output
    fresh.edit(SCALE_FILE, "methods: [dm, dsa,", "methods: [theirs, dm, dsa,")
    fresh.edit(SCALE_FILE, "method: [tesla, herding", "method: [theirs, tesla, herding")
    before = written(fresh)
    theirs = "results/tiny/evaluations/digits/theirs-ipc10-seed0/convnet-w2-d3-in/task-lr0.01/seeds0-1.parquet"
    ended = fresh.run(theirs, **environment)
    assert ended.status == 0, ended.output
    exported = ["--dataset", "results/tiny/datasets/digits/images.safetensors", "--folder", "results/exported"]
    ended = fresh.call([*elf, "export", f"results/tiny/{random_set}/images.safetensors", *exported], **environment)
    assert ended.status == 0, ended.output
    ended = fresh.call([*elf, "report", "--partial", "--scale", "tiny"], **environment)
    assert ended.status == 0, ended.output

    assert not list(fresh.folder.parent.rglob("pwned"))
    assert written(fresh) == before
    card = json.loads((fresh.results / "datasets/digits/card.json").read_text(encoding="utf-8"))
    assert card["class_names"] == sorted(classes)
    pages = "".join(file.read_text(encoding="utf-8") for file in (fresh.results / "partial-report").rglob("*.html"))
    assert "&lt;script&gt;alert(1)" in pages and "<script>alert(1)" not in pages

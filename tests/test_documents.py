"""What the documents say exists: files, commands, targets, keys, and nothing of one machine."""

import json
import re
import subprocess

import jsonschema
import pytest
import yaml
from conftest import PROJECT

from elf.artifacts.fingerprint import reached
from elf.cli import COMMANDS
from elf.errors import ElfError
from elf.stages import reference

DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "docs/adding.md",
    "docs/architecture.md",
    "docs/configuration.md",
    "docs/experts.md",
    "docs/importing.md",
    "docs/open_points.md",
    "docs/planning.md",
    "docs/cluster.md",
    "docs/scaling.md",
    "docs/security.md",
    "config/README.md",
]
# What only a run makes, or a user brings along.
MADE_LATER = {
    "timings",
    ".snakemake",
    ".venv",
    "results",
    "logs",
    "data",
    "imagenet-1k",
    # below the results folder
    "datasets",
    "experts",
    "synthetic",
    "teachers",
    "features",
    "evaluations",
    "collected",
    "last-finite-images.safetensors",
    "tables",
    "figures",
    "results.parquet",
    "report",
    "partial-report",
    "verdicts",
    "claims.md",
    "audit.md",
    "index.html",
    "card.json",
    "contact_sheet.png",
    # what 'elf import' and 'elf export' make
    "imported",
    "png",
    # below the data folder
    "cifar10",
    "cifar100",
    "train-*.parquet",
    "test-*.parquet",
    "cifar-10-batches-py",
    "cifar-100-python",
    "tiny-imagenet-200",
    "train",
    "val",
}
FILE = re.compile(r"[\w.<>*/-]*\w[\w.<>*-]*(/|\.(py|smk|md|yaml|json|toml|cff|lock|parquet|html|png))")
FENCED = re.compile(r"^```.*?\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")


def read(document):
    return (PROJECT / document).read_text(encoding="utf-8")


def code_spans(document):
    return re.findall(r"`([^`]+)`", FENCED.sub("", read(document)))


def code(document):
    """Everything that is set as code, in blocks or within a line."""
    return [*FENCED.findall(read(document)), *code_spans(document)]


def rules_of_the_workflow():
    written = re.findall(r"^rule (\w+):", "".join(read(p) for p in ["Snakefile", *rule_files()]), re.MULTILINE)
    return {*written, *experiments()}


def experiments():
    """Tables and figures: each is a target of its own."""
    return {file.stem for file in (PROJECT / "config" / "experiments").glob("*.yaml")}


def rule_files():
    return [f"rules/{file.name}" for file in (PROJECT / "rules").glob("*.smk")]


def tracked_texts(run):
    """Yield path and text of every file that the repository holds."""
    try:
        listed = run("git", "ls-files", "-z", check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git repository: nobody can say which files belong to the project")
    for name in filter(None, listed.stdout.split("\0")):
        file = PROJECT / name
        content = file.read_bytes() if file.is_file() else b""
        if b"\0" not in content:
            yield name, content.decode("utf-8")


@pytest.mark.parametrize("path", sorted(reference.reference()))
def test_generated_files_have_not_drifted(path):
    assert read(path) == reference.reference()[path], f"{path}: run 'elf reference'"


def test_reference_names_what_has_drifted(tmp_path):
    with pytest.raises(ElfError, match=r"docs/configuration\.md"):
        reference.main(["--folder", str(tmp_path), "--check"])
    reference.main(["--folder", str(tmp_path)])
    reference.main(["--folder", str(tmp_path), "--check"])
    scale = tmp_path / "config" / "schema" / "scale.json"
    scale.write_text(scale.read_text().replace("Multiplies", "Divides"))
    with pytest.raises(ElfError, match=r"scale\.json") as raised:
        reference.main(["--folder", str(tmp_path), "--check"])
    assert "configuration.md" not in str(raised.value)
    reference.main(["--folder", str(tmp_path)])
    assert "Divides" not in scale.read_text()


def configuration_files():
    return [
        pytest.param(kind.schema, file, id=file.relative_to(PROJECT).as_posix())
        for kind in reference.FILES
        for file in sorted(PROJECT.glob(kind.path))
    ]


def check_against_schema(schema, content):
    validator = jsonschema.Draft202012Validator(json.loads(read(f"config/schema/{schema}.json")))
    validator.check_schema(validator.schema)
    validator.validate(content)


@pytest.mark.parametrize(("schema", "file"), configuration_files())
def test_schemas_accept_the_configuration_and_refuse_an_unknown_key(schema, file):
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    check_against_schema(schema, content)
    with pytest.raises(jsonschema.ValidationError):
        check_against_schema(schema, content | {"sceds": 5})


def test_every_configuration_file_has_a_schema():
    described = {parameter.values[1] for parameter in configuration_files()}
    assert described == set((PROJECT / "config").rglob("*.yaml"))


def test_page_lists_every_environment_variable():
    files = [*(PROJECT / "elf").rglob("*.py"), PROJECT / "tests" / "conftest.py"]
    texts = "".join(file.read_text(encoding="utf-8") for file in files)
    read_somewhere = set(re.findall(r"environ(?:\.get)?[(\[]\s*\"(ELF_\w+)\"", texts))
    assert "ELF_DATA_DIR" in read_somewhere
    assert set(re.findall(r"^\| `(ELF_\w+)` ", read(reference.PAGE), re.MULTILINE)) == read_somewhere


def test_page_describes_every_key():
    page = read(reference.PAGE)
    for kind in reference.FILES:
        schema = json.loads(read(f"config/schema/{kind.schema}.json"))
        for part in [schema, *schema.get("$defs", {}).values()]:
            for key, entry in part.get("properties", {}).items():
                assert f"| `{key}` |" in page
                assert entry["description"] in page.replace("`", "")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_named_exist(document):
    named = [span for span in code_spans(document) if FILE.fullmatch(span)]
    own = [span for span in named if span.split("/")[0] not in MADE_LATER]
    assert own
    for name in own:
        pattern = re.sub(r"<\w+>|NAME", "*", name.rstrip("/"))
        folders = (PROJECT, (PROJECT / document).parent)
        assert any(list(folder.glob(pattern)) for folder in folders), f"{document} names {name}"


@pytest.mark.parametrize("document", [*DOCUMENTS, "CHANGELOG.md"])
def test_links_lead_somewhere(document):
    for text, target in LINK.findall(FENCED.sub("", read(document))):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (PROJECT / document).parent / path if path else PROJECT / document
        assert file.exists(), f"{document}: [{text}]({target})"
        if re.fullmatch(r"L\d+", anchor):
            line = file.read_text(encoding="utf-8").splitlines()[int(anchor[1:]) - 1]
            assert text in line, f"{document}: [{text}] is not on that line of {path}"
        elif anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_named_exist(document):
    named = {name for text in code(document) for name in re.findall(r"(?<![\w./-])elf ([a-z][a-z-]+)", text)}
    named |= {name for text in code(document) for name in re.findall(r"\.venv/bin/elf ([a-z-]+)", text)}
    assert named <= COMMANDS.keys()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_make_targets_named_exist(document):
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    assert {name for text in code(document) for name in re.findall(r"\bmake ([a-z-]+)", text)} <= targets


def test_readme_names_both_commands_and_what_catalogs_look_for():
    blocks = "".join(FENCED.findall(read("README.md")))
    assert "make demo\n" in blocks and "make test\n" in blocks
    assert "snakemake" in read("README.md") and "workflow" in read("README.md")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_targets_named_are_rules(document):
    named = {span for span in code_spans(document) if re.fullmatch(r"all_\w+|(table|figure)\d+", span)}
    assert named <= rules_of_the_workflow()


def test_table_of_artifacts_is_complete():
    rows = [line for line in read("docs/architecture.md").splitlines() if line.count("|") == 7][2:]
    columns = list(zip(*(row.strip("|").split("|") for row in rows), strict=True))
    rules, commands = ([cell.strip().strip("`") for cell in columns[place]] for place in (4, 5))
    targets = {"all", "all_tables", "all_figures", "verdicts", "report", *experiments()}
    assert set(rules) == {rule for rule in rules_of_the_workflow() if rule not in targets}
    bodies = dict(re.findall(r"^rule (\w+):\n((?:[ \n].*\n|\n)*)", "".join(map(read, rule_files())), re.MULTILINE))
    for rule, command in zip(rules, commands, strict=True):
        assert f"python -m {command} " in bodies[rule]
    classes = "".join(file.read_text(encoding="utf-8") for file in (PROJECT / "elf" / "specs").glob("*.py"))
    for name in re.findall(r"`(\w+Spec)`", "".join(columns[1])):
        assert f"class {name}(" in classes


@pytest.mark.parametrize("document", DOCUMENTS)
def test_names_are_in_the_files_said_to_hold_them(document):
    text = read(document)
    for name, path in re.findall(r"`([\w.]+)`\s+(?:of|in)\s+`(elf/[^`]+\.py)`", text):
        files = list(PROJECT.glob(re.sub(r"<\w+>", "*", path)))
        found = any(re.search(rf"\b{name.rpartition('.')[2]}\b", file.read_text(encoding="utf-8")) for file in files)
        assert found, f"{document}: {path} holds no {name}"


def test_rooms_are_all_there_and_all_named():
    block = next(text for text in FENCED.findall(read("docs/architecture.md")) if text.startswith("Snakefile"))
    named = set()
    # What is said of a room may take more than a line.
    for line in filter(None, map(str.rstrip, block.splitlines())):
        if line.startswith("   "):
            continue
        name = line.split()[0]
        named.add(f"elf/{name}" if line.startswith("  ") else name)
    for name in named:
        path = PROJECT / name
        assert path.is_dir() if name.endswith("/") else path.is_file(), name
    modules = {f"elf/{file.name}" for file in (PROJECT / "elf").glob("*.py") if not file.name.startswith("__")}
    packages = {f"elf/{file.parent.name}/" for file in (PROJECT / "elf").glob("*/__init__.py")}
    assert modules | packages <= named


def test_planning_and_drawing_are_free_of_pytorch(run_python):
    imported = re.findall(r"^from (elf[\w.]*) import (\w+)", read("rules/common.smk"), re.MULTILINE)
    results = [f"elf.results.{file.stem}" for file in (PROJECT / "elf" / "results").glob("[a-z]*.py")]
    modules = [module if module != "elf.stages" else f"{module}.{name}" for module, name in imported]
    assert "elf.study.images" in modules
    program = f"import sys, {', '.join([*modules, *results])}; sys.exit('torch' in sys.modules)"
    run_python("-c", program, check=True)


@pytest.mark.parametrize("library", ["networks", "data", "objectives", "distillation", "training"])
def test_library_knows_nothing_of_the_pipeline(library):
    path = PROJECT / "elf" / library
    files = path.rglob("[a-z]*.py") if path.is_dir() else [path.with_suffix(".py")]
    modules = [".".join(file.relative_to(PROJECT).with_suffix("").parts) for file in files]
    loaded = reached(*modules).loaded
    assert set(modules) <= loaded.keys()
    pipeline = (
        "elf.stages",
        "elf.artifacts",
        "elf.study.grid",
        "elf.study.config",
        "elf.study.config_reading",
        "elf.results",
        "elf.cli",
    )
    assert [module for module in loaded if module.startswith(pipeline)] == []


def test_version_is_the_same_everywhere():
    version = re.search(r'^version = "(.+)"', read("pyproject.toml"), re.MULTILINE)[1]
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["version"] == version
    assert version in read("CHANGELOG.md")
    assert citation["references"][0]["title"] in " ".join(read("README.md").split())


# Written so that this file is not found itself: an escaped or bracketed character stands in each.
MACHINE_PATH = re.compile(r"(?<![\w.*}>-])/(?:home|root|Users|work|mnt)/\w")
REGISTRY = re.compile(
    r"pypi\.|python[h]osted|anaconda\.org|pytorch\.org/whl|index[-]url|//(?!127\.)\d+\.\d+\.\d+\.\d+", re.IGNORECASE
)


def test_no_file_names_a_machine_or_a_package_server(run):
    found = [
        f"{name}:{number}: {line.strip()[:100]}"
        for name, text in tracked_texts(run)
        for number, line in enumerate(text.splitlines(), start=1)
        if MACHINE_PATH.search(line) or REGISTRY.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("root", ["home", "root", "Users", "work", "mnt"])
def test_machine_paths_are_recognised(root):
    assert MACHINE_PATH.search(f"see '/{root}/someone/data'")
    assert not MACHINE_PATH.search(f"results/{root}/x and <results>/{root}/x")


@pytest.mark.parametrize("host", [("py", "pi"), ("files.python", "hosted"), ("ana", "conda")])
def test_package_servers_are_recognised(host):
    assert REGISTRY.search(f"https://{''.join(host)}.org/simple")
    assert REGISTRY.search(f"http://{'.'.join('1234')}:8080/simple")
    assert not REGISTRY.search("http://127.0.0.1:8080")

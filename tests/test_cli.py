"""The command line: help everywhere, exit codes, and errors of users as one line."""

import importlib
import os
import re
import types
from pathlib import Path

import pytest
from conftest import PROJECT

from elf import cli
from elf.cli import COMMANDS, main
from elf.errors import ElfError


@pytest.mark.parametrize("asked", ["--help", "-h", "help"])
def test_help_lists_every_command(asked, capsys):
    assert main([asked]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "usage: elf COMMAND [options]"
    described = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines if line.startswith("  ")}
    assert set(described) == set(COMMANDS)
    assert all(len(text.split()) > 2 for text in described.values())


def test_nothing_asked_is_answered_with_help_and_an_error(capsys):
    assert main([]) == 2
    assert "usage: elf COMMAND" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: elf {command} ")
    # What the command does, and what each option and argument is.
    assert len(text.split("\n\n")[1].split()) > 4
    explained = text[re.search("^(positional arguments|options):$", text, re.MULTILINE).start() :]
    entries = re.split(r"\n  (?=\S)", explained.replace("\n\noptions:", ""))[1:]
    assert entries
    for entry in entries:
        assert re.fullmatch(r"\S.*?(  +|\n {10,})\S[^$]+", entry), f"{entry!r} is not explained"


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_option_is_named(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--colour", "red"])
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"usage: elf {command} ")
    assert lines[-1].startswith(f"elf {command}: error: ")


def test_an_unknown_command_is_answered_with_those_there_are(capsys):
    assert main(["destill", "--help"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"elf: there is no command 'destill'; allowed: {', '.join(COMMANDS)}"


@pytest.fixture
def stage(monkeypatch):
    """Return a function that puts another one in the place of a command."""

    def replace(function):
        module = types.ModuleType("stage")
        module.main = function
        monkeypatch.setattr(cli.importlib, "import_module", lambda _: module)

    return replace


def test_an_error_of_the_user_is_one_line(stage, capsys):
    def main_of_stage(argv):
        assert argv == ["a", "--b"]
        raise ElfError("results/a.parquet: a library said\n\n  a lot;\tdelete it")

    stage(main_of_stage)
    assert main(["show", "a", "--b"]) == 1
    assert capsys.readouterr().err == "elf show: error: results/a.parquet: a library said a lot; delete it\n"


def test_a_defect_keeps_its_traceback(stage):
    def main_of_stage(argv):
        raise KeyError("a defect")

    stage(main_of_stage)
    with pytest.raises(KeyError, match="a defect"):
        main(["show"])


def test_an_interrupted_command_says_how_to_continue(stage, capsys):
    def main_of_stage(argv):
        raise KeyboardInterrupt

    stage(main_of_stage)
    assert main(["evaluate"]) == 130
    assert capsys.readouterr().err == (
        "elf evaluate: interrupted; the same command continues from its last checkpoint\n"
    )


def test_success_is_zero(stage):
    stage(lambda argv: None)
    assert main(["show"]) == 0


def test_every_command_is_a_function_of_its_module():
    for module, function, _ in COMMANDS.values():
        assert callable(getattr(importlib.import_module(module), function))


def test_the_process_ends_with_the_exit_code_and_without_a_traceback(run_python, tmp_path):
    absent = run_python("-m", "elf", "show", tmp_path / "absent.parquet")
    assert (absent.returncode, absent.stdout) == (1, "")
    assert absent.stderr == (
        f"elf show: error: {tmp_path}/absent.parquet: there is no such file; "
        f"make it with 'snakemake {tmp_path}/absent.parquet'\n"
    )
    assert run_python("-m", "elf", "help").returncode == 0
    assert run_python("-m", "elf", "destill").returncode == 2


def test_a_mistake_in_the_configuration_ends_every_command_that_reads_it(run_python, tmp_path):
    (tmp_path / "config.yaml").write_text("scale: smoke\nscael: smoke\n")
    for command in (["settings"], ["summary"], ["table", "table05", "--folder", "b"]):
        done = run_python("-m", "elf", command[0], "--config", tmp_path, *command[1:])
        assert done.returncode == 1
        assert (
            done.stderr
            == f"elf {command[0]}: error: {tmp_path}/config.yaml: scael: unknown key; allowed: plugins, scale\n"
        )


def test_a_reader_that_goes_away_is_no_defect(run_python):
    """As with 'elf settings | head -1'."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = run_python("-m", "elf", "settings", "--scale", "paper", stdout=write_end)
    os.close(write_end)
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 1)


def test_help_does_not_wait_for_pytorch(run_python):
    code = "import sys; from elf.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    assert run_python("-c", code).returncode == 0


@pytest.mark.parametrize("scale", sorted(path.stem for path in Path(PROJECT, "config", "scales").glob("*.yaml")))
def test_settings_list_what_a_shipped_scale_needs(scale, capsys):
    assert main(["settings", "--config", str(PROJECT / "config"), "--scale", scale]) == 0
    paths = capsys.readouterr().out.splitlines()
    kinds = {"datasets", "experts", "synthetic", "teachers", "features", "evaluations"}
    # Only methods that match trajectories have experts; what the pieces of a batch do is seen without a teacher.
    unused = {"published-one-piece": {"teachers", "features"}}
    assert {path.split("/")[0] for path in paths} | {"experts"} == kinds - unused.get(scale, set())

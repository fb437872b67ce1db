"""The commands of a workflow's jobs, to be called in the process of a test."""

import re
import shlex
from contextlib import chdir, contextmanager
from pathlib import Path

from elf.cli import main


def commands_of(workflow, *targets: str) -> dict[str, list[list[str]]]:
    """Return for the first output of each job, below the results of the tiny scale, what the job calls."""
    ended = workflow.run(*targets, "--dry-run", "--printshellcmds", "--forceall")
    assert ended.status == 0, ended.output
    jobs = re.findall(
        r"^(?:local)?rule (?:.*\n)*?    output: ([^,\n]+)(?:.*\n)*?Shell command: \n((?:.*\n)*?) *\n",
        ended.output,
        re.MULTILINE,
    )
    found = {}
    for output, text in jobs:
        lines = text.replace("\\\n", " ").strip().splitlines()
        found[output.removeprefix("results/tiny/")] = [_words(line) for line in lines]
    return found


@contextmanager
def commands_in(copy):
    """Give a finished copy, with its folder as the current one, and the commands of its jobs."""
    with chdir(copy.folder):
        yield copy, commands_of(copy)


def _words(line: str) -> list[str]:
    words = shlex.split(line)
    assert words[:3] == ["python", "-m", "elf"], line
    end = next(place for place, word in enumerate(words) if word.startswith(">"))
    return words[3:end]


def with_file(command: list[str], option: str, file: Path) -> list[str]:
    """Return a command with another file behind an option."""
    place = command.index(option) + 1
    return [*command[:place], str(file), *command[place + 1 :]]


def failing(command: list[str], capsys) -> str:
    """Return the one line that a command ends with; anything but an error of the user is a defect."""
    capsys.readouterr()
    assert main(list(map(str, command))) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("elf ")]
    return line


def succeeding(command: list[str], capsys) -> str:
    """Return what a command printed."""
    capsys.readouterr()
    status = main(list(map(str, command)))
    printed = capsys.readouterr()
    assert status == 0, printed.err
    return printed.out

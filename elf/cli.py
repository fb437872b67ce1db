"""The command line: one sub-command for each stage, imported only when it is called."""

import importlib
import os
import sys

from elf.errors import ElfError

# Sub-command: module, function, what it does.
COMMANDS = {
    "prepare-dataset": ("elf.stages.prepare_dataset", "main", "read real images into one verified file"),
    "distill": ("elf.stages.distill", "main", "make a synthetic set"),
    "train-expert": ("elf.stages.train_expert", "main", "train an expert whose trajectory mtt and tesla match"),
    "train-teacher": ("elf.stages.train_teacher", "main", "train a network on the full real data"),
    "keep-checkpoint": ("elf.stages.train_teacher", "main_keep", "keep the parameters at one epoch"),
    "extract-features": ("elf.stages.extract_features", "main", "extract a teacher's features of a synthetic set"),
    "evaluate": ("elf.stages.evaluate", "main", "train on a synthetic set, test on real images"),
    "import": ("elf.stages.import_files", "main", "take in what other people's code left behind"),
    "published": ("elf.stages.published", "main", "name, import and evaluate sets that others published"),
    "export": ("elf.stages.export", "main", "write a synthetic set in the layouts that other code reads"),
    "contact-sheet": ("elf.stages.contact_sheet", "main", "draw the images of a synthetic set"),
    "collect": ("elf.stages.collect", "main", "collect all evaluations into results.parquet"),
    "table": ("elf.stages.table", "main", "draw a table from results"),
    "figure": ("elf.stages.figure", "main", "draw a figure from results"),
    "report": ("elf.stages.report", "main", "write the report, a folder of pages that opens offline"),
    "summary": ("elf.stages.summary", "main", "say in a few lines what the results show"),
    "verdicts": ("elf.stages.verdicts", "main", "hold the results against what the paper prints and claims"),
    "answers": ("elf.stages.answers", "main", "write printed against measured into the pages that show it"),
    "explain": ("elf.stages.explain", "main", "say what a number of a table or figure is made of"),
    "plan": ("elf.stages.forecast", "main", "say what is left to do, and what it takes"),
    "pack": ("elf.stages.pack", "main", "put the finished files of a scale into a folder"),
    "unpack": ("elf.stages.unpack", "main", "go on with a packed study in another clone"),
    "show": ("elf.stages.show", "main", "show what a file is made of"),
    "settings": ("elf.stages.settings", "main", "print the specification behind a path of the grid"),
    "reference": ("elf.stages.reference", "main", "write the reference of the configuration"),
}


def usage() -> str:
    """Return the help of the command itself."""
    lines = [f"  {name:<17} {text}" for name, (_, _, text) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: elf COMMAND [options]",
            "",
            "Reproduce, test and extend ELF, evaluation with distillation features.",
            "",
            "commands:",
            *lines,
            "",
            "'elf COMMAND --help' shows the options of a command. The workflow calls these commands itself:",
            "'snakemake --profile profiles/local all_tables all_figures' runs whatever is missing or stale.",
        ]
    )


def _look_for_plugins() -> None:
    """Look for plug-ins in the user's folder, too; the workflow tells its jobs where, and that there is none."""
    if os.environ.get("ELF_PLUGINS") != "":
        from elf.specs.plugins import use
        from elf.study.config_reading import plugins_folder
        from elf.study.plan import config_folder

        use(plugins_folder(config_folder()))


def main(argv: list[str] | None = None) -> int:
    """Run one sub-command.

    Returns
    -------
    int
        Exit status: 0, or 1 after an error that the user can solve, which is printed as one line; 2 for a command
        that does not exist, 130 after Ctrl-C.
    """
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if argv else 2
    if argv[0] not in COMMANDS:
        print(f"elf: there is no command {argv[0]!r}; allowed: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    module, function, _ = COMMANDS[argv[0]]
    try:
        _look_for_plugins()
        getattr(importlib.import_module(module), function)(argv[1:])
    except ElfError as error:
        # What a library said may have several lines.
        print(f"elf {argv[0]}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"elf {argv[0]}: interrupted; the same command continues from its last checkpoint", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (a pager, 'head'); Python would complain once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0

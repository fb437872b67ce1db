"""Print the specification behind a path of the grid, as a stage takes it with --settings."""

from elf.errors import ElfError
from elf.study.plan import arguments_of_scale, load_plan


def main(argv: list[str]) -> None:
    """Run the command."""
    parser = arguments_of_scale("settings", __doc__)
    parser.add_argument("path", nargs="?", help="path below the results folder of the scale; without it all are listed")
    arguments = parser.parse_args(argv)
    grid = load_plan(arguments).grid
    known = grid.datasets | grid.experts | grid.synthetic_sets | grid.teachers | grid.features | grid.evaluations
    if arguments.path is None:
        print("\n".join(known))
    elif arguments.path not in known:
        raise ElfError(f"{arguments.path!r} is not part of the grid; 'elf settings' lists all that are")
    else:
        print(known[arguments.path].canonical())

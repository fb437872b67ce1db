"""Pack what a scale has finished into a folder, for another clone or another machine."""

import argparse
from pathlib import Path

from elf.errors import ElfError
from elf.packing.packing import Limits, pack
from elf.study.plan import make_plan

MEGABYTE = 10**6


def main(argv: list[str]) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="elf pack", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="new or empty, or an earlier pack of the scale")
    parser.add_argument("--scale", help="a file of config/scales/ (default: the one of config/config.yaml)")
    parser.add_argument("--running", action="store_true", help="also the states from which unfinished jobs continue")
    parser.add_argument(
        "--largest-checkpoint",
        type=float,
        default=16,
        metavar="MB",
        help="checkpoints of teachers and experts up to this size (default: 16)",
    )
    parser.add_argument(
        "--largest-dataset",
        type=float,
        default=32,
        metavar="MB",
        help="prepared data sets up to this size; others are prepared again where the pack is unpacked (default: 32)",
    )
    arguments = parser.parse_args(argv)
    for option in ("largest_checkpoint", "largest_dataset"):
        if not getattr(arguments, option) >= 0:
            found = getattr(arguments, option)
            raise ElfError(f"--{option.replace('_', '-')}: found {found}, allowed are 0 and more")
    plan = make_plan(Path("config"), arguments.scale, Path("results"))
    limits = Limits(int(arguments.largest_checkpoint * MEGABYTE), int(arguments.largest_dataset * MEGABYTE))
    contents = pack(plan, arguments.folder, limits, running=arguments.running)
    print(
        f"{arguments.folder}: {len(contents.files)} files of the scale {contents.scale}, "
        f"{contents.bytes / MEGABYTE:.1f} MB; 'elf unpack' puts them into another clone"
    )
    for file in contents.left_out:
        print(f"left out, {file.bytes / MEGABYTE:.1f} MB: {file.path}")

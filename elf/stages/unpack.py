"""Put a pack into the results of this clone, so that its workflow makes only what is missing or stale."""

import argparse
from pathlib import Path

from elf.guards.claim import claim
from elf.packing.contents import read_contents
from elf.packing.unpacking import unpack
from elf.stages.prepare_dataset import main as prepare_dataset
from elf.study.plan import Plan, make_plan


def main(argv: list[str]) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="elf unpack", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="written by 'elf pack'")
    parser.add_argument("--force", action="store_true", help="replace files that are here and hold something else")
    arguments = parser.parse_args(argv)
    # Not while the workflow runs: it has made its plan.
    claim(read_contents(arguments.folder).scale, print)
    done = unpack(arguments.folder, _plan, prepare_dataset, print, force=arguments.force)
    print(f"{len(done.written)} files unpacked, {len(done.kept)} were here already")
    if done.withheld:
        print(
            f"{len(done.withheld)} files not unpacked, such as {done.withheld[0]}: they were made from a file that is "
            "not in the pack, and that this configuration, code or data would make otherwise"
        )
    if done.stale:
        print(f"{len(done.stale)} of them have to be made again, such as {done.stale[0]}")
    print(f"'elf plan --scale {done.contents.scale}' says what is to be made")


def _plan(scale: str) -> Plan:
    return make_plan(Path("config"), scale, Path("results"))

"""Show what an artifact is made of: kind, specification, inputs, code, versions and measurements."""

import argparse
import json
from pathlib import Path

from elf.artifacts.manifest import read_manifest


def main(argv: list[str]) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="elf show", description=__doc__)
    parser.add_argument("path", type=Path, help="a .safetensors or .parquet file of the results folder")
    arguments = parser.parse_args(argv)
    print(json.dumps(read_manifest(arguments.path), indent=2, ensure_ascii=False))

"""``python -m elf`` is the command ``elf``."""

import sys

from elf.cli import main

if __name__ == "__main__":
    sys.exit(main())

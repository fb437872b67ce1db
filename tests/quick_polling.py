"""Snakemake that asks SLURM for its jobs every second.

Otherwise it asks ever more rarely while no job ends well, which would be most of the time of a test. Nothing else is
changed, and nothing at all in the Snakemakes that jobs start.
"""

import sys

from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

RemoteExecutor.next_seconds_between_status_checks = property(lambda self: 1, lambda self, seconds: None)

if __name__ == "__main__":
    sys.exit(main())

"""How much of the machine's memory a process has, in bytes."""

import resource
import sys


def peak_resident_bytes() -> int:
    """Return the most that this process has had so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # In kilobytes on Linux, in bytes on macOS.
    return peak if sys.platform == "darwin" else peak * 1024

"""One side of a case in a process of its own, which does some units of work for each line that it is given."""

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path

from elf.memory import peak_resident_bytes

CONVOLUTIONS = ("aten::mkldnn_convolution", "aten::convolution_backward", "aten::_slow_conv2d_forward")


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def start(case: str, side: str, threads: int):
    """Import what the side needs, set the process up as it does, and return its run and the memory before it."""
    import torch

    from benchmarks.cases import CASES

    if side == "ours":
        from elf import device

        device.prepare(threads, torch.device("cpu"))
    else:
        torch.set_num_threads(threads)
    # What the first computation loads for good should not count as memory of the work.
    torch.nn.functional.conv2d(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 3, 3))
    before = resident_bytes()
    chosen = CASES[case]
    return (chosen.ours if side == "ours" else chosen.plain)(chosen.size), before


def profiled(run, units: int) -> dict[str, float]:
    """Return operations counted, and the seconds that convolutions and all operations took on the CPU."""
    from torch.profiler import ProfilerActivity, profile
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        run(units)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        run(units)
    events = {event.key: event.self_cpu_time_total / 1e6 for event in profiler.key_averages()}
    convolutions = sum(events.get(name, 0.0) for name in CONVOLUTIONS)
    by_operation = counter.get_flop_counts()["Global"]
    flops = sum(count for operation, count in by_operation.items() if "convolution" in str(operation))
    return {"convolution_flops": flops, "convolution_seconds": convolutions, "seconds": sum(events.values())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case")
    parser.add_argument("side", choices=["plain", "ours"])
    parser.add_argument("--threads", type=int, required=True)
    arguments = parser.parse_args()
    run, before = start(arguments.case, arguments.side, arguments.threads)
    run(1)
    print(json.dumps({"ready": os.getpid()}), flush=True)
    for line in sys.stdin:
        command, units = line.split()
        if command == "profile":
            answer = profiled(run, int(units))
        else:
            began = time.perf_counter()
            run(int(units))
            answer = {"seconds": time.perf_counter() - began}
        print(json.dumps(answer | {"peak_bytes": peak_resident_bytes() - before}), flush=True)


if __name__ == "__main__":
    main()

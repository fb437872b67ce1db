"""One side of a case in a process of its own, which does some units of work for each line that it is given."""

import argparse
import json
import os
import resource
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

PRODUCTS = ("mkldnn_convolution", "cudnn_convolution", "convolution_backward", "mm", "addmm")


class NoModules(nullcontext):
    """What counts operations all together."""

    parents = frozenset({"Global"})


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def start(case: str, side: str, threads: int, name: str):
    """Import what the side needs, set the process up as it does, and return its run and what tells its memory."""
    import torch

    from benchmarks.cases import CASES
    from elf.machine import device as devices

    device = devices.pick_device(name)
    if side == "ours":
        devices.prepare(threads, device)
    else:
        torch.set_num_threads(threads)
        # Both sides in the same arithmetic; PyTorch's default is fewer digits for convolutions on a GPU.
        torch.backends.cudnn.allow_tf32 = False
    # What the first computation loads for good should not count as memory of the work.
    torch.nn.functional.conv2d(torch.zeros(1, 3, 8, 8, device=device), torch.zeros(1, 3, 3, 3, device=device))
    before = 0 if device.type == "cuda" else resident_bytes()
    chosen = CASES[case]
    work = (chosen.ours if side == "ours" else chosen.plain)(replace(chosen.size, device=device))

    def run(units: int) -> None:
        work(units)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return run, lambda: devices.peak_memory_bytes(device) - before


def profiled(run, units: int) -> dict[str, float]:
    """Return operations counted, and the seconds that products (convolutions, matrices) and everything took."""
    import torch
    from torch.profiler import ProfilerActivity, profile
    from torch.utils.flop_counter import FlopCounterMode

    from elf.machine import device as devices

    on_gpu = torch.cuda.is_initialized()
    # What is replayed no longer says which operation it came from.
    devices.replays_steps = lambda _: False
    counter = FlopCounterMode(display=False)
    # Nobody asks which module an operation belongs to, and the hooks that tell do not go with gradients of leaves.
    counter.mod_tracker = NoModules()
    with counter:
        run(units)
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as profiler:
        run(units)
    taken = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    events = {event.key: getattr(event, taken) / 1e6 for event in profiler.key_averages()}
    if on_gpu:
        # Kernels stand beside the operations that started them.
        events = {key: seconds for key, seconds in events.items() if key.startswith("aten::")}
    products = sum(events.get(f"aten::{name}", 0.0) for name in PRODUCTS)
    flops = sum(counter.get_flop_counts()["Global"].values())
    return {"product_flops": flops, "product_seconds": products, "seconds": sum(events.values())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case")
    parser.add_argument("side", choices=["plain", "ours"])
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--device", required=True)
    arguments = parser.parse_args()
    run, peak_bytes = start(arguments.case, arguments.side, arguments.threads, arguments.device)
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
        print(json.dumps(answer | {"peak_bytes": peak_bytes()}), flush=True)


if __name__ == "__main__":
    main()

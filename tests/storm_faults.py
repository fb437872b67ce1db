"""The faults of a storm: each does one thing to a running workflow, and says what, or finds nothing to do it to."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from slurm_cluster import CGROUPS, output

from elf.artifacts.manifest import read_manifest
from elf.artifacts.tensors import read_tensors
from elf.errors import ElfError

MEGABYTES = 500
"""Of the file system of a workflow."""


@contextmanager
def small_file_system(folder: Path) -> Iterator[None]:
    """Give a folder a file system of its own, so that it can be full or read-only while others are not."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "storm", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def payloads(storm) -> list[psutil.Process]:
    """Return the processes that compute something of a workflow."""
    found = []
    for process in psutil.process_iter():
        try:
            computes = process.cmdline()[1:3] == ["-m", "elf"] and process.cwd() == str(storm.folder)
            if computes and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return sorted(found, key=lambda process: process.pid)


def damaged_files(results: Path) -> list[str]:
    """Return the artifacts that a reader would refuse, by path below the results."""
    damaged = []
    for ending in ("safetensors", "parquet"):
        for path in sorted(results.rglob(f"[!.]*.{ending}")):
            try:
                manifest = read_manifest(path)
                if ending == "safetensors":
                    read_tensors(path, manifest["kind"])
            except ElfError:
                damaged.append(path.relative_to(results).as_posix())
    return damaged


def is_open(path: Path) -> bool:
    """Return whether some process writes the file."""
    return bool(output("fuser", str(path)).strip())


def _job_of(process: psutil.Process) -> tuple[str, str] | None:
    try:
        environment = process.environ()
    except psutil.Error:
        return None
    job, node = environment.get("SLURM_JOB_ID"), environment.get("SLURMD_NODENAME")
    return (job, node) if job and node else None


def _some_job(storm) -> tuple[str, str] | None:
    jobs = [job for process in payloads(storm) if (job := _job_of(process))]
    return storm.choose.choice(jobs) if jobs else None


def kill_process(storm) -> str | None:
    """Kill a process that computes."""
    if not (found := payloads(storm)):
        return None
    process = storm.choose.choice(found)
    process.kill()
    return f"process {process.pid}"


def cancel(storm) -> str | None:
    """Cancel a job by hand."""
    if not (found := _some_job(storm)):
        return None
    output("scancel", found[0])
    return f"job {found[0]}"


def cut_memory(storm) -> str | None:
    """Leave a job less memory than it uses."""
    if not (found := _some_job(storm)):
        return None
    limit = CGROUPS / f"memory/slurm_{found[1]}/uid_0/job_{found[0]}/memory.limit_in_bytes"
    try:
        # The system kills what cannot shrink below it.
        limit.write_text(str(100 * 2**20))
    except OSError:
        output("scancel", "--signal=KILL", "--full", found[0])
    return f"job {found[0]}"


def shorten_time(storm) -> str | None:
    """Let a job's time limit be over: the controller looks once a minute."""
    if not (found := _some_job(storm)):
        return None
    output("scontrol", "update", f"JobId={found[0]}", "TimeLimit=1")
    return f"job {found[0]}"


def preempt(storm) -> str | None:
    """Let jobs of a higher tier take a node for some seconds."""
    if not (found := _some_job(storm)):
        return None
    options = ["--partition=gpu", f"--nodelist={found[1]}", "--exclusive", "--wrap=sleep 2", "--output=/dev/null"]
    output("sbatch", *options)
    return f"all jobs of {found[1]}"


def crash_node(storm) -> str | None:
    """Lose a node, and have it back after a while."""
    name = storm.choose.choice(storm.cluster.names)
    storm.cluster.crash_node(name)
    time.sleep(storm.choose.uniform(0, 5))
    storm.cluster.start_node(name)
    return name


def cut_node(storm) -> str | None:
    """Lose a node from the network, while its processes go on; have it back later."""
    if not (found := _some_job(storm)):
        return None
    storm.cluster.cut_node(found[1])
    storm.cluster.notice_lost(found[1])
    time.sleep(storm.choose.uniform(0, 5))
    storm.cluster.start_node(found[1])
    return found[1]


def restart_controller(storm) -> str | None:
    """Lose the controller for a while."""
    storm.cluster.stop_controller()
    time.sleep(storm.choose.uniform(0, 8))
    storm.cluster.start_controller()
    return "back again"


def _end_snakemake(storm, number: signal.Signals) -> str | None:
    if storm.process is None or storm.process.poll() is not None:
        return None
    storm.process.send_signal(number)
    storm.process.wait(120)
    storm.process = None
    return "it will be started again"


def kill_snakemake(storm) -> str | None:
    """Kill Snakemake; its jobs go on."""
    return _end_snakemake(storm, signal.SIGKILL)


def interrupt_snakemake(storm) -> str | None:
    """Press Ctrl-C."""
    return _end_snakemake(storm, signal.SIGINT)


def fill_disk(storm) -> str | None:
    """Leave no space for some seconds."""
    filler = storm.folder / "filler"
    try:
        with open(filler, "wb") as stream:
            while True:
                stream.write(bytes(2**20))
    except OSError:
        pass
    time.sleep(storm.choose.uniform(2, 10))
    filler.unlink()
    return "no space for some seconds"


def make_read_only(storm) -> str | None:
    """Let nobody write results for some seconds."""
    if not storm.results.is_dir():
        return None
    place = str(storm.results)
    # A second view of the folder over the first one: a file system with files open for writing would refuse.
    subprocess.run(["mount", "--bind", place, place], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)
    time.sleep(storm.choose.uniform(2, 10))
    subprocess.run(["umount", "--lazy", place], check=True)
    return "no results could be written for some seconds"


def _some_file(storm) -> Path | None:
    found = [p for ending in ("safetensors", "parquet") for p in sorted(storm.results.rglob(f"*.{ending}"))]
    return storm.choose.choice(found) if found else None


def damage_file(storm) -> str | None:
    """Flip a byte of a file, cut it in half, or empty it; its time stays, as with a bad disk."""
    if (path := _some_file(storm)) is None:
        return None
    stat, content = path.stat(), bytearray(path.read_bytes())
    how = storm.choose.choice(("a byte flipped", "cut in half", "emptied"))
    if how == "a byte flipped" and content:
        content[storm.choose.randrange(len(content))] ^= 1 << storm.choose.randrange(8)
    elif how == "cut in half":
        del content[len(content) // 2 :]
    else:
        content.clear()
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    return f"{path.relative_to(storm.results)}, {how}"


def jump_clock(storm) -> str | None:
    """Give a file the time of a node whose clock is a day off."""
    if (path := _some_file(storm)) is None:
        return None
    days = storm.choose.choice((-1, 1))
    moment = time.time() + days * 86400
    os.utime(path, (moment, moment))
    return f"{path.relative_to(storm.results)}, {days:+} day"


FAULTS: dict[str, Callable[..., str | None]] = {
    function.__name__.replace("_", " "): function
    for function in (
        *(kill_process, cancel, cut_memory, shorten_time, preempt, crash_node, cut_node, restart_controller),
        *(kill_snakemake, interrupt_snakemake, fill_disk, make_read_only, damage_file, jump_clock),
    )
}

"""A real SLURM on one machine, for tests: a controller and several nodes with countable GPUs that are none.

    python tests/slurm_cluster.py install     SLURM from Debian's packages, where it is missing
    python tests/slurm_cluster.py up          install, and start 4 nodes with 2 GPUs each
    python tests/slurm_cluster.py down        end it and remove its state

It needs root. Node failures and the like are methods of `SlurmCluster`.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

STATE = Path("/var/lib/elf-test-cluster")
ETC = Path("/etc/slurm")
CGROUPS = Path("/sys/fs/cgroup")
PROGRAMS = {"munged": "munge", "slurmctld": "slurmctld", "slurmd": "slurmd", "sbatch": "slurm-client"}
PORT = 6917

SLURM_CONF = """\
ClusterName=elftest
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# How long a job waits that is started again.
AuthInfo=cred_expire=15
SchedulerParameters=requeue_delay=1,sched_interval=2,bf_interval=2
StateSaveLocation={state}/controller
SlurmctldPidFile={state}/slurmctld.pid
SlurmctldLogFile={state}/slurmctld.log
SlurmdSpoolDir={state}/spool-%n
SlurmdPidFile={state}/slurmd-%n.pid
SlurmdLogFile={state}/slurmd-%n.log
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/{tracking}
TaskPlugin={task_plugin}
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
{memory_limit}
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
# Nodes may have more cores and memory than this machine.
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=10
KillWait=3
CompleteWait=0
MessageTimeout=10
MinJobAge=7200
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
NodeName=n[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first_port}-{last_port}] {resources}
PartitionName=DEFAULT Nodes=n[1-{nodes}] DefMemPerCPU=500 DefaultTime=60 MaxTime=INFINITE State=UP
PartitionName=gpu Default=YES PriorityTier=10 PreemptMode=OFF
PartitionName=cpu PriorityTier=10 PreemptMode=OFF
PartitionName=low PriorityTier=1 PreemptMode=REQUEUE
"""


class Unusable(Exception):
    """No cluster can run on this machine, and why."""


@dataclass(frozen=True)
class SlurmCluster:
    """The cluster, running or not.

    Attributes
    ----------
    nodes, gpus, cpus, memory : int
        Number of nodes, and what each has; memory in megabytes.
    """

    nodes: int = 4
    gpus: int = 2
    cpus: int = 8
    memory: int = 8000

    @property
    def names(self) -> list[str]:
        """Names of the nodes."""
        return [f"n{number}" for number in range(1, self.nodes + 1)]

    def start(self) -> None:
        """Start it anew.

        Raises
        ------
        Unusable
            If that is not possible here.
        """
        if os.geteuid() != 0:
            raise Unusable("a test cluster needs root")
        if missing := _missing():
            raise Unusable(f"{', '.join(missing)} are not installed; 'python tests/slurm_cluster.py install' does that")
        if (configuration := ETC / "slurm.conf").exists() and STATE not in configuration.resolve().parents:
            raise Unusable(f"{configuration} belongs to another cluster")
        self.stop()
        self._configure()
        _start_munge()
        self.start_controller()
        for name in self.names:
            self.start_node(name)
        wait_until(lambda: self._usable() == self.nodes, "all nodes are there", 60)

    def stop(self) -> None:
        """End its daemons and jobs, and remove its state."""
        for process in list(_daemons()):
            process.kill()
        for name in self.names:
            _kill(_processes_on(name))
        for name in ("slurm.conf", "gres.conf", "cgroup.conf"):
            if (ETC / name).is_symlink():
                (ETC / name).unlink()
        shutil.rmtree(STATE, ignore_errors=True)

    def start_controller(self) -> None:
        """Start the controller; jobs that it knew go on."""
        _run("slurmctld", "-i")
        wait_until(lambda: _answers("scontrol", "ping"), "the controller answers", 30)

    def stop_controller(self) -> None:
        """Kill the controller; jobs go on."""
        _kill([process for process in _daemons() if process.name() == "slurmctld"])

    def start_node(self, name: str) -> None:
        """Start a node, or bring one back that had crashed or was cut off."""
        (STATE / f"spool-{name}").mkdir(exist_ok=True)
        _run("slurmd", "-N", name)
        _answers("scontrol", "update", f"NodeName={name}", "State=RESUME")

    def crash_node(self, name: str) -> None:
        """End a node and everything on it without warning, as a loss of power does."""
        self.cut_node(name)
        _kill(_processes_on(name))
        self.notice_lost(name)

    def cut_node(self, name: str) -> None:
        """Cut a node off from the network: the controller misses it, but its jobs go on."""
        _kill([p for p in _daemons() if p.name() == "slurmd" and p.cmdline()[-2:] == ["-N", name]])

    def notice_lost(self, name: str) -> None:
        """Let the controller know at once what it would find out after some time: that a node is gone."""
        _run("scontrol", "update", f"NodeName={name}", "State=DOWN", "Reason=lost")

    def jobs(self) -> list[dict[str, str]]:
        """Return what the controller says of all jobs of the last hours."""
        lines = output("scontrol", "show", "job", "--oneliner").splitlines()
        return [dict(part.partition("=")[::2] for part in line.split() if "=" in part) for line in lines if "=" in line]

    def _usable(self) -> int:
        states = output("sinfo", "--noheader", "--Node", "--partition=gpu", "--format=%T").split()
        return sum(state in ("idle", "mixed", "allocated", "completing") for state in states)

    def _configure(self) -> None:
        for folder in ("etc", "controller", "devices"):
            (STATE / folder).mkdir(parents=True, exist_ok=True)
        for number in range(self.gpus):
            # SLURM counts a GPU only where there is a device: these are the one that swallows everything.
            os.mknod(STATE / f"devices/gpu{number}", 0o020666, os.makedev(1, 3))
        limits = _can_make_cgroups("memory")
        values = {
            "host": socket.gethostname().partition(".")[0],
            "port": PORT,
            "state": STATE,
            "tracking": "cgroup" if _can_make_cgroups("freezer") else "linuxproc",
            "task_plugin": "task/cgroup" if limits else "task/none",
            "memory_limit": "" if limits else "JobAcctGatherParams=OverMemoryKill",
            "nodes": self.nodes,
            "first_port": PORT + 1000,
            "last_port": PORT + 999 + self.nodes,
            "resources": f"CPUs={self.cpus} RealMemory={self.memory} Gres=gpu:{self.gpus} State=UNKNOWN",
        }
        span = "0" if self.gpus == 1 else f"[0-{self.gpus - 1}]"
        texts = {
            "slurm.conf": SLURM_CONF.format(**values),
            "gres.conf": f"NodeName=n[1-{self.nodes}] Name=gpu File={STATE}/devices/gpu{span}\n",
            "cgroup.conf": f"CgroupPlugin=cgroup/v1\nConstrainRAMSpace={'yes' if limits else 'no'}\n",
        }
        # Where jobs look for it, too, which lose the environment variable that could say otherwise.
        ETC.mkdir(exist_ok=True)
        for name, text in texts.items():
            (STATE / "etc" / name).write_text(text)
            (ETC / name).unlink(missing_ok=True)
            (ETC / name).symlink_to(STATE / "etc" / name)


def wait_until(is_so: Callable[[], object], what: str, seconds: float) -> None:
    """Wait until something is so; an AssertionError says what was waited for in vain."""
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until, f"waited {seconds} s in vain until {what}"
        time.sleep(0.2)


def output(*command: str) -> str:
    """Return what a command prints; nothing if it fails."""
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout


def _answers(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False, timeout=300).returncode == 0


def _run(*command: str) -> None:
    # A daemon keeps what it is given: a file does not fill up or wait for a reader.
    with tempfile.TemporaryFile() as log:
        status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False).returncode
        log.seek(0)
        assert status == 0, f"{' '.join(command)}: {log.read().decode()}"


def _missing() -> list[str]:
    return [package for program, package in PROGRAMS.items() if shutil.which(program) is None]


def install() -> None:
    """Install what is missing.

    Raises
    ------
    Unusable
        If that is not possible here.
    """
    if not (missing := _missing()):
        return
    if os.geteuid() != 0:
        raise Unusable("an installation needs root")
    if shutil.which("apt-get") is None:
        raise Unusable(f"{', '.join(missing)} are not installed, and there is no apt-get")
    policy = Path("/usr/sbin/policy-rc.d")
    own = not policy.exists()
    if own:
        # Packages must not start daemons of their own.
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        command = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
        if not _answers("apt-get", "update") or not _answers(*command):
            raise Unusable(f"{', '.join(missing)} cannot be installed")
    except subprocess.TimeoutExpired as error:
        raise Unusable(f"installing takes too long ({error})") from error
    finally:
        if own:
            policy.unlink()


def _start_munge() -> None:
    if _answers("sh", "-c", "munge -n | unmunge"):
        return
    if not Path("/etc/munge/munge.key").exists():
        _run("mungekey", "--create")
        shutil.chown("/etc/munge/munge.key", "munge", "munge")
    for folder, mode in (("/run/munge", 0o755), ("/var/log/munge", 0o700), ("/var/lib/munge", 0o700)):
        Path(folder).mkdir(exist_ok=True)
        Path(folder).chmod(mode)
        shutil.chown(folder, "munge", "munge")
    _run("runuser", "-u", "munge", "--", shutil.which("munged") or "/usr/sbin/munged", "--force")
    wait_until(lambda: _answers("sh", "-c", "munge -n | unmunge"), "munge answers", 20)


def _can_make_cgroups(controller: str) -> bool:
    probe = CGROUPS / controller / "elf-test-cluster"
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError:
        return False
    return True


def _daemons() -> Iterator[psutil.Process]:
    """Yield the daemons of this cluster: those that write into its state."""
    for process in psutil.process_iter():
        try:
            is_daemon = process.name() in ("slurmctld", "slurmd")
            if is_daemon and any(Path(file.path).is_relative_to(STATE) for file in process.open_files()):
                yield process
        except psutil.Error:
            continue


def _processes_on(node: str) -> set[psutil.Process]:
    """Return all processes of jobs on a node, with the one of SLURM that watches over each."""
    found = set()
    for process in psutil.process_iter():
        try:
            if process.environ().get("SLURMD_NODENAME") == node:
                found |= {process, *(parent for parent in process.parents() if parent.name() == "slurmstepd")}
        except (psutil.Error, OSError):
            continue
    return found


def _kill(processes) -> None:
    # First those that would report the end of the others.
    for process in sorted(processes, key=lambda process: process.name() != "slurmstepd"):
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.Error:
            continue
    # What nobody reaps stays a zombie: it does nothing any more.
    wait_until(lambda: not any(map(_lives, processes)), "killed processes are gone", 20)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def main(arguments: list[str]) -> int:
    """Run from the command line."""
    if arguments not in (["install"], ["up"], ["down"]):
        print(__doc__)
        return 2
    try:
        if arguments == ["down"]:
            SlurmCluster().stop()
        else:
            install()
        if arguments == ["up"]:
            SlurmCluster().start()
    except Unusable as error:
        print(error, file=sys.stderr)
        return 1
    if arguments == ["up"]:
        print(output("sinfo", "--Node", "--format=%N %T %c CPUs, %m MB, %G"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

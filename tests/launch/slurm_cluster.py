"""A real Slurm of two nodes on this machine: no systemd, no accounting, nothing left behind.

Both nodes are this machine, each with a daemon of its own. Needs root and Debian's packages:
`apt-get install --no-install-recommends slurmctld slurmd slurm-client munge`.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

NODES = ("n1", "n2")
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged")
_MARK = "TEMPER_LAB_NODE"

_CONFIGURATION = """
ClusterName=lab
SlurmctldHost=localhost
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=5,socket={home}/munge.socket
SlurmctldPort={port}
SlurmctldParameters=preempt_send_user_signal
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool/%n
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd.%n.pid
SlurmctldLogFile={home}/slurmctld.log
SlurmdLogFile={home}/slurmd.%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
SlurmdTimeout=10
KillWait=5
JobRequeue=1
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{nodes}
PartitionName=spot Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=30
PartitionName=ondemand Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""


@dataclass(frozen=True)
class SlurmCluster:
    """A running cluster.

    Attributes:
        home: Folder of its configuration, logs and state.
    """

    home: Path

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables that point Slurm's commands to the cluster."""
        return {"SLURM_CONF": str(self.home / "slurm.conf")}

    def ask(self, *command: str) -> str:
        """Run one of Slurm's commands and return what it printed."""
        return subprocess.run(
            command,
            env={**os.environ, **self.variables},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout.strip()

    def start_node(self, name: str) -> None:
        """Start a node's daemon, and wait until it takes jobs."""
        self._run("slurmd", "-N", name, **{_MARK: name})
        self._await(
            lambda: self.ask("sinfo", "-h", "-N", "-n", name, "-o", "%t").startswith("idle")
        )

    def kill_node(self, name: str) -> None:
        """Kill everything that runs on a node, at once, as when it loses power."""
        for number in self._processes_of(name):
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)

    def start(self) -> None:
        """Start all daemons."""
        key = self.home / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        munge = {
            part: str(self.home / f"munge.{part}") for part in ("socket", "pid", "log", "seed")
        }
        self._run(
            "munged",
            "--force",
            f"--key-file={key}",
            f"--socket={munge['socket']}",
            f"--pid-file={munge['pid']}",
            f"--log-file={munge['log']}",
            f"--seed-file={munge['seed']}",
        )
        self._run("slurmctld")
        for name in NODES:
            self.start_node(name)

    def stop(self) -> None:
        """Kill every process of the cluster."""
        for name in NODES:
            self.kill_node(name)
        for program in ("slurmctld", "munge"):
            with suppress(OSError, ValueError):
                os.kill(int((self.home / f"{program}.pid").read_text()), signal.SIGKILL)

    def _run(self, *command: str, **variables: str) -> None:
        """Run a command that starts a daemon."""
        subprocess.run(
            command,
            env={**os.environ, **self.variables, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
            timeout=60,
        )

    def _processes_of(self, name: str) -> list[int]:
        """Return the processes of a node: its daemon, the step daemons, and the steps."""
        mine = f"SLURM_CONF={self.home}/slurm.conf".encode()
        marks = {f"{_MARK}={name}".encode(), f"SLURMD_NODENAME={name}".encode()}
        found = []
        for entry in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                variables = set(entry.read_bytes().split(b"\0"))
                # A step inherits the mark of its job's first node, so Slurm's own variable counts.
                own = {v for v in variables if v.startswith(b"SLURMD_NODENAME=")} or variables
                if mine in variables and own & marks:
                    found.append(int(entry.parent.name))
        return found

    def _await(self, happened: object, timeout_s: float = 60) -> None:
        assert callable(happened)
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            with suppress(subprocess.CalledProcessError):
                if happened():
                    return
            time.sleep(0.2)
        raise TimeoutError((self.home / "slurmctld.log").read_text()[-3000:])


def why_not() -> str:
    """Return why no cluster can be started here; empty if it can."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]
    if missing:
        return (
            f"{', '.join(missing)} not installed: apt-get install --no-install-recommends "
            "slurmctld slurmd slurm-client munge"
        )
    return "" if os.geteuid() == 0 else "Slurm's daemons need root"


_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


@contextmanager
def slurm_cluster() -> Iterator[SlurmCluster]:
    """Yield a cluster that runs until the end of the block."""
    # Not below pytest's folder: paths of sockets are limited to 108 characters.
    home = Path(tempfile.mkdtemp(prefix="slurm-"))
    home.chmod(0o755)
    for folder in ("state", *(f"spool/{name}" for name in NODES)):
        (home / folder).mkdir(parents=True)
    ports = _free_ports(1 + len(NODES))
    cores = os.cpu_count() or 1
    nodes = [
        f"NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs={cores} "
        "RealMemory=4000 State=UNKNOWN"
        for name, port in zip(NODES, ports[1:], strict=True)
    ]
    (home / "slurm.conf").write_text(
        _CONFIGURATION.format(home=home, port=ports[0], nodes="\n".join(nodes))
    )
    cluster = SlurmCluster(home)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(home, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("localhost", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports

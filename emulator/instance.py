"""One instance of a rehearsed training job: its `/opt/ml`, its container, its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).parents[1]
ON_CPU = {"TEMPER_CPU": "1"}
"""The request asks for accelerators, and this machine has none."""
_SHM_BYTES = "1g"


@dataclass(frozen=True)
class ContainerSpec:
    """What a container is started with.

    Attributes:
        ml: The folder that stands at `/opt/ml` in it.
        root: For what the starter needs beside it.
        host: Its name: `algo-1`.
        hosts: The names of all.
        environment: Its variables.
        isolated: Whether it has no network beyond its peers.
        image: As the request names it.
    """

    ml: Path
    root: Path
    host: str
    hosts: tuple[str, ...]
    environment: dict[str, str]
    isolated: bool
    image: str


class ContainerRuntime(Protocol):
    """A way to run a container's command."""

    def start(self, order: ContainerSpec) -> subprocess.Popen[bytes]:
        """Start it; its output comes on one pipe, and its exit code is the command's."""

    def tell(self, process: subprocess.Popen[bytes], number: signal.Signals) -> None:
        """Send a signal to the container's first process."""

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """Kill all that runs in the container."""


class NamespaceRuntime:
    """Runs the entry point of this checkout in namespaces of its own. Needs no container engine.

    Args:
        command: What the image runs; SageMaker gives it the one argument `train`.
    """

    def __init__(self, command: tuple[str, ...] = ()):
        self.command = command or entry_point()

    def start(self, order: ContainerSpec) -> subprocess.Popen[bytes]:
        """Start the command with mounts, processes, a name and (isolated) a network of its own."""
        told = {
            "ml": str(order.ml),
            "root": str(order.root),
            "host": order.host,
            "hosts": list(order.hosts),
            "command": [*self.command, "train"],
            "environment": {**_inherited(), **order.environment},
            "isolated": order.isolated,
            "cwd": str(ROOT),
        }
        # Peers of one job must reach each other, so several share the machine's own network.
        alone = ["--net"] if order.isolated and len(order.hosts) == 1 else []
        told["isolated"] = bool(alone)
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        return subprocess.Popen(
            [
                *("unshare", *user, "--mount", "--uts", *alone),
                *("--pid", "--fork", "--kill-child", "--mount-proc"),
                *(sys.executable, "-m", "emulator.namespace_entry", json.dumps(told)),
            ],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def tell(self, process: subprocess.Popen[bytes], number: signal.Signals) -> None:
        """Send a signal to the command: the one child of the process that made the namespaces."""
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        with suppress(OSError):
            for pid in children.read_text().split():
                os.kill(int(pid), number)

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """Kill the first process, and with it every other of its namespace."""
        self.tell(process, signal.SIGKILL)


class OciRuntime:
    """Runs the image with podman or docker.

    Args:
        engine: The program.
        image: In place of the one in the request, which only ECR has.
    """

    def __init__(self, engine: str, image: str):
        self.engine, self.image = engine, image

    def start(self, order: ContainerSpec) -> subprocess.Popen[bytes]:
        """Start the image with the job's folder at `/opt/ml`."""
        told = {**ON_CPU, **order.environment}
        variables = [f"--env={key}={value}" for key, value in told.items()]
        network = ["--network=none"] if order.isolated and len(order.hosts) == 1 else []
        hosts = [f"--add-host={host}:127.0.0.1" for host in order.hosts] if not network else []
        return subprocess.Popen(
            [
                *(self.engine, "run", "--rm", "--name", _container(order), "--init=false"),
                *(f"--hostname={order.host}", f"--shm-size={_SHM_BYTES}", *network, *hosts),
                *("--volume", f"{order.ml}:/opt/ml", *variables, self.image, "train"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def tell(self, process: subprocess.Popen[bytes], number: signal.Signals) -> None:
        """Send a signal to the container's first process."""
        assert isinstance(process.args, list)
        name = process.args[process.args.index("--name") + 1]
        command = [self.engine, "kill", f"--signal={number.name}", name]
        subprocess.run(command, capture_output=True, check=False)

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """Kill the container."""
        self.tell(process, signal.SIGKILL)


def entry_point() -> tuple[str, ...]:
    """Return what our images run."""
    return (sys.executable, "-m", "containers.entrypoint")


def lay_out(
    ml: Path, request: dict[str, Any], host: str, hosts: tuple[str, ...], interface: str
) -> None:
    """Make `/opt/ml` as the service makes it, but for the data.

    https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html
    """
    folders = ("input/config", "input/data", "model", "output/data", "checkpoints")
    for folder in folders:
        (ml / folder).mkdir(parents=True, exist_ok=True)
    machines = request["ResourceConfig"]
    kind = machines.get("InstanceType") or machines["InstancePreferences"][0]["InstanceType"]
    channels = {
        channel["ChannelName"]: {
            "TrainingInputMode": channel.get(
                "InputMode", request["AlgorithmSpecification"]["TrainingInputMode"]
            ),
            "S3DistributionType": "FullyReplicated",
            "RecordWrapperType": "None",
        }
        for channel in request.get("InputDataConfig", ())
    }
    written = {
        "hyperparameters": request.get("HyperParameters", {}),
        "inputdataconfig": channels,
        "resourceconfig": {
            "current_host": host,
            "current_instance_type": kind,
            "current_group_name": "homogeneousCluster",
            "hosts": list(hosts),
            "instance_groups": [
                {
                    "instance_group_name": "homogeneousCluster",
                    "instance_type": kind,
                    "hosts": list(hosts),
                }
            ],
            "network_interface_name": interface,
        },
    }
    for name, content in written.items():
        (ml / "input/config" / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")


def _inherited() -> dict[str, str]:
    """Return what an image would bring: where programs are, and the limits of this machine."""
    names = ("PATH", "LANG", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
    found = {name: os.environ[name] for name in names if name in os.environ}
    return {**found, **ON_CPU, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def _container(order: ContainerSpec) -> str:
    return f"rehearsal-{order.environment['TRAINING_JOB_NAME']}-{order.host}"

"""Emulated instance of a training job: its `/opt/ml` folder and its container."""

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

from emulator.child_process import start_child

ROOT = Path(__file__).parents[1]
ON_CPU = {"TEMPER_CPU": "1"}
"""Allows the CPU: the request names accelerators, which this machine does not have."""
SERVING_PORT = 8080
"""Port at which the service reaches a container that serves."""
_SHM_BYTES = "1g"


@dataclass(frozen=True)
class ContainerSpec:
    """Settings of a container.

    Attributes:
        ml: Folder to mount at `/opt/ml`.
        root: Folder for further files of the runtime.
        host: Host name of the container, such as `algo-1`.
        hosts: Host names of all containers of the job.
        environment: Environment variables.
        isolated: The container has no network, except to its peers.
        image: Image that the request names.
        job: Name of the job.
        arguments: Arguments of the entry point; none for the image's default command.
        port: Port of this machine at which a container that serves is reached; 0 for none.
    """

    ml: Path
    root: Path
    host: str
    hosts: tuple[str, ...]
    environment: dict[str, str]
    isolated: bool
    image: str
    job: str
    arguments: tuple[str, ...] = ("train",)
    port: int = 0


class ContainerRuntime(Protocol):
    """Runtime that starts, signals and kills containers."""

    def start(self, spec: ContainerSpec) -> subprocess.Popen[bytes]:
        """Start a container; the process has its output on one pipe, and its exit code."""

    def send_signal(self, process: subprocess.Popen[bytes], number: signal.Signals) -> None:
        """Send a signal to the container's first process."""

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kill every process of the container."""


class NamespaceRuntime:
    """Runtime that runs this checkout's entry point in Linux namespaces, without an engine.

    Args:
        command: Entry point of the image, to which the arguments of a container are appended.
        default: Arguments of a container that has none: the default command of the image.
    """

    def __init__(self, command: tuple[str, ...] = (), default: tuple[str, ...] = ("prepare",)):
        self.command = command or entry_point()
        self.default = default

    def start(self, spec: ContainerSpec) -> subprocess.Popen[bytes]:
        """Start the command in new mount, PID, host-name and (if isolated) network namespaces.

        It ends with this process, even if that is killed.
        """
        settings = {
            "ml": str(spec.ml),
            "root": str(spec.root),
            "host": spec.host,
            "hosts": list(spec.hosts),
            "command": [*self.command, *(spec.arguments or self.default)],
            "environment": {**_inherited(), **_port(spec), **spec.environment},
            "isolated": spec.isolated,
            "cwd": str(ROOT),
        }
        # Containers of one job must reach each other, so several share the machine's network.
        network = ["--net"] if spec.isolated and len(spec.hosts) == 1 else []
        settings["isolated"] = bool(network)
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        return start_child(
            [
                *("unshare", *user, "--mount", "--uts", *network),
                *("--pid", "--fork", "--kill-child", "--mount-proc"),
                *(sys.executable, "-m", "emulator.namespace_entry", json.dumps(settings)),
            ],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def send_signal(self, process: subprocess.Popen[bytes], number: signal.Signals) -> None:
        """Send a signal to the command, the only child of the `unshare` process."""
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        with suppress(OSError):
            for pid in children.read_text().split():
                os.kill(int(pid), number)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kill the first process of the PID namespace; the kernel then kills all others in it."""
        self.send_signal(process, signal.SIGKILL)


class OciRuntime:
    """Runtime that runs an image with podman or docker.

    Args:
        engine: Name of the container engine.
        image: Image to run in place of the requested one, which only ECR has.
    """

    def __init__(self, engine: str, image: str):
        self.engine, self.image = engine, image

    def start(self, spec: ContainerSpec) -> subprocess.Popen[bytes]:
        """Start the image with the job's folder mounted at `/opt/ml`."""
        environment = {**ON_CPU, **spec.environment}
        variables = [f"--env={key}={value}" for key, value in environment.items()]
        network = ["--network=none"] if spec.isolated and len(spec.hosts) == 1 else []
        hosts = [f"--add-host={host}:127.0.0.1" for host in spec.hosts] if not network else []
        return subprocess.Popen(
            [
                *(self.engine, "run", "--rm", "--name", _container_name(spec), "--init=false"),
                *(f"--hostname={spec.host}", f"--shm-size={_SHM_BYTES}", *network, *hosts),
                *(["--publish", f"127.0.0.1:{spec.port}:{SERVING_PORT}"] if spec.port else []),
                *("--volume", f"{spec.ml}:/opt/ml", *variables, self.image),
                *spec.arguments,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def send_signal(self, process: subprocess.Popen[bytes], number: signal.Signals) -> None:
        """Send a signal to the container's first process."""
        assert isinstance(process.args, list)
        name = process.args[process.args.index("--name") + 1]
        command = [self.engine, "kill", f"--signal={number.name}", name]
        subprocess.run(command, capture_output=True, check=False)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kill the container."""
        self.send_signal(process, signal.SIGKILL)


def entry_point() -> tuple[str, ...]:
    """Return the entry point of our images."""
    return (sys.executable, "-m", "containers.entrypoint")


def prepare_opt_ml(
    ml: Path, request: dict[str, Any], host: str, hosts: tuple[str, ...], interface: str
) -> None:
    """Create `/opt/ml` as the service does, without the data.

    Args:
        ml: Folder that becomes `/opt/ml`.
        request: CreateTrainingJob request.
        host: Host name of this container.
        hosts: Host names of all containers of the job.
        interface: Network interface between the containers.

    https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html
    """
    folders = ("input/config", "input/data", "model", "output/data", "checkpoints")
    for folder in folders:
        (ml / folder).mkdir(parents=True, exist_ok=True)
    config = request["ResourceConfig"]
    instance_type = config.get("InstanceType") or config["InstancePreferences"][0]["InstanceType"]
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
    files = {
        "hyperparameters": request.get("HyperParameters", {}),
        "inputdataconfig": channels,
        "resourceconfig": {
            "current_host": host,
            "current_instance_type": instance_type,
            "current_group_name": "homogeneousCluster",
            "hosts": list(hosts),
            "instance_groups": [
                {
                    "instance_group_name": "homogeneousCluster",
                    "instance_type": instance_type,
                    "hosts": list(hosts),
                }
            ],
            "network_interface_name": interface,
        },
    }
    for name, content in files.items():
        (ml / "input/config" / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")


def _inherited() -> dict[str, str]:
    """Return the variables that an image would set, taken from this process."""
    names = ("PATH", "LANG", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
    inherited = {name: os.environ[name] for name in names if name in os.environ}
    return {**inherited, **ON_CPU, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def _port(spec: ContainerSpec) -> dict[str, str]:
    """Return the variable that tells a container its port: namespaces share this machine's."""
    return {"SAGEMAKER_BIND_TO_PORT": str(spec.port)} if spec.port else {}


def _container_name(spec: ContainerSpec) -> str:
    return f"rehearsal-{spec.job}-{spec.host}"

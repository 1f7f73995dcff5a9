"""Create `/opt/ml` as SageMaker does, and run the entry point on it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.run_commands import ROOT

ENTRY_POINT = (sys.executable, "-m", "containers.entrypoint")


def lay_out(
    root: Path,
    job: Mapping[str, Any] | None = None,
    *,
    hosts: Sequence[str] = ("algo-1",),
    current: str | None = None,
    hyperparameters: Mapping[str, str] | None = None,
    channels: Mapping[str, Path] | None = None,
    instance: str = "ml.m5.large",
    interface: str = "eth0",
) -> Path:
    """Fill `root` as SageMaker fills `/opt/ml`, and return it.

    Args:
        root: Folder that becomes `/opt/ml`.
        job: Job, written to the channel `job`.
        hosts: Host names of all nodes.
        current: Host name of this node; the first by default.
        hyperparameters: Hyper-parameters by name.
        channels: Files or folders to copy into channels, by name.
        instance: Instance type.
        interface: Network interface.
    """
    config = root / "input/config"
    config.mkdir(parents=True, exist_ok=True)
    (root / "checkpoints").mkdir(exist_ok=True)
    for name in ("model", "output"):
        (root / name).mkdir(exist_ok=True)
    resources = {
        "current_host": current or hosts[0],
        "current_instance_type": instance,
        "current_group_name": "homogeneousCluster",
        "hosts": list(hosts),
        "instance_groups": [
            {
                "instance_group_name": "homogeneousCluster",
                "instance_type": instance,
                "hosts": list(hosts),
            }
        ],
        "network_interface_name": interface,
    }
    (config / "resourceconfig.json").write_text(json.dumps(resources))
    (config / "hyperparameters.json").write_text(json.dumps(dict(hyperparameters or {})))
    inputs: dict[str, Any] = {}
    for name, source in (channels or {}).items():
        folder = root / "input/data" / name
        files = sorted(source.iterdir()) if source.is_dir() else [source]
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copyfile(file, folder / file.name)
        inputs[name] = _channel()
    if job is not None:
        folder = root / "input/data/job"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "job.yaml").write_text(yaml.safe_dump(dict(job)))
        inputs["job"] = _channel()
    (config / "inputdataconfig.json").write_text(json.dumps(inputs))
    return root


def _channel() -> dict[str, str]:
    return {
        "TrainingInputMode": "File",
        "S3DistributionType": "FullyReplicated",
        "RecordWrapperType": "None",
    }


def clean_environment(**more: str) -> dict[str, str]:
    """Return this process's environment without the variables of services."""
    services = ("SLURM_", "PET_", "SM_", "TEMPER_JOB", "MASTER_", "WORLD_SIZE", "RANK")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(services)}
    return {**kept, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", **more}


def start(root: Path, *options: str, cwd: Path = ROOT, **environment: str) -> subprocess.Popen[str]:
    """Start the entry point as SageMaker does, on the folder `root`."""
    return subprocess.Popen(
        [*ENTRY_POINT, "train", *options],
        cwd=cwd,
        env=clean_environment(SAGEMAKER_BASE_DIR=str(root), **environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(root: Path, *options: str, **environment: str) -> tuple[int, str]:
    """Run the entry point to its end; return its exit code and output."""
    process = start(root, *options, **environment)
    output, _ = process.communicate(timeout=900)
    return process.returncode, output


def failure(root: Path) -> str:
    """Return the content of the failure file; empty if it does not exist."""
    path = root / "output/failure"
    return path.read_text() if path.exists() else ""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])

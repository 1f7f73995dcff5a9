"""Training on this machine inside a container image: `temper train JOB --image IMAGE`.

Every path that the job names is mounted at the same path in the container, so the job file is
used unchanged.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from launch.errors import LaunchError
from launch.job_inputs import collect_inputs
from training.config import Job, Pipeline

_SHARED_MEMORY = "4g"
_NVIDIA = Path("/dev/nvidiactl")


def container_command(image: str, job: Job | Pipeline, folder: Path, overrides: str) -> list[str]:
    """Return the command that trains a run's job in a container.

    Args:
        image: Name of the image, as the container engine has it.
        job: Job whose files must be visible in the container.
        folder: Run folder.
        overrides: `key=value` pairs for the job.

    Raises:
        LaunchError: This machine has no container engine.
    """
    engine, here = container_engine(), Path.cwd()
    writable = [here, folder.resolve()]
    inputs = [artifact.path for artifact in collect_inputs(job) if artifact.path is not None]
    command = [engine, "run", "--rm", "--no-healthcheck", f"--shm-size={_SHARED_MEMORY}"]
    command += [f"--volume={path}:{path}" for path in dict.fromkeys(writable)]
    command += [f"--volume={path}:{path}:ro" for path in dict.fromkeys(inputs)]
    command += [f"--workdir={here}", f"--env=TEMPER_CACHE={here}/.cache/temper"]
    # Without it Python would import the packages of the working directory instead of the image's.
    command += ["--env=PYTHONSAFEPATH=1"]
    if "HF_TOKEN" in os.environ:
        command += ["--env=HF_TOKEN"]
    if _NVIDIA.exists():
        command += ["--gpus=all"] if engine == "docker" else ["--device=nvidia.com/gpu=all"]
    command += [image, "train", str(folder.resolve() / "job.yaml"), f"--folder={folder.resolve()}"]
    return [*command, *(["--set", *overrides.split()] if overrides else [])]


def container_engine() -> str:
    """Return the name of a working container engine; docker without its daemon does not count.

    Raises:
        LaunchError: This machine has none.
    """
    for name in ("docker", "podman"):
        if shutil.which(name) is None:
            continue
        if subprocess.run([name, "info"], capture_output=True, check=False).returncode == 0:
            return name
    raise LaunchError(
        "--image needs docker or podman on this machine. To train in this checkout's own "
        "environment, leave it out"
    )

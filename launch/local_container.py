"""Training on this machine inside a container image: `make train JOB=… IMAGE=…`.

What the job names stands in the container where it stands here, so the job is the very same file.
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


def command_in_image(image: str, job: Job | Pipeline, folder: Path, overrides: str) -> list[str]:
    """Return what trains a run's job in an image.

    Args:
        image: As the engine knows it.
        job: Names the files that the container must see.
        folder: Of the run.
        overrides: `key=value` pairs for the job.

    Raises:
        LaunchError: There is no engine here that runs images.
    """
    engine, here = engine_here(), Path.cwd()
    inside = [here, folder.resolve()]
    seen = [item.path for item in collect_inputs(job) if item.path is not None]
    command = [engine, "run", "--rm", "--no-healthcheck", f"--shm-size={_SHARED_MEMORY}"]
    command += [f"--volume={path}:{path}" for path in dict.fromkeys(inside)]
    command += [f"--volume={path}:{path}:ro" for path in dict.fromkeys(seen)]
    command += [f"--workdir={here}", f"--env=TEMPER_CACHE={here}/.cache/temper"]
    # The image's code trains, not that of the folder in which the command was typed.
    command += ["--env=PYTHONSAFEPATH=1"]
    if "HF_TOKEN" in os.environ:
        command += ["--env=HF_TOKEN"]
    if _NVIDIA.exists():
        command += ["--gpus=all"] if engine == "docker" else ["--device=nvidia.com/gpu=all"]
    command += [image, "train", str(folder.resolve() / "job.yaml"), f"--folder={folder.resolve()}"]
    return [*command, *(["--set", *overrides.split()] if overrides else [])]


def engine_here() -> str:
    """Return a program that runs images; a docker without its daemon does not count.

    Raises:
        LaunchError: There is none.
    """
    for name in ("docker", "podman"):
        if shutil.which(name) is None:
            continue
        if subprocess.run([name, "info"], capture_output=True, check=False).returncode == 0:
            return name
    raise LaunchError(
        "IMAGE=… needs docker or podman on this machine. Without it the job trains in this "
        "checkout's own environment: leave IMAGE out"
    )

"""Start time of a container, from its start to its first optimizer step, measured from outside."""

from __future__ import annotations

import re
import subprocess
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from emulator.instance import prepare_opt_ml

_MACHINE = {"ResourceConfig": {"InstanceType": "ml.m5.large"}}
_STAMP = re.compile(r"^(\S+) run folder: ", re.M)
_POLL_S = 0.02


@dataclass(frozen=True)
class Start:
    """Seconds of the consecutive phases of one start.

    Attributes:
        engine: Until the first process of the container runs.
        entry_point: Until the job is read and validated and its run folder exists.
        first_step: Until the first optimizer step is done: imports, data, model, the step.
    """

    engine: float
    entry_point: float
    first_step: float

    @property
    def start_up(self) -> float:
        """Seconds from the first process to the first optimizer step."""
        return self.entry_point + self.first_step


def start_once(image: str, job: Path, shared: Path, ml: Path) -> Start:
    """Start a job in an image as SageMaker does, and stop it after its first step.

    Args:
        image: The name of the image.
        job: The job file; it reads its model and rows from `../shared`.
        shared: The folder to mount there.
        ml: An empty folder, mounted at `/opt/ml`.

    Raises:
        RuntimeError: The job ended before its first step.
    """
    prepare_opt_ml(ml, _MACHINE, "algo-1", ("algo-1",), "eth0")
    channel = ml / "input/data/job"
    channel.mkdir(parents=True)
    (channel / "job.yaml").write_text(job.read_text())
    name = f"temper-bench-{ml.name}"
    requested = time.time()
    _podman(
        *("run", "--detach", "--name", name, "--volume", f"{ml}:/opt/ml"),
        *("--volume", f"{shared}:/opt/shared:ro", image, "train"),
    )
    try:
        rows = ml / "checkpoints/samples.jsonl"
        while not (rows.exists() and rows.stat().st_size):
            time.sleep(_POLL_S)
            if _podman("inspect", "--format", "{{.State.Running}}", name) != "true":
                raise RuntimeError(f"no step was taken: {_log(name)[-2000:]}")
        stepped = time.time()
        began = float(_podman("inspect", "--format", "{{.State.StartedAt.UnixMilli}}", name)) / 1000
        match = _STAMP.search(_log(name))
        assert match, "the entry point prints the run folder"
        ready = datetime.fromisoformat(match[1]).timestamp()
    finally:
        _podman("rm", "--force", "--time", "0", name)
    return Start(began - requested, ready - began, stepped - ready)


def import_s(image: str) -> float:
    """Return the seconds an image takes to import the training libraries, in a separate process."""
    program = (
        "import time; t = time.perf_counter(); import torch, transformers, trl, peft, accelerate, "
        "datasets; from transformers import Trainer; from trl import SFTTrainer; "
        "print(time.perf_counter() - t)"
    )
    return float(_podman("run", "--rm", "--entrypoint", "python", image, "-c", program))


def _log(name: str) -> str:
    done = subprocess.run(
        ["podman", "logs", "--timestamps", name], capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def _podman(*arguments: str) -> str:
    done = subprocess.run(["podman", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"podman {arguments[0]}: {done.stderr}")
    return done.stdout.strip()

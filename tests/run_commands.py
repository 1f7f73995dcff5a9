"""Run jobs, in this process or by the command line, and read their results."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).parents[1]


def changed(document: dict[str, Any], **sections: Any) -> dict[str, Any]:
    """Return a copy of a job; a mapping given for a section is merged into it."""
    result = copy.deepcopy(document)
    for name, value in sections.items():
        if isinstance(value, dict) and isinstance(result.get(name), dict):
            result[name] = {**result[name], **value}
        else:
            result[name] = value
    return result


@dataclass(frozen=True)
class Run:
    """Results of a run in its folder."""

    path: Path

    @property
    def steps(self) -> list[dict[str, Any]]:
        """Logged steps, without evaluations."""
        return [row for row in read_jsonl(self.path / "metrics.jsonl") if "loss" in row]

    @property
    def losses(self) -> list[float]:
        return [row["loss"] for row in self.steps]

    @property
    def grad_norms(self) -> list[float]:
        return [row["grad_norm"] for row in self.steps]

    @property
    def samples(self) -> list[dict[str, Any]]:
        """Ids of the rows of each step."""
        return read_jsonl(self.path / "samples.jsonl")

    @property
    def state(self) -> str:
        return str(json.loads((self.path / "status.json").read_text())["state"])

    @property
    def log(self) -> str:
        """Log of the first process."""
        return (self.path / "logs" / "rank-0.log").read_text()

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        return read_weights(self.path / "model")

    @property
    def checkpoints(self) -> list[str]:
        return sorted(
            (p.name for p in (self.path / "checkpoints").iterdir()),
            key=lambda name: int(name.rpartition("-")[2]) if name[-1].isdigit() else -1,
        )


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return every tensor of a saved model."""
    from safetensors.torch import load_file

    weights: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        weights |= load_file(path)
    assert weights, f"no weights in {folder}"
    return weights


def train_here(document: dict[str, Any], path: Path) -> Run:
    """Train a job in this process, or resume it if `path` has checkpoints of it."""
    from training.config.load import parse_job
    from training.pipeline import run
    from training.run_folder import RunFolder

    folder = RunFolder.create(path, parse_job(document, "test"))
    run(folder)
    return Run(path)


def start_command(document: dict[str, Any], home: Path, *options: str) -> subprocess.Popen[str]:
    """Start `python -m training` on a job in a new session; runs go to `home/runs`."""
    home.mkdir(parents=True, exist_ok=True)
    job = home / "job.yaml"
    job.write_text(yaml.safe_dump(document))
    return subprocess.Popen(
        [sys.executable, "-m", "training", str(job), "--runs", str(home / "runs"), *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@dataclass(frozen=True)
class Ended:
    """A command that ended."""

    code: int
    out: str
    err: str


def finish(process: subprocess.Popen[str], timeout_s: float = 600) -> Ended:
    """Wait for a command to end."""
    out, err = process.communicate(timeout=timeout_s)
    return Ended(process.returncode, out, err)


def train_by_command(document: dict[str, Any], home: Path, *options: str) -> Run:
    """Train a job by the command line to its end."""
    ended = finish(start_command(document, home, *options))
    assert ended.code == 0, ended.err + ended.out
    return latest(document, home)


def latest(document: dict[str, Any], home: Path) -> Run:
    return Run((home / "runs" / document["name"] / "latest").resolve())


def assert_identical(mine: Run, other: Run) -> None:
    """Assert that two runs have bitwise identical weights."""
    import torch

    assert mine.weights.keys() == other.weights.keys()
    differing = [n for n, w in mine.weights.items() if not torch.equal(w, other.weights[n])]
    assert not differing, f"{len(differing)} tensors differ, {differing[0]} among them"


def kill_all(process: subprocess.Popen[str]) -> None:
    """Kill a command and all of its descendants, as a power failure would."""
    import psutil

    try:
        family = [
            *psutil.Process(process.pid).children(recursive=True),
            psutil.Process(process.pid),
        ]
    except psutil.NoSuchProcess:
        family = []
    for member in reversed(family):
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    process.communicate()


def wait_until(
    happened: Callable[[], bool], process: subprocess.Popen[str], timeout_s: float = 300
) -> bool:
    """Wait for a condition while a command runs; return False if the command ends first.

    Args:
        happened: Condition to wait for.
        process: The command, which is killed after the timeout.
        timeout_s: Seconds to wait.
    """
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if happened():
            return True
        if process.poll() is not None:
            return happened()
        time.sleep(0.005)
    kill_all(process)
    raise AssertionError(f"did not happen within {timeout_s} s")


def steps_taken(document: dict[str, Any], home: Path) -> int:
    """Return the last step whose rows the newest run of a job has recorded."""
    path = home / "runs" / document["name"] / "latest" / "samples.jsonl"
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return int(json.loads(lines[-1])["step"]) if lines and lines[-1].endswith("}") else 0


def leftovers(run: Run) -> list[str]:
    """Return partly written or partly deleted files that were not cleaned up."""
    marks = ("writing", "deleting", "reshaping", ".tmp")
    files = [p for p in run.path.rglob("*") if any(mark in p.name for mark in marks)]
    return sorted(str(p.relative_to(run.path)) for p in files)

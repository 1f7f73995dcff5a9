"""Contestants: the command of each and the file it writes its steps to."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.speed.fixtures import temper_job

Command = Callable[[Path, int, Path], tuple[list[str], Path]]
"""Function of the fixtures, the number of steps and an empty folder that returns the command and
the file of steps."""

_PEERS = "benchmarks.speed.peers"


@dataclass(frozen=True)
class Contestant:
    """Contestant of a comparison."""

    name: str
    command: Command


def contestants(llamafactory: str | None) -> list[Contestant]:
    """Return the contestants, with LLaMA-Factory if its command is given."""
    peers = [
        Contestant("bare loop", peer(f"{_PEERS}.bare_loop")),
        Contestant("bare loop + compile", peer(f"{_PEERS}.bare_loop", "compile")),
        Contestant("TRL default", peer(f"{_PEERS}.trl_sft", "default")),
        Contestant("TRL packing `wrapped`", peer(f"{_PEERS}.trl_sft", "wrapped")),
        Contestant("TRL packing `bfd`", peer(f"{_PEERS}.trl_sft", "bfd")),
        Contestant("Temper", _temper(compiled=False)),
        Contestant("Temper without guards", _temper_unguarded),
        Contestant("Temper + compile", _temper(compiled=True)),
    ]
    if llamafactory:
        peers.append(
            Contestant("LLaMA-Factory neat packing", peer(f"{_PEERS}.llamafactory", llamafactory))
        )
    return peers


def peer(script: str, *options: str) -> Command:
    """Return the command of a script that takes fixtures, number of steps and file of steps."""

    def command(fixtures: Path, steps: int, folder: Path) -> tuple[list[str], Path]:
        out = folder / "steps.jsonl"
        return [sys.executable, "-m", script, str(fixtures), str(steps), str(out), *options], out

    return command


def _temper(*, compiled: bool) -> Command:
    def command(fixtures: Path, steps: int, folder: Path) -> tuple[list[str], Path]:
        job = folder / "job.yaml"
        job.write_text(temper_job(fixtures, steps, compiled=compiled))
        metrics = folder / "speed" / "latest" / "metrics.jsonl"
        return [sys.executable, "-m", "training", str(job), "--runs", str(folder)], metrics

    return command


def _temper_unguarded(fixtures: Path, steps: int, folder: Path) -> tuple[list[str], Path]:
    job, run = folder / "job.yaml", folder / "run"
    job.write_text(temper_job(fixtures, steps, compiled=False))
    script = "benchmarks.speed.peers.unguarded"
    return [sys.executable, "-m", script, str(job), str(run)], run / "metrics.jsonl"


def read_steps(path: Path) -> list[dict[str, float]]:
    """Return the complete lines of a file that is being written."""
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
    return [row for row in rows if "tokens" in row]

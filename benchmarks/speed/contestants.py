"""Who is measured: the command of each, and where it notes its steps."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.speed.fixtures import temper_job

Command = Callable[[Path, int, Path], tuple[list[str], Path]]
"""Of material, steps and an empty folder: the command, and the file its steps go to."""


_PEERS = "benchmarks.speed.peers"


@dataclass(frozen=True)
class Arm:
    """One of those compared."""

    name: str
    command: Command


def arms(llamafactory: str | None) -> list[Arm]:
    """Return who is compared; LLaMA-Factory where its command is named."""
    peers = [
        Arm("bare loop", peer(f"{_PEERS}.bare_loop")),
        Arm("bare loop + compile", peer(f"{_PEERS}.bare_loop", "compile")),
        Arm("TRL default", peer(f"{_PEERS}.trl_sft", "default")),
        Arm("TRL packing `wrapped`", peer(f"{_PEERS}.trl_sft", "wrapped")),
        Arm("TRL packing `bfd`", peer(f"{_PEERS}.trl_sft", "bfd")),
        Arm("Temper", _temper(compiled=False)),
        Arm("Temper without guards", _temper_unguarded),
        Arm("Temper + compile", _temper(compiled=True)),
    ]
    if llamafactory:
        peers.append(
            Arm("LLaMA-Factory neat packing", peer(f"{_PEERS}.llamafactory", llamafactory))
        )
    return peers


def peer(script: str, *options: str) -> Command:
    """Return the command of a script that takes the material, the steps and where to note them."""

    def command(material: Path, steps: int, folder: Path) -> tuple[list[str], Path]:
        out = folder / "steps.jsonl"
        return [sys.executable, "-m", script, str(material), str(steps), str(out), *options], out

    return command


def _temper(*, compiled: bool) -> Command:
    def command(material: Path, steps: int, folder: Path) -> tuple[list[str], Path]:
        job = folder / "job.yaml"
        job.write_text(temper_job(material, steps, compiled=compiled))
        metrics = folder / "speed" / "latest" / "metrics.jsonl"
        return [sys.executable, "-m", "training", str(job), "--runs", str(folder)], metrics

    return command


def _temper_unguarded(material: Path, steps: int, folder: Path) -> tuple[list[str], Path]:
    job, run = folder / "job.yaml", folder / "run"
    job.write_text(temper_job(material, steps, compiled=False))
    script = "benchmarks.speed.peers.unguarded"
    return [sys.executable, "-m", script, str(job), str(run)], run / "metrics.jsonl"


def read_steps(path: Path) -> list[dict[str, float]]:
    """Return the whole lines of a file that is still being written."""
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
    return [row for row in rows if "tokens" in row]

"""File of results: JSON Lines, a row per case, appended as soon as the case has ended."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

Status = Literal["ok", "failed", "error", "not installed", "stopped"]
_PACKAGES = ("transformers", "trl", "peft", "accelerate", "deepspeed", "bitsandbytes", "flash-attn")


class ResultsFile:
    """Reader and writer of a file of results.

    Args:
        path: The file, which need not exist.
    """

    def __init__(self, path: Path):
        self.path = path

    def append(
        self, part: str, case: str, status: Status, device: str, values: Mapping[str, Any]
    ) -> None:
        """Append a row, on disk before this returns: the machine may be gone a moment later.

        Args:
            part: Name of the part.
            case: Name of the case.
            status: How it ended.
            device: `cpu` or `cuda`.
            values: What it measured, or `error`.
        """
        row = {
            "part": part,
            "case": case,
            "status": status,
            **values,
            "time": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            **machine(device),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def rows(self) -> list[dict[str, Any]]:
        """Return the complete rows, in order; a line that a dying machine cut short is dropped."""
        if not self.path.exists():
            return []
        rows = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return rows

    def latest(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Return the last row of each case."""
        return {(row["part"], row["case"]): row for row in self.rows()}

    def finished(self, part: str, device: str) -> set[str]:
        """Return the cases of a part that need not run again on a device."""
        done = ("ok", "not installed")
        rows = [r for (of, _), r in self.latest().items() if of == part and r["device"] == device]
        return {row["case"] for row in rows if row["status"] in done}


@lru_cache(maxsize=2)
def machine(device: str) -> dict[str, Any]:
    """Return the name, driver and memory of a device and the versions of the libraries."""
    facts: dict[str, Any] = {"device": device, "python": platform.python_version()}
    facts |= _gpu() if device == "cuda" else {"gpu": None, "processor": platform.machine()}
    return {**facts, "torch": _version("torch"), "versions": {n: _version(n) for n in _PACKAGES}}


def _gpu() -> dict[str, Any]:
    """Return the facts that the driver reports, without a context on the GPU."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total"]
    query += ["--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
        name, driver, mib = (part.strip() for part in done.stdout.splitlines()[0].split(","))
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        return {"gpu": "unknown", "driver": f"unknown: {error}", "gpu_memory_gib": None}
    return {"gpu": name, "driver": driver, "gpu_memory_gib": round(float(mib) / 1024, 2)}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None

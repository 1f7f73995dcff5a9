"""Run jobs on the simulated device in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.run_commands import ROOT, read_jsonl

Results = dict[str, dict[str, Any]]
"""By the name of a cell: how its job ended, its losses and its waits for the device."""
needs_cpu_build = pytest.mark.skipif(
    torch.version.cuda is not None or sys.platform != "linux",
    reason="the device is simulated in builds of torch for Linux without CUDA",
)


def run(jobs: Mapping[str, tuple[str | None, dict[str, Any]]], home: Path) -> Results:
    """Return the results of jobs.

    Args:
        jobs: By name: the fault to plant, if any, and the document.
        home: Folder of `write_inputs`.
    """
    (home / "jobs.json").write_text(json.dumps(jobs))
    ended = subprocess.run(
        [sys.executable, "-m", "tests.simulated_cuda.walk", str(home)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    results = {line.pop("cell"): line for line in read_jsonl(home / "results.jsonl")}
    assert results.keys() == jobs.keys()
    return results

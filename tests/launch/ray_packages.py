"""Ray in a folder of its own: the project's environment lacks it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from preparation.executors.ray_cluster import RAY

ROOT = Path(__file__).parents[2]


def ray_path() -> str:
    """Return the `PYTHONPATH` with which a process finds Ray and the project; skip without."""
    packages = Path.home() / ".cache/temper/tests" / RAY
    if not packages.is_dir():
        target = packages.with_name(f".{os.getpid()}-{RAY}")
        # What Ray requires is in the project's environment, whose versions it must work with.
        install = [sys.executable, "-m", "uv", "pip", "install", "--no-deps", RAY]
        done = subprocess.run(
            [*install, "--target", str(target)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"{RAY} cannot be installed: {done.stderr.strip()[-300:]}")
        target.rename(packages)
    return os.pathsep.join([str(packages), str(ROOT)])

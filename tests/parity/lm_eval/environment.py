"""Packages of lm-eval in a folder of their own, for processes of the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = "lm-eval==0.4.13"
_ROOT = Path(__file__).parents[3]


def lm_eval_environment(folder: Path) -> dict[str, str]:
    """Return the variables of a process that can import lm-eval; skips if it cannot be installed.

    Args:
        folder: Folder of the process, for its caches.
    """
    packages = Path.home() / ".cache/temper/tests" / PACKAGE
    if not packages.is_dir():
        install = [sys.executable, "-m", "uv", "pip", "install", "--no-deps", PACKAGE]
        target = packages.with_name(f".{os.getpid()}-{PACKAGE}")
        done = subprocess.run(
            [*install, "--target", str(target)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"{PACKAGE} cannot be installed: {done.stderr.strip()[-300:]}")
        target.rename(packages)
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(packages), str(_ROOT)]),
        "HF_DATASETS_CACHE": str(folder / "datasets"),
        "HF_HUB_OFFLINE": "1",
    }

"""Packages that the project's environment lacks, installed once per machine for slow tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_PLACE = Path.home() / ".cache/temper/tests"


def installed_packages(*requirements: str) -> Path:
    """Return a folder for `PYTHONPATH` with packages alone; skips if they cannot be installed.

    What they require is in the project's environment, with whose versions they must work.

    Args:
        requirements: Packages with exact versions; the first names the folder.
    """
    install = ["pip", "install", "--no-deps", *requirements, "--target"]
    return _built(requirements[0], lambda building: [[*install, str(building)]])


def installed_environment(requirement: str) -> Path:
    """Return the interpreter of an environment of its own; skips if it cannot be installed.

    Args:
        requirement: Package with its exact version, whose dependencies are installed too.
    """

    def commands(building: Path) -> list[list[str]]:
        python = str(building / "bin/python")
        return [
            ["venv", "--relocatable", "--python", sys.executable, str(building)],
            ["pip", "install", "--compile-bytecode", "--python", python, requirement],
        ]

    return _built(requirement, commands) / "bin/python"


def _built(name: str, commands: Callable[[Path], list[list[str]]]) -> Path:
    """Return a folder that commands of uv build, after they have succeeded.

    Args:
        name: Name of the folder.
        commands: Returns the commands, given the folder in which they build.
    """
    folder = _PLACE / name
    if folder.is_dir():
        return folder
    building = folder.with_name(f".{os.getpid()}-{name}")
    for arguments in commands(building):
        command = [sys.executable, "-m", "uv", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            shutil.rmtree(building, ignore_errors=True)
            pytest.skip(f"{name} cannot be installed: {done.stderr.strip()[-300:]}")
    try:
        building.rename(folder)
    except OSError:
        # Another process of the same test run was first.
        shutil.rmtree(building)
    return folder

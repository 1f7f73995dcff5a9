"""Workflow files of GitHub Actions, and a shell for their commands."""

import os
import subprocess
from typing import Any

import yaml

from tests.infra.conftest import ROOT


def read_workflow(name: str) -> dict[Any, Any]:
    """Return a workflow file; YAML 1.1 reads its key `on` as true."""
    text = (ROOT / ".github" / "workflows" / f"{name}.yml").read_text(encoding="utf-8")
    content: dict[Any, Any] = yaml.safe_load(text)
    return content


def shell(command: str, **variables: str) -> str:
    """Run a command with these variables alone, as a runner does, and return its output."""
    done = subprocess.run(
        ["bash", "-euc", command],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout

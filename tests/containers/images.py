"""Assertions that hold for every image."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.containers.engine import Engine, why_not
from tests.containers.image_layout import failure
from tests.run_commands import Run

image_test = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.image,
    pytest.mark.skipif(why_not() != "", reason=why_not()),
]
"""Marks of a module whose tests build an image and run it."""


def assert_is_healthy(engine: Engine, image: str, *, deepspeed: bool) -> None:
    """Assert that an image's health check reports what it has, and what it lacks.

    Args:
        engine: Container engine.
        image: Name of the image.
        deepspeed: The image must have DeepSpeed.
    """
    asked = engine.run("run", "--rm", image, "health", "--devices", "8")
    assert asked.returncode == 1, asked.stderr
    facts = json.loads(asked.stdout)
    assert facts["faults"] == ["8 accelerators are required, 0 are available"], (
        "and nothing else is wrong"
    )
    assert facts["packages"]["torch"].startswith("2.13.")
    assert facts["packages"]["temper"] == "0.2.0"
    assert (facts["packages"]["deepspeed"] is not None) == deepspeed
    assert facts["torch"]["gloo"]
    # Podman does not show an image's health check, but keeps its text.
    assert re.search(
        r"HEALTHCHECK .*/opt/temper/start.*health", engine.call("history", "--no-trunc", image)
    )
    engine.call("run", "--rm", image, "health")


def assert_is_kept(root: Path) -> None:
    """Assert that the run in `/opt/ml` has finished, and its model is in the upload folder."""
    run = Run(root / "checkpoints")
    assert run.state == "finished"
    assert [step["step"] for step in run.samples] == list(range(1, len(run.samples) + 1))
    for name in ("config.json", "model.safetensors", "tokenizer.json", "README.md"):
        assert (root / "model" / name).is_file()
    assert failure(root) == ""

"""The shipped pipeline on this machine: promoted, unchanged, then not better, so not promoted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.state import PipelineFolder
from registry.store import LocalRegistry
from tests.run_commands import ROOT

FILE = str(ROOT / "pipelines/docs.yaml")
SHORT, SHORTER = (f"steps.train.set={{train.max_steps: {steps}}}" for steps in (12, 8))


def python(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TEMPER_REGISTRY": "registry"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_better_model_is_promoted_and_a_worse_one_is_not(tmp_path: Path) -> None:
    run = ("temper", "pipeline", "run", FILE, "--ignore-cooldown", "--set")
    assert "docs: promoted: docs@1.0.0 is production" in python(tmp_path, *run, SHORT)
    assert "docs: unchanged: " in python(tmp_path, *run, SHORT)
    worse = python(tmp_path, *run, SHORTER)
    assert "NOT met: docstrings.bits_per_byte" in worse
    assert "register: not run: the gate better is closed" in worse
    assert [r.id for r in LocalRegistry(tmp_path / "registry").records()] == ["docs@1.0.0"]
    outcomes = [one.outcome for one in PipelineFolder(tmp_path / "pipeline-runs/docs").history]
    assert outcomes == ["promoted", "unchanged", "not promoted"]
    _check_container(tmp_path)


def _check_container(folder: Path) -> None:
    """Run the container of an evaluation step on the two models, as SageMaker lays them out."""
    champion, challenger = _models(folder)
    suite = folder / "suite"
    suite.mkdir()
    for file in (ROOT / "pipelines/docs/suite").iterdir():
        (suite / file.name).write_bytes(file.read_bytes())
    (suite / "gates.json").write_text(
        json.dumps({"better": {"better": ["docstrings.bits_per_byte"], "level": 0.05}})
    )
    command = ("containers.entrypoint", "evaluate", str(challenger), str(suite))
    options = ("--out", str(folder / "out"), "--gates", str(suite / "gates.json"))
    said = python(folder, *command, *options, "--against", str(champion))
    assert "gate better is closed" in said
    decided = json.loads((folder / "out/decisions.json").read_text())["better"]
    assert decided["decision"] == "closed" and "docstrings.bits_per_byte" in decided["unmet"][0]


def _models(folder: Path) -> tuple[Path, Path]:
    """Return the folders of the first and the second model."""
    results = sorted((folder / "pipeline-runs/docs/steps/train").glob("*/result.json"))
    found = sorted((json.loads(path.read_text()) for path in results), key=lambda r: r["started"])
    first, second = (folder / result["facts"]["folder"] / "model" for result in found)
    return first, second

"""Graphs compiled for Trainium are kept with the run, so that a resumed job finds them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from containers.entrypoint import devices
from tests.containers.image_layout import lay_out
from tests.run_commands import ROOT

NAME = "TORCH_NEURONX_NEFF_CACHE_DIR"
# Compiles a graph unless the cache has it, as TorchNeuron does, and fails then.
TRAINING = """
import os, pathlib, sys
cache = pathlib.Path(os.environ["TORCH_NEURONX_NEFF_CACHE_DIR"])
found = (cache / "graph.neff").exists()
cache.mkdir(parents=True, exist_ok=True)
(cache / "graph.neff").touch()
with open(sys.argv[1], "a") as log:
    log.write("found\\n" if found else "compiled\\n")
sys.exit(0 if found else 2)
"""
# The entry point on a machine whose device files are in a given folder, with a given command.
ENTRY_POINT = """
import json, pathlib, sys
from containers.entrypoint import devices, train
devices_folder, command = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])
of_folder = devices.compile_cache
devices.compile_cache = lambda run, environment: of_folder(run, environment, devices_folder)
train._command = lambda *_: command
sys.exit(train.train(train.Options()))
"""


@pytest.fixture
def trainium(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let this machine have a Trainium chip, and return the folder of its device files."""
    folder = tmp_path / "dev"
    folder.mkdir()
    (folder / "neuron0").touch()
    of_folder = devices.compile_cache
    monkeypatch.setattr(devices, "compile_cache", lambda run, env: of_folder(run, env, folder))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv(NAME, raising=False)
    return folder


def test_resumed_job_compiles_nothing_anew(
    trainium: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, log = lay_out(tmp_path / "ml", {"name": "x"}), tmp_path / "log"
    (root / "checkpoints/model").mkdir()
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(root))
    command = [sys.executable, "-c", TRAINING, str(log)]
    # In a process of its own: the entry point ends every descendant that a command left running.
    start = [sys.executable, "-c", ENTRY_POINT, str(trainium), json.dumps(command)]
    codes = [subprocess.run(start, cwd=ROOT, check=False).returncode for _ in range(2)]
    assert codes == [2, 0]
    assert log.read_text().split() == ["compiled", "found"]
    # SageMaker syncs this folder to S3 and back, as it does checkpoints.
    assert (root / "checkpoints/neuron-graphs/graph.neff").exists()


@pytest.mark.parametrize(
    ("folder", "environment", "chips", "expected"),
    [
        ("run", {}, True, "run/neuron-graphs"),
        ("run", {NAME: "/mine"}, True, None),
        ("run", {}, False, None),
        (None, {}, True, None),
    ],
)
def test_the_variable_is_set_only_where_it_counts(
    folder: str | None,
    environment: dict[str, str],
    chips: bool,
    expected: str | None,
    tmp_path: Path,
    trainium: Path,
) -> None:
    if not chips:
        (trainium / "neuron0").unlink()
    place = None if folder is None else tmp_path / folder
    settings: dict[str, Any] = devices.compile_cache(place, environment)
    assert settings == ({} if expected is None else {NAME: str(tmp_path / expected)})


def test_a_gpu_decides_against_it(trainium: Path, tmp_path: Path) -> None:
    (trainium / "nvidia0").touch()
    assert devices.compile_cache(tmp_path, dict(os.environ)) == {}

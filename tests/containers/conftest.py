"""Fixtures of the container tests: a container engine, and a job with its channels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.containers.engine import Engine
from tests.run_commands import ROOT, changed

SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine.here(tmp_path_factory.mktemp("engine"))


@pytest.fixture
def channel_job(document: dict[str, Any]) -> dict[str, Any]:
    """Return the tiny job, with model and rows in SageMaker's channels."""
    return changed(
        document,
        model={"source": "/opt/ml/input/data/model"},
        data={"train": "channel:train"},
        train={"max_steps": 40},
    )


@pytest.fixture
def channels(tiny_model: Path, pairs: Path) -> dict[str, Path]:
    return {"train": pairs, "model": tiny_model}


@pytest.fixture
def contract(channel_job: dict[str, Any], channels: dict[str, Path]) -> tuple[Any, dict[str, Path]]:
    """Return a contract job if it is available on this machine, else the tiny job."""
    if not SHARED.is_dir():
        return channel_job, channels
    job = yaml.safe_load((SHARED / "contract/jobs/03-sft-csv.yaml").read_text())
    job = changed(
        job,
        model={"source": "/opt/ml/input/data/model"},
        data={"train": "channel:train"},
        # Long enough to be stopped before the end.
        train={"num_train_epochs": 4},
    )
    return job, {
        "train": SHARED / "contract/data/medquad.csv",
        "model": SHARED / "data/models/stories260K-hf",
    }

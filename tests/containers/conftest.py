"""What the tests of container images start from: an engine, and a job with its channels."""

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
    """The tiny job, with its model and rows where SageMaker puts channels."""
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
    """A contract job where it is beside us, and our own tiny one elsewhere."""
    if not SHARED.is_dir():
        return channel_job, channels
    told = yaml.safe_load((SHARED / "contract/jobs/03-sft-csv.yaml").read_text())
    told = changed(
        told,
        model={"source": "/opt/ml/input/data/model"},
        data={"train": "channel:train"},
        # Long enough to be stopped half-way.
        train={"num_train_epochs": 4},
    )
    return told, {
        "train": SHARED / "contract/data/medquad.csv",
        "model": SHARED / "data/models/stories260K-hf",
    }

"""Fixtures of the tests of MLflow's registry: a real SQLite store, and registered versions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from registry.command import RegisterOptions, register_model
from registry.record import ModelRecord
from registry.remote.mlflow import MlflowRegistry
from registry.store import LocalRegistry
from tests.unit.registry.mlflow_store import Register
from tests.unit.registry.runs import evaluated_run


@pytest.fixture(scope="session")
def mlflow_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all modules: making its tables takes seconds."""
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture
def remote(mlflow_folder: Path) -> MlflowRegistry:
    return MlflowRegistry(f"sqlite:///{mlflow_folder / 'mlflow.db'}")


@pytest.fixture
def store(tmp_path: Path) -> LocalRegistry:
    return LocalRegistry(tmp_path / "registry")


@pytest.fixture
def register(tmp_path: Path, store: LocalRegistry) -> Register:
    def registered(model: str, run: str = "a", **changes: Any) -> ModelRecord:
        folder = evaluated_run(tmp_path, run, **changes)
        return register_model(RegisterOptions(folder, store.root, model))

    return registered

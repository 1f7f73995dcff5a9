"""Contents of an MLflow store, read with MLflow's own client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from registry.record import ModelRecord
from registry.remote.mlflow import MlflowRegistry

Register = Callable[..., ModelRecord]
"""Registers a run under a name: name of the model, name of the run, changes to the run."""


def client(remote: MlflowRegistry) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(remote.uri, remote.uri)


def numbers(remote: MlflowRegistry, name: str) -> list[int]:
    return sorted(int(v.version) for v in client(remote).search_model_versions(f"name='{name}'"))


def runs_of(remote: MlflowRegistry, name: str) -> list[Any]:
    experiment = client(remote).get_experiment_by_name(name)
    return list(client(remote).search_runs([experiment.experiment_id])) if experiment else []

"""MLflow run of a version: that of its training, or one made for its registration."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from registry.errors import RegistryError
from registry.record import ModelRecord
from registry.remote.mlflow_client import unless
from registry.remote.mlflow_files import record_digest
from registry.remote.mlflow_tags import key

_REGISTRATION = "temper.registration"
_MOST_METRICS = 1000


def run_of(client: Any, record: ModelRecord, artifacts: Path | None) -> Any:
    """Return the run whose artifacts will hold the files of a version.

    Args:
        client: MLflow client.
        record: The version.
        artifacts: Folder of the artifacts of new experiments; the server's choice if None.

    Raises:
        RegistryError: The experiment was deleted.
    """
    return _training_run(client, record) or _own_run(client, record, artifacts)


def log_evaluations(client: Any, run_id: str, record: ModelRecord) -> None:
    """Log each metric of each suite with its interval; logging it again changes nothing.

    Args:
        client: MLflow client.
        run_id: The run.
        record: The version.
    """
    from mlflow.entities import Metric

    metrics = []
    for evaluation in record.evaluations:
        created = int(datetime.fromisoformat(evaluation["created"]).timestamp() * 1000)
        for name, value in evaluation["metrics"].items():
            stem = f"evaluation/{key(evaluation['suite'])}/{key(name)}"
            for suffix, part in (("", "value"), ("/low", "low"), ("/high", "high")):
                metrics.append(Metric(f"{stem}{suffix}", float(value[part]), created, 0))
    for first in range(0, len(metrics), _MOST_METRICS):
        client.log_batch(run_id, metrics=metrics[first : first + _MOST_METRICS])


def _training_run(client: Any, record: ModelRecord) -> Any:
    """Return the run in which the training was tracked; None if this server does not have it."""
    if record.provenance.mlflow_run is not None:
        with unless("RESOURCE_DOES_NOT_EXIST"):
            run = client.get_run(record.provenance.mlflow_run)
            return run if run.info.lifecycle_stage == "active" else None
    return None


def _own_run(client: Any, record: ModelRecord, artifacts: Path | None) -> Any:
    experiment = _experiment(client, record.name, artifacts)
    mark = record_digest(record)
    earlier = client.search_runs(
        [experiment], f"tags.`{_REGISTRATION}` = '{mark}'", order_by=["attributes.start_time ASC"]
    )
    if earlier:
        return earlier[0]
    tags = {_REGISTRATION: mark, "temper.run": record.provenance.run}
    run = client.create_run(experiment, run_name=record.id, tags=tags)
    client.set_terminated(run.info.run_id)
    return run


def _experiment(client: Any, name: str, artifacts: Path | None) -> str:
    place = None if artifacts is None else (artifacts / name).as_uri()
    with unless("RESOURCE_ALREADY_EXISTS"):
        return str(client.create_experiment(name, artifact_location=place))
    experiment = client.get_experiment_by_name(name)
    if experiment.lifecycle_stage != "active":
        raise RegistryError(
            f"the MLflow experiment {name!r} was deleted. Restore it "
            f"(mlflow experiments restore -x {experiment.experiment_id}), or register the model "
            f"under another name with --name"
        )
    return str(experiment.experiment_id)

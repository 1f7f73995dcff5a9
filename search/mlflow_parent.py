"""MLflow run of a search, of which the runs of its trials are children."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from search.job_file import SearchJob
from search.mlflow_children import MlflowChildren
from search.seeds import SeedResult
from training.run_folder import write_whole
from training.tracking.background_publisher import QUIET
from training.tracking.mlflow_sync import EXPERIMENT_VARIABLE, PARENT_VARIABLE

_FILE = "mlflow.json"


class MlflowParent:
    """Parent run of a search.

    The trials write into the same tracking server: that of `MLFLOW_TRACKING_URI`, or else a SQLite
    file in the folder of the search.

    Args:
        search: The search.
        folder: Its folder.
    """

    def __init__(self, search: SearchJob, folder: Path):
        os.environ.update({key: value for key, value in QUIET.items() if key not in os.environ})
        from mlflow.tracking import MlflowClient

        uri = os.environ.get("MLFLOW_TRACKING_URI")
        self._uri = uri or f"sqlite:///{folder.resolve() / 'mlflow.db'}"
        self._client: Any = MlflowClient(self._uri)
        self._experiment = search.job.name
        experiment = self._client.get_experiment_by_name(self._experiment)
        if experiment is None:
            home = None if uri else (folder.resolve() / "mlartifacts").as_uri()
            identifier = self._client.create_experiment(self._experiment, artifact_location=home)
        else:
            identifier = experiment.experiment_id
        self._experiment_id = identifier
        self._run = self._earlier(folder) or self._new(identifier, search, folder)

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables of the trials."""
        return {
            "MLFLOW_TRACKING_URI": self._uri,
            EXPERIMENT_VARIABLE: self._experiment,
            PARENT_VARIABLE: self._run,
        }

    @property
    def children(self) -> MlflowChildren:
        """Runs of trials that do not write there themselves."""
        return MlflowChildren(self._client, self._experiment_id, self._run)

    def end(self, best: float | None, result: SeedResult | None, files: list[Path]) -> None:
        """Log the result and end the run.

        Args:
            best: Objective of the best trial.
            result: Values over seeds.
            files: Files to attach.
        """
        if best is not None:
            self._client.log_metric(self._run, "best", best)
        if result is not None and result.fresh is not None:
            self._client.log_metric(self._run, "best_other_seeds", result.fresh)
        for file in files:
            self._client.log_artifact(self._run, str(file))
        self._client.set_terminated(self._run, "FINISHED")

    def _earlier(self, folder: Path) -> str | None:
        from mlflow.exceptions import MlflowException

        with suppress(OSError, ValueError, KeyError, MlflowException):
            run = str(json.loads((folder / _FILE).read_text())["run_id"])
            self._client.update_run(run, status="RUNNING")
            return run
        return None

    def _new(self, experiment: str, search: SearchJob, folder: Path) -> str:
        run = self._client.create_run(experiment, run_name=f"search {folder.name}")
        settings = search.settings
        facts = {
            "algorithm": settings.algorithm,
            "early_stopping": settings.early_stopping,
            "objective": settings.objective.metric,
            "direction": settings.objective.direction,
            **{f"space.{key}": str(values) for key, values in settings.space.items()},
        }
        for name, fact in facts.items():
            self._client.log_param(run.info.run_id, name, fact)
        write_whole(folder / _FILE, json.dumps({"run_id": run.info.run_id}) + "\n")
        return str(run.info.run_id)

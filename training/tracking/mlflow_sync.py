"""Synchronization of a run with MLflow: `python -m training.tracking.mlflow_sync RUN_FOLDER RUNS`.

It is a separate process at the lowest priority, so that neither a slow server nor a full disk can
affect training. It reads the run folder and exits after its standard input is closed, which happens
when the run ends or when its parent dies.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from training.report.run_data import RunData, read_run_data

logger = logging.getLogger("training.tracking.mlflow_sync")

EXPERIMENT_VARIABLE = "MLFLOW_EXPERIMENT_NAME"
"""MLflow's variable with the name of the experiment, in place of the job's name."""
PARENT_VARIABLE = "TEMPER_MLFLOW_PARENT_RUN"
"""Variable with the id of the MLflow run of which this one is a child."""
_EVERY_S = 5.0
_LONGEST_END_S = 600
_MOST_METRICS = 1000
_MOST_PARAMS = 100
_LONGEST_PARAM = 6000
_ARTIFACTS = ("job.yaml", "manifest.json", "data.json", "evaluation.json", "report.html")
_STATUS = {"finished": "FINISHED", "failed": "FAILED", "running": "KILLED", "stopped": "KILLED"}


class MlflowSync:
    """Synchronization of a run folder with one MLflow run, also across resumes.

    Args:
        folder: The run folder.
        runs: Folder of the run folders; it holds the SQLite store if no server is configured.
    """

    def __init__(self, folder: Path, runs: Path):
        self.folder = folder
        self.runs = runs
        self._client: Any = None
        self._run_id = ""
        self._done = {"loss": -1, "eval_loss": -1}
        self._offset = 0
        self._inode = 0

    def push(self) -> None:
        """Send the new rows of `metrics.jsonl`."""
        if self._client is None:
            self._open()
        from mlflow.entities import Metric

        started = _started(read_run_data(self.folder))
        batch: list[Any] = []
        reached = dict(self._done)
        rows, offset = self._new_rows()
        now = started
        for row in rows:
            kind = "loss" if "loss" in row else "eval_loss"
            if "seconds" in row:
                now = started + int(1000 * row["seconds"])
            if row["step"] <= reached[kind]:
                continue
            reached[kind] = row["step"]
            metrics = [Metric(_key(k), float(v), now, row["step"]) for k, v in _numbers(row)]
            if len(batch) + len(metrics) > _MOST_METRICS:
                self._client.log_batch(self._run_id, metrics=batch)
                batch = []
            batch += metrics
        if batch:
            self._client.log_batch(self._run_id, metrics=batch)
        self._done, self._offset = reached, offset

    def close(self) -> None:
        """Send the remaining rows, the artifacts and the final state of the run."""
        self.push()
        run_data = read_run_data(self.folder)
        for name in _ARTIFACTS:
            if (self.folder / name).exists():
                self._client.log_artifact(self._run_id, str(self.folder / name))
        self._client.set_terminated(self._run_id, _STATUS.get(run_data.state, "KILLED"))

    def _open(self) -> None:
        # Takes seconds to import; training does not wait for this process.
        from filelock import FileLock
        from mlflow.tracking import MlflowClient

        uri = os.environ.get("MLFLOW_TRACKING_URI")
        own = f"sqlite:///{self.runs.resolve() / 'mlflow.db'}"
        # Two runs that start at the same time must not both create the tables.
        with FileLock(self.runs / ".mlflow.lock", timeout=60):
            client = MlflowClient(uri or own)
            experiment = self._experiment(client, None if uri else self.runs.resolve())
            self._run_id = self._earlier(client) or self._new(client, experiment)
        self._client = client

    def _experiment(self, client: Any, home: Path | None) -> str:
        name = os.environ.get(EXPERIMENT_VARIABLE) or (self._pipeline or self.folder).parent.name
        if experiment := client.get_experiment_by_name(name):
            return str(experiment.experiment_id)
        place = None if home is None else (home / "mlartifacts" / name).as_uri()
        return str(client.create_experiment(name, artifact_location=place))

    def _earlier(self, client: Any) -> str | None:
        """Return the id of the MLflow run of an earlier start, set to running again."""
        from mlflow.exceptions import MlflowException

        try:
            run_id = str(json.loads((self.folder / "mlflow.json").read_text())["run_id"])
            client.update_run(run_id, status="RUNNING")
            for key in self._done:
                history = client.get_metric_history(run_id, key)
                self._done[key] = max((metric.step for metric in history), default=-1)
        except (OSError, ValueError, KeyError, MlflowException):
            return None
        return run_id

    def _new(self, client: Any, experiment: str) -> str:
        from mlflow.entities import Param

        run_data = read_run_data(self.folder)
        name = self.folder.name
        if self._pipeline:
            name = f"{self._pipeline.name}/{name}"
        run = client.create_run(
            experiment,
            start_time=_started(run_data),
            tags=_tags(run_data, self.folder),
            run_name=name,
        )
        run_id = str(run.info.run_id)
        flat = [Param(_key(k), v[:_LONGEST_PARAM]) for k, v in flattened(run_data.job)]
        for first in range(0, len(flat), _MOST_PARAMS):
            client.log_batch(run_id, params=flat[first : first + _MOST_PARAMS])
        building = self.folder / f".mlflow.json.{os.getpid()}"
        building.write_text(json.dumps({"run_id": run_id}) + "\n", encoding="utf-8")
        building.replace(self.folder / "mlflow.json")
        return run_id

    @property
    def _pipeline(self) -> Path | None:
        return self.folder.parents[1] if self.folder.parent.name == "stages" else None

    def _new_rows(self) -> tuple[list[dict[str, Any]], int]:
        """Return the complete rows not read so far, and the offset after them."""
        with (self.folder / "metrics.jsonl").open("rb") as file:
            inode = os.fstat(file.fileno()).st_ino
            if inode != self._inode:
                # A resume has replaced the file by a truncated one: read it from the start.
                self._inode, self._offset = inode, 0
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        return [json.loads(line) for line in whole.splitlines()], self._offset + len(whole)


def flattened(document: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the leaves of a job with their dotted keys; lists as JSON."""
    if isinstance(document, dict) and document:
        for key, value in document.items():
            yield from flattened(value, f"{path}.{key}" if path else str(key))
    else:
        plain = document if isinstance(document, str) else json.dumps(document, ensure_ascii=False)
        yield path, plain


def follow(sync: MlflowSync, ended: int) -> int:
    """Synchronize until the file descriptor `ended` is closed; return an exit code.

    Failures are logged once and retried; only the last attempt decides the exit code.
    """
    metrics = sync.folder / "metrics.jsonl"
    before = _stamp(metrics)
    warned = False
    while not select.select([ended], [], [], _EVERY_S)[0]:
        # Wait for the first logged step: loading MLflow would slow down the start of training.
        if _stamp(metrics) == before:
            continue
        try:
            sync.push()
        except Exception as error:
            if not warned:
                logger.warning("MLflow could not be reached, will retry: %s", error, exc_info=True)
            warned = True
    if not metrics.exists():
        return 0
    signal.alarm(_LONGEST_END_S)
    try:
        sync.close()
    except Exception as error:
        logger.error("%s: %s", type(error).__name__, error, exc_info=not warned)
        return 1
    return 0


def _tags(run_data: RunData, folder: Path) -> dict[str, str]:
    hardware = run_data.manifest.get("hardware") or {}
    tags = {
        "mlflow.source.git.commit": run_data.manifest.get("commit"),
        "temper.version": run_data.manifest.get("temper"),
        "temper.run_folder": str(folder.resolve()),
        "temper.device": hardware.get("device_name"),
        "temper.data": (run_data.manifest.get("data") or {}).get("train"),
        "mlflow.parentRunId": os.environ.get(PARENT_VARIABLE),
    }
    return {key: str(value) for key, value in tags.items() if value}


def _started(run_data: RunData) -> int:
    """Return the time of the latest start in milliseconds; `seconds` in a row counts from it."""
    stamps = [run_data.manifest.get("started"), *(run_data.manifest.get("resumed") or ())]
    try:
        return int(datetime.fromisoformat(str(stamps[-1])).timestamp() * 1000)
    except ValueError:
        return int(time.time() * 1000)


def _numbers(row: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for key, value in row.items():
        if key != "step" and isinstance(value, int | float):
            yield key, value


def _key(name: str) -> str:
    """Return a name with every character replaced that MLflow does not permit."""
    return "".join(c if c.isalnum() or c in "_-./: " else "_" for c in name)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def main(folder: Path, runs: Path) -> int:
    """Synchronize the run in `folder` until standard input is closed; return an exit code."""
    os.nice(19)
    # A spot interruption sends SIGTERM to every process; this one must outlive the training.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logging.basicConfig(format="%(asctime)s %(levelname)s: %(message)s", level=logging.WARNING)
    return follow(MlflowSync(folder, runs), sys.stdin.fileno())


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))

"""Mirror a run to MLflow: `python -m training.tracking.mlflow_sync RUN_FOLDER RUNS`.

A process of its own at the lowest priority, so that neither a slow server nor a full disk reaches
the training. It reads the run folder, and ends soon after its standard input does: when the run
has ended, or whoever started it is no more.
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

_EVERY_S = 5.0
_LONGEST_END_S = 600
_MOST_METRICS = 1000
_MOST_PARAMS = 100
_LONGEST_PARAM = 6000
_ARTIFACTS = ("job.yaml", "manifest.json", "data.json", "evaluation.json", "report.html")
_STATUS = {"finished": "FINISHED", "failed": "FAILED", "running": "KILLED", "stopped": "KILLED"}


class MlflowSync:
    """One run of ours as one run of MLflow's, however often it is resumed.

    Args:
        folder: The run folder.
        runs: Where run folders are; MLflow's file lies there when no server is named.
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
        """Send what is new in `metrics.jsonl`."""
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
            found = [Metric(_key(k), float(v), now, row["step"]) for k, v in _numbers(row)]
            if len(batch) + len(found) > _MOST_METRICS:
                self._client.log_batch(self._run_id, metrics=batch)
                batch = []
            batch += found
        if batch:
            self._client.log_batch(self._run_id, metrics=batch)
        self._done, self._offset = reached, offset

    def close(self) -> None:
        """Send the rest, the files people look for, and how the run ended."""
        self.push()
        run_data = read_run_data(self.folder)
        for name in _ARTIFACTS:
            if (self.folder / name).exists():
                self._client.log_artifact(self._run_id, str(self.folder / name))
        self._client.set_terminated(self._run_id, _STATUS.get(run_data.state, "KILLED"))

    def _open(self) -> None:
        # Seconds to import, and no run waits for it here.
        from filelock import FileLock
        from mlflow.tracking import MlflowClient

        uri = os.environ.get("MLFLOW_TRACKING_URI")
        own = f"sqlite:///{self.runs.resolve() / 'mlflow.db'}"
        # Two runs that start together must not both make the tables.
        with FileLock(self.runs / ".mlflow.lock", timeout=60):
            client = MlflowClient(uri or own)
            experiment = self._experiment(client, None if uri else self.runs.resolve())
            self._run_id = self._earlier(client) or self._new(client, experiment)
        self._client = client

    def _experiment(self, client: Any, home: Path | None) -> str:
        name = (self._pipeline or self.folder).parent.name
        if found := client.get_experiment_by_name(name):
            return str(found.experiment_id)
        place = None if home is None else (home / "mlartifacts" / name).as_uri()
        return str(client.create_experiment(name, artifact_location=place))

    def _earlier(self, client: Any) -> str | None:
        """Return the MLflow run that an earlier start of this run made, ready to go on."""
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
        """Return whole lines not read so far, and how far they go."""
        with (self.folder / "metrics.jsonl").open("rb") as file:
            inode = os.fstat(file.fileno()).st_ino
            if inode != self._inode:
                # A resume has cut the file: another one under the old name.
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
    """Mirror until the file descriptor `ended` closes; return an exit code.

    A failure is written to the log once and tried again: only the last attempt counts.
    """
    metrics = sync.folder / "metrics.jsonl"
    before = _stamp(metrics)
    warned = False
    while not select.select([ended], [], [], _EVERY_S)[0]:
        # Not before training is under way: loading MLflow would slow down its start.
        if _stamp(metrics) == before:
            continue
        try:
            sync.push()
        except Exception as error:
            if not warned:
                logger.warning("not mirrored for now: %s", error, exc_info=True)
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
    }
    return {key: str(value) for key, value in tags.items() if value}


def _started(run_data: RunData) -> int:
    """Return when this start of the run began, in milliseconds; `seconds` counts from there."""
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
    """Return a name with only what MLflow allows in one."""
    return "".join(c if c.isalnum() or c in "_-./: " else "_" for c in name)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def main(folder: Path, runs: Path) -> int:
    """Mirror the run in `folder` until standard input ends."""
    os.nice(19)
    # A machine that is taken away tells every process; this one ends with its run.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logging.basicConfig(format="%(asctime)s %(levelname)s: %(message)s", level=logging.WARNING)
    return follow(MlflowSync(folder, runs), sys.stdin.fileno())


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))

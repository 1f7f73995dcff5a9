"""Publisher of a run's report and of its MLflow run, in the parent process.

The parent idles while its workers train and outlives them, so that a killed run is reported too.
An error in here is a warning and never makes a run fail.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from training.console import say
from training.errors import Interrupted
from training.report.page import write_report

logger = logging.getLogger(__name__)

_PATIENCE_S = 5.0
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "GIT_PYTHON_REFRESH": "quiet",
}
"""Environment variables that turn off MLflow's telemetry and its messages in the terminal."""


@dataclass
class _MlflowProcess:
    process: subprocess.Popen[bytes]
    folder: Path

    def end(self) -> None:
        """Close its standard input, which tells it that the run has ended."""
        assert self.process.stdin is not None
        self.process.stdin.close()


class BackgroundPublisher:
    """Publisher of the runs of one command.

    Args:
        runs: Folder that contains the run folders.
    """

    def __init__(self, runs: Path):
        self.runs = runs
        self._mlflow: list[_MlflowProcess] = []

    def follow(self, folder: Path) -> None:
        """Start a process that synchronizes a run with MLflow."""
        command = [
            sys.executable,
            "-m",
            "training.tracking.mlflow_sync",
            str(folder),
            str(self.runs),
        ]
        try:
            with (folder / "logs" / "mlflow.log").open("wb") as log:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **QUIET},
                    # Ctrl-C is for the training: MLflow still has to get the final state.
                    start_new_session=True,
                )
        except OSError as error:
            logger.warning("this run is not tracked in MLflow: %s", error)
            return
        self._mlflow.append(_MlflowProcess(process, folder))

    def ended(self, folder: Path) -> None:
        """Write the report of a run or pipeline that has ended; let its MLflow process finish."""
        _report(folder)
        for sync in self._mlflow:
            if sync.folder == folder:
                sync.end()

    def close(self) -> None:
        """Wait up to five seconds for MLflow; slower processes finish in the background."""
        deadline = time.monotonic() + _PATIENCE_S
        for sync in self._mlflow:
            sync.end()
        for sync in self._mlflow:
            log = sync.folder / "logs" / "mlflow.log"
            try:
                code = sync.process.wait(max(0.0, deadline - time.monotonic()))
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                say(f"still writing to MLflow in the background; the result will be in {log}")
                continue
            if code != 0:
                logger.warning("MLflow is incomplete: %s (%s)", _last_line(log), log)


def _report(folder: Path) -> None:
    try:
        write_report(folder)
    except Interrupted:
        raise
    except KeyboardInterrupt:
        logger.warning("the report of %s was skipped: Ctrl-C", folder)
    except Exception as error:
        log = folder / "logs" / "report.log"
        logger.warning("the report could not be written: %s (traceback in %s)", error, log)
        try:
            log.parent.mkdir(exist_ok=True)
            log.write_text(traceback.format_exc(), encoding="utf-8")
        except OSError:
            return


def _last_line(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").split("\n")
    except OSError:
        return "its log is missing"
    # The traceback follows the line with the error.
    matching = [line for line in lines if " ERROR: " in line] or [line for line in lines if line]
    if not matching:
        return "its log is empty"
    return matching[-1].partition(" ERROR: ")[2] or matching[-1]

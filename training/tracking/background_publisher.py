"""What the parent process shows of a run beside its folder: the report, and MLflow.

It idles while its workers train, and outlives them: so it can tell of a run that was killed, too.
Nothing here makes a run fail.
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
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "GIT_PYTHON_REFRESH": "quiet",
}


@dataclass
class _MlflowProcess:
    process: subprocess.Popen[bytes]
    folder: Path

    def let_go(self) -> None:
        """Tell it that its run has ended."""
        assert self.process.stdin is not None
        self.process.stdin.close()


class BackgroundPublisher:
    """Publishes the runs of one command.

    Args:
        runs: Where run folders are.
    """

    def __init__(self, runs: Path):
        self.runs = runs
        self._mlflow: list[_MlflowProcess] = []

    def follow(self, folder: Path) -> None:
        """Mirror a run to MLflow from now on, in a process of its own."""
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
                    env={**os.environ, **_QUIET},
                    # Ctrl-C is for the training; the sync still has to say how that ended.
                    start_new_session=True,
                )
        except OSError as error:
            logger.warning("this run is not mirrored to MLflow: %s", error)
            return
        self._mlflow.append(_MlflowProcess(process, folder))

    def ended(self, folder: Path) -> None:
        """Write the report of a run or a pipeline whose state is written, and end its sync."""
        _report(folder)
        for sync in self._mlflow:
            if sync.folder == folder:
                sync.let_go()

    def close(self) -> None:
        """Wait a little for what is still on its way to MLflow; the rest goes on by itself."""
        deadline = time.monotonic() + _PATIENCE_S
        for sync in self._mlflow:
            sync.let_go()
        for sync in self._mlflow:
            log = sync.folder / "logs" / "mlflow.log"
            try:
                code = sync.process.wait(max(0.0, deadline - time.monotonic()))
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                say(f"MLflow is being written on in the background; {log} says how it went")
                continue
            if code != 0:
                logger.warning("not everything reached MLflow: %s (%s)", _last_line(log), log)


def _report(folder: Path) -> None:
    try:
        write_report(folder)
    except Interrupted:
        raise
    except KeyboardInterrupt:
        logger.warning("the report of %s was left out: Ctrl-C", folder)
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
        return "it left no word"
    # A traceback follows the line that matters.
    said = [line for line in lines if " ERROR: " in line] or [line for line in lines if line]
    return said[-1].partition(" ERROR: ")[2] or said[-1] if said else "it left no word"

"""CloudWatch metrics of a run on a HyperPod cluster, published by a thread of the entry point.

The contract is in `catalog/run_metrics.py`. The thread outlives each start of training, so `failed`
is published only when no restart follows. A fault of publication never affects training.
"""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from account.cloudwatch import MetricPublisher
from account.errors import AccountError
from catalog.exit_codes import STOPPED
from catalog.run_metrics import (
    CREATOR_DIMENSION,
    ENDED,
    HOST_DIMENSION,
    JOB_DIMENSION,
    PERIOD_SECONDS,
    creator_dimension,
    host_name,
)
from containers.entrypoint.logged_rows import LoggedRows
from containers.entrypoint.node_identity import NodeIdentity

NAMESPACE = "TEMPER_METRICS_NAMESPACE"
JOB = "TEMPER_METRICS_JOB"
CREATOR = "TEMPER_METRICS_CREATOR"
_LOGGED = ("loss", "tokens_per_second")
_CLOSE_TIMEOUT_S = 20.0
_MAX_SLURM_RESTARTS = 5
"""Starts after which the batch script no longer retries a signal from outside."""
_NOT_FINITE = re.compile(r"\bloss of step \d+ is (nan|-?inf)\b")
_GPU_QUERY = ("nvidia-smi", "--query-gpu=utilization.gpu,memory.used,memory.total")
Put = Callable[[list[dict[str, Any]]], None]


def start_run_metrics(
    environment: Mapping[str, str], identity: NodeIdentity, folder: Path | None
) -> RunMetrics | None:
    """Start publishing if the launcher asks for it; return None otherwise.

    Args:
        environment: Environment variables of this process.
        identity: This node among the nodes of the run.
        folder: Run folder; None if unknown, and then only the metrics of this host are published.
    """
    namespace, job = environment.get(NAMESPACE), environment.get(JOB)
    if not namespace or not job:
        return None
    metrics = RunMetrics(
        MetricPublisher(namespace).put,
        job,
        identity.rank,
        folder if identity.is_first else None,
        creator=environment.get(CREATOR, ""),
        restarts=int(environment.get("SLURM_RESTART_COUNT") or 0),
    )
    metrics.start()
    return metrics


class RunMetrics:
    """Metrics of this host, and on the first node those of the run.

    Args:
        put: Function that publishes metric data and raises `AccountError`.
        job: Name of the job.
        rank: Rank of this node.
        folder: Run folder on the first node; None on the others.
        creator: Login name of the person who submitted it; empty if unknown.
        restarts: Number of times that Slurm has requeued the job.
    """

    def __init__(
        self,
        put: Put,
        job: str,
        rank: int,
        folder: Path | None,
        *,
        creator: str = "",
        restarts: int = 0,
    ):
        self._put = put
        self._job = job
        self._host = host_name(job, rank + 1)
        self._rows = LoggedRows(folder) if folder else None
        self._creator = creator
        self._restarts = restarts
        self._running = False
        self._not_finite = False
        self._warned = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="run-metrics", daemon=True)

    def start(self) -> None:
        """Start publishing each minute."""
        self._thread.start()

    def close(self, code: int, message: str, *, requeued: bool = False) -> None:
        """Publish what is left, and the end of the run if it is final.

        Args:
            code: Exit code of the container.
            message: Reason of a failure.
            requeued: The scheduler starts a run again that stopped now.
        """
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(timeout=_CLOSE_TIMEOUT_S)
        data = list(self._job_data())
        if self._rows is not None:
            if _NOT_FINITE.search(message) and not self._not_finite:
                data.append(self._of_job("loss_not_finite", 1))
            if code not in (0, STOPPED) and not self._will_be_requeued(code):
                data.append(self._of_job("failed", code))
            if self._creator and not self._will_be_requeued(code) and not requeued:
                data.append(self._of_creator(ENDED, code))
        self._publish(data)

    def tick(self) -> None:
        """Publish the metrics of the last minute."""
        self._publish([*self._job_data(), *self._host_data()])

    def _loop(self) -> None:
        while not self._ended.wait(PERIOD_SECONDS):
            self.tick()

    def _will_be_requeued(self, code: int) -> bool:
        return code > 128 and self._restarts < _MAX_SLURM_RESTARTS

    def _job_data(self) -> Iterator[dict[str, Any]]:
        if self._rows is None:
            return
        for row in self._rows.new():
            if isinstance(row.get("loss"), int | float):
                self._running = True
                if not math.isfinite(row["loss"]) and not self._not_finite:
                    self._not_finite = True
                    yield self._of_job("loss_not_finite", 1)
            for name in _LOGGED:
                value = row.get(name)
                if isinstance(value, int | float) and math.isfinite(value):
                    yield self._of_job(name, value)
        if self._running:
            yield self._of_job("running", 1)
            if self._creator:
                yield self._of_creator("running", 1)

    def _host_data(self) -> Iterator[dict[str, Any]]:
        for name, value in host_metrics().items():
            yield self._datum(name, HOST_DIMENSION, self._host, value)

    def _of_job(self, name: str, value: float) -> dict[str, Any]:
        return self._datum(name, JOB_DIMENSION, self._job, value)

    def _of_creator(self, name: str, value: float) -> dict[str, Any]:
        datum = self._of_job(name, value)
        creator = {"Name": CREATOR_DIMENSION, "Value": creator_dimension(self._creator)}
        return {**datum, "Dimensions": [*datum["Dimensions"], creator]}

    @staticmethod
    def _datum(name: str, dimension: str, of: str, value: float) -> dict[str, Any]:
        return {
            "MetricName": name,
            "Dimensions": [{"Name": dimension, "Value": of}],
            "Value": float(value),
        }

    def _publish(self, data: list[dict[str, Any]]) -> None:
        """Publish, and report only the first fault: the next minute may succeed."""
        if not data:
            return
        try:
            self._put(data)
        except AccountError as error:
            if not self._warned:
                self._warned = True
                sys.stderr.write(
                    f"warning: the metrics of this run are not in CloudWatch, so no alarm watches "
                    f"it; training continues: {error}\n"
                )
                sys.stderr.flush()


def host_metrics() -> dict[str, float]:
    """Return the metrics of this host; those of GPUs are sums over the GPUs, as SageMaker's."""
    disk = shutil.disk_usage("/")
    metrics = {"DiskUtilization": 100 * disk.used / disk.total}
    try:
        done = subprocess.run(
            [*_GPU_QUERY, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        gpus = [[float(v) for v in line.split(",")] for line in done.stdout.splitlines() if line]
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return metrics  # no NVIDIA driver on this host, or it does not answer
    if gpus:
        metrics |= {
            "GPUUtilization": sum(busy for busy, _, _ in gpus),
            "GPUMemoryUtilization": sum(100 * used / total for _, used, total in gpus),
            "GPUCount": len(gpus),
        }
    return metrics

"""Lifecycle of one emulated processing job: InProgress → Completed, Failed, Stopping → Stopped.

https://docs.aws.amazon.com/sagemaker/latest/dg/build-your-own-processing-container.html
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

from emulator.containers import TICK_S, Container, end_containers, start_container
from emulator.instance import ContainerRuntime, ContainerSpec
from emulator.job_lifecycle import ServiceTimings
from emulator.log_sink import LogSink
from emulator.s3_sync import EmulatedBucket
from launch.aws.s3 import S3Uri

_DEFAULT_RUNTIME_S = 86_400
_MESSAGE_CHARACTERS = 1024


class EmulatedProcessingJob:
    """Processing job that runs in a thread from its creation to its end.

    Args:
        request: Accepted CreateProcessingJob request, with the `ProcessingJobArn`.
        home: Folder for the disks of its machines.
        bucket: S3 operations of the service.
        log_sink: Writer of logs and events.
        runtime: Runs the containers.
        timings: Delays and periods of the service.
        credentials: Environment variables by which containers reach the emulated account. A real
            job receives the credentials of its role.
    """

    def __init__(
        self,
        request: dict[str, Any],
        *,
        home: Path,
        bucket: EmulatedBucket,
        log_sink: LogSink,
        runtime: ContainerRuntime,
        timings: ServiceTimings,
        credentials: dict[str, str],
    ):
        self.request = request
        self._home, self._bucket, self._log_sink = home, bucket, log_sink
        self._runtime, self._timings, self._credentials = runtime, timings, credentials
        self._lock = threading.Lock()
        now = time.time()
        self._description: dict[str, Any] = {
            **request,
            "ProcessingJobStatus": "InProgress",
            "CreationTime": now,
            "LastModifiedTime": now,
        }
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Start the job's thread."""
        self._log_sink.publish_state(self.describe())
        self._thread.start()

    def describe(self) -> dict[str, Any]:
        """Return the job as DescribeProcessingJob does, and its tags."""
        with self._lock:
            return dict(self._description)

    @property
    def status(self) -> str:
        """Status of the job."""
        return str(self._description["ProcessingJobStatus"])

    def stop(self) -> bool:
        """Stop the job; return False if it has ended, or is being stopped already."""
        with self._lock:
            running = self.status == "InProgress"
            if running:
                self._description["ProcessingJobStatus"] = "Stopping"
            return running

    def join(self, timeout_s: float) -> None:
        """Wait for the end of the job."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._execute()
        except Exception as error:  # the service, too, reports its own faults as a failed job
            self._end("Failed", reason=f"InternalServerError: {error!r}")

    def _execute(self) -> None:
        count = self.request["ProcessingResources"]["ClusterConfig"]["InstanceCount"]
        disks = {f"algo-{n + 1}": self._home / f"algo-{n + 1}" for n in range(count)}
        for host, disk in disks.items():
            self._fill(disk / "ml", host, list(disks))
            if problem := self._download(disk / "ml"):
                self._end("Failed", reason=problem)
                return
        began = time.time()
        self._description["ProcessingStartTime"] = began
        containers = self._start_containers(disks)
        overtime = self._supervise(containers, began)
        codes = [container.wait() for container in containers]
        message = self._exit_message(disks)
        if self.status == "Stopping" or overtime:
            self._end("Stopped", message)
        elif any(codes):
            code = max(codes, key=abs)
            self._end("Failed", message, f"AlgorithmError: , exit code: {code}")
        else:
            self._upload(next(iter(disks.values())) / "ml")
            self._end("Completed", message)

    def _fill(self, ml: Path, host: str, hosts: list[str]) -> None:
        """Create `/opt/ml` without the data."""
        for folder in ("config", "processing/input", "output"):
            (ml / folder).mkdir(parents=True)
        for output in self.request.get("ProcessingOutputConfig", {}).get("Outputs", ()):
            _inside(ml, output["S3Output"]["LocalPath"]).mkdir(parents=True, exist_ok=True)
        files = {
            "resourceconfig": {"current_host": host, "hosts": hosts},
            "processingjobconfig": self.request,
        }
        for name, content in files.items():
            (ml / "config" / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")

    def _download(self, ml: Path) -> str:
        """Download the inputs of a machine; return the error, if any."""
        for item in self.request.get("ProcessingInputs", ()):
            uri, to = item["S3Input"]["S3Uri"], _inside(ml, item["S3Input"]["LocalPath"])
            to.mkdir(parents=True, exist_ok=True)
            if not self._bucket.download(S3Uri.parse(uri), to):
                return (
                    "ClientError: Data download failed:No S3 objects found under S3 URL "
                    f'"{uri}" given in input data source.'
                )
        return ""

    def _start_containers(self, disks: dict[str, Path]) -> list[Container]:
        specification = self.request["AppSpecification"]
        network = self.request.get("NetworkConfig", {})
        return [
            start_container(
                self._runtime,
                ContainerSpec(
                    ml=disk / "ml",
                    root=disk,
                    host=host,
                    hosts=tuple(disks),
                    environment={**self._credentials, **self.request.get("Environment", {})},
                    isolated=network.get("EnableNetworkIsolation", False),
                    image=specification["ImageUri"],
                    job=self.request["ProcessingJobName"],
                    arguments=tuple(specification.get("ContainerArguments", ())),
                ),
                self._log_sink,
                attempt=1,
            )
            for host, disk in disks.items()
        ]

    def _supervise(self, containers: list[Container], began: float) -> bool:
        """Wait until all containers end, or end them; return whether the time was exceeded.

        A container that fails does not end the others here: nodes must do that themselves.
        """
        limits = self.request.get("StoppingCondition", {})
        limit_s: int = limits.get("MaxRuntimeInSeconds", _DEFAULT_RUNTIME_S)
        while any(container.process.poll() is None for container in containers):
            overtime = time.time() - began > limit_s
            if overtime or self.status == "Stopping":
                end_containers(self._runtime, containers, self._timings.grace_s)
                return overtime
            time.sleep(TICK_S)
        return False

    def _exit_message(self, disks: dict[str, Path]) -> str:
        """Return the messages of all containers, joined."""
        files = [disk / "ml/output/message" for disk in disks.values()]
        texts = [file.read_text(encoding="utf-8").strip() for file in files if file.is_file()]
        return "\n".join(texts)[:_MESSAGE_CHARACTERS]

    def _upload(self, ml: Path) -> None:
        config = self.request.get("ProcessingOutputConfig", {})
        for output in config.get("Outputs", ()):
            to = S3Uri.parse(output["S3Output"]["S3Uri"].rstrip("/"))
            folder = _inside(ml, output["S3Output"]["LocalPath"])
            self._bucket.upload_folder(folder, to, config.get("KmsKeyId"))

    def _end(self, status: str, message: str = "", reason: str = "") -> None:
        with self._lock:
            now = time.time()
            self._description |= {
                "ProcessingJobStatus": status,
                "ProcessingEndTime": now,
                "LastModifiedTime": now,
                **({"ExitMessage": message} if message else {}),
                **({"FailureReason": reason} if reason else {}),
            }
        self._log_sink.publish_state(self.describe())
        shutil.rmtree(self._home, ignore_errors=True)


def _inside(ml: Path, local_path: str) -> Path:
    """Return the place of a path below `/opt/ml` on a machine's disk."""
    return ml / Path(local_path).relative_to("/opt/ml")

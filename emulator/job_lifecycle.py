"""Lifecycle of one emulated training job.

Starting → Downloading → Training → (Interrupted → Starting → …) → Uploading → Completed, Failed or
Stopped. Every transition is published on the event bus.
"""

from __future__ import annotations

import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from emulator.containers import TICK_S, Container, end_containers, start_container
from emulator.instance import ContainerRuntime, ContainerSpec, prepare_opt_ml
from emulator.log_sink import LogSink
from emulator.s3_sync import CheckpointSync, EmulatedBucket
from launch.aws.s3 import S3Uri

JobEvent = Literal["stop", "interrupt", "lose"]
"""`stop`: StopTrainingJob; `interrupt`: spot reclaim with notice; `lose`: machine failure."""


@dataclass(frozen=True)
class ServiceTimings:
    """Delays and periods of the emulated service, in seconds.

    Attributes:
        grace_s: Time between SIGTERM and SIGKILL. The service gives 120.
        sync_s: Period in which checkpoints are copied to S3.
        capacity_s: Time until spot capacity is back after an interruption.
    """

    grace_s: float = 120.0
    sync_s: float = 1.0
    capacity_s: float = 1.0


class EmulatedTrainingJob:
    """Training job that runs in a thread from its creation to its end.

    Args:
        request: Accepted CreateTrainingJob request.
        arn: ARN of the job.
        home: Folder for the disks of its machines.
        bucket: S3 operations of the service.
        log_sink: Writer of logs, metrics and events.
        runtime: Runs the containers.
        timings: Delays and periods of the service.
    """

    def __init__(
        self,
        request: dict[str, Any],
        *,
        arn: str,
        home: Path,
        bucket: EmulatedBucket,
        log_sink: LogSink,
        runtime: ContainerRuntime,
        timings: ServiceTimings,
    ):
        self.request = request
        self._home, self._bucket, self._log_sink = home, bucket, log_sink
        self._runtime, self._timings = runtime, timings
        self._lock = threading.Lock()
        self._event: JobEvent | None = None
        self._attempt = 0
        self._machine_s = 0.0
        now = time.time()
        self._description: dict[str, Any] = {
            **request,
            "TrainingJobArn": arn,
            "TrainingJobStatus": "InProgress",
            "SecondaryStatus": "Starting",
            "CreationTime": now,
            "LastModifiedTime": now,
            "SecondaryStatusTransitions": [],
        }
        self._thread = threading.Thread(target=self._run, daemon=True)

    # --- operations of the API --------------------------------------------------------------

    def start(self) -> None:
        """Start the job's thread."""
        self._thread.start()

    def describe(self) -> dict[str, Any]:
        """Return the job as DescribeTrainingJob does."""
        with self._lock:
            metrics = list(self._log_sink.metrics.values())
            return {**self._description, "FinalMetricDataList": metrics}

    def trigger(self, event: JobEvent) -> None:
        """Stop the job, interrupt it, or fail its machine without notice."""
        with self._lock:
            if self._description["TrainingJobStatus"] == "InProgress":
                self._event = event
                if event == "stop":
                    self._description["TrainingJobStatus"] = "Stopping"

    @property
    def is_over(self) -> bool:
        """True if the status is final."""
        return self._description["TrainingJobStatus"] in ("Completed", "Failed", "Stopped")

    def join(self, timeout_s: float) -> None:
        """Wait for the end of the job."""
        self._thread.join(timeout_s)

    # --- lifecycle --------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._run_attempts()
        except Exception as error:  # the service, too, reports its own faults as a failed job
            self._end("Failed", "Failed", f"InternalServerError: {error!r}")

    def _run_attempts(self) -> None:
        self._transition("Starting")
        while True:
            self._attempt += 1
            code, event = self._run_attempt()
            if event not in ("interrupt", "lose"):
                break
            self._transition("Interrupted")
            self._event = None
            time.sleep(self._timings.capacity_s)
            self._transition("Starting")
        if code is None:
            return
        self._transition("Uploading")
        artifact = self._upload()
        if event == "stop":
            self._end("Stopped", "Stopped")
        elif event == "overtime":
            self._end("Stopped", "MaxRuntimeExceeded")
        elif code:
            self._end("Failed", "Failed", self._failure_reason(code))
        else:
            self._end("Completed", "Completed", artifact=artifact)

    def _run_attempt(self) -> tuple[int | None, str]:
        """Run the job on one set of machines; return their exit code and the event that ended it.

        The exit code is None if the data could not be downloaded.
        """
        hosts = tuple(f"algo-{n + 1}" for n in range(self._instance_count()))
        disks = {host: self._home / f"{host}-{self._attempt}" for host in hosts}
        for host, disk in disks.items():
            prepare_opt_ml(disk / "ml", self.request, host, hosts, "lo")
        self._transition("Downloading")
        if problem := self._download(disks):
            self._end("Failed", "Failed", problem)
            return None, ""
        self._transition("Training")
        began = time.time()
        self._description.setdefault("TrainingStartTime", began)
        syncs = [sync for disk in disks.values() if (sync := self._start_sync(disk))]
        containers = self._start_containers(hosts, disks)
        event = self._supervise(containers, began)
        codes = [container.wait() for container in containers]
        self._machine_s += time.time() - began
        for sync in syncs:
            # A lost machine takes with it what S3 did not have yet.
            sync.stop(final_sync=event != "lose")
        self._disks = disks
        return max(codes, key=abs), event

    def _start_containers(self, hosts: tuple[str, ...], disks: dict[str, Path]) -> list[Container]:
        containers = []
        for host in hosts:
            spec = ContainerSpec(
                ml=disks[host] / "ml",
                root=disks[host],
                host=host,
                hosts=hosts,
                environment={
                    **self.request.get("Environment", {}),
                    "HOME": "/opt/ml",
                    "TRAINING_JOB_NAME": self.request["TrainingJobName"],
                    "TRAINING_JOB_ARN": self._description["TrainingJobArn"],
                    "AWS_REGION": self._description["TrainingJobArn"].split(":")[3],
                },
                isolated=self.request.get("EnableNetworkIsolation", False),
                image=self.request["AlgorithmSpecification"]["TrainingImage"],
                job=self.request["TrainingJobName"],
            )
            containers.append(start_container(self._runtime, spec, self._log_sink, self._attempt))
        return containers

    def _supervise(self, containers: list[Container], began: float) -> str:
        """Wait until the containers end, or end them; return the event that ended them."""
        limit = self.request["StoppingCondition"]["MaxRuntimeInSeconds"]
        while any(c.process.poll() is None for c in containers):
            if any(c.process.poll() for c in containers):
                self._end_containers(containers)  # one host failed: the service ends the others
                return ""
            if self._event is not None:
                event = self._event
                self._end_containers(containers, immediately=event == "lose")
                return event
            if self._machine_s + time.time() - began > limit:
                self._end_containers(containers)
                return "overtime"
            time.sleep(TICK_S)
        return "stop" if self._event == "stop" else ""

    def _end_containers(self, containers: list[Container], *, immediately: bool = False) -> None:
        grace_s = 0 if immediately else self._timings.grace_s
        end_containers(self._runtime, containers, grace_s)

    def _download(self, disks: dict[str, Path]) -> str:
        """Fill the channels and the checkpoint folder of each machine; return the error, if any."""
        for disk in disks.values():
            for channel in self.request.get("InputDataConfig", ()):
                uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
                to = disk / "ml/input/data" / channel["ChannelName"]
                to.mkdir(exist_ok=True)
                if not self._bucket.download(S3Uri.parse(uri), to):
                    return (
                        f"ClientError: Data download failed:No S3 objects found under S3 URL "
                        f'"{uri}" given in input data source.'
                    )
        if "CheckpointConfig" in self.request:
            prefix = S3Uri.parse(self.request["CheckpointConfig"]["S3Uri"])
            for disk in disks.values():
                self._bucket.download(prefix, disk / "ml/checkpoints")
        return ""

    def _start_sync(self, disk: Path) -> CheckpointSync | None:
        if "CheckpointConfig" not in self.request:
            return None
        prefix = S3Uri.parse(self.request["CheckpointConfig"]["S3Uri"])
        sync = CheckpointSync(self._bucket, disk / "ml/checkpoints", prefix, self._timings.sync_s)
        sync.start()
        return sync

    def _upload(self) -> str:
        """Upload the model and the output of the first machine; return the model's address."""
        output = self.request["OutputDataConfig"]
        home = S3Uri.parse(output["S3OutputPath"].rstrip("/")) / self.request["TrainingJobName"]
        first = next(iter(self._disks.values())) / "ml"
        key = output.get("KmsKeyId")
        if output.get("CompressionType") == "NONE":
            # The prefix of the files, as DescribeTrainingJob gives it.
            uploaded = self._bucket.upload_folder(first / "model", home / "output/model", key)
            self._bucket.upload_folder(first / "output/data", home / "output/data", key)
            return f"{home / 'output/model'}/" if uploaded else ""
        model = home / "output/model.tar.gz"
        uploaded = self._bucket.upload_packed(first / "model", model, key)
        self._bucket.upload_packed(first / "output/data", home / "output/output.tar.gz", key)
        return str(model) if uploaded else ""

    def _failure_reason(self, code: int) -> str:
        for disk in self._disks.values():
            failure = disk / "ml/output/failure"
            if failure.exists():
                message = failure.read_text(errors="replace").strip()[:1024]
                return f"AlgorithmError: {message}, exit code: {code}"
        return f"AlgorithmError: , exit code: {code}"

    def _instance_count(self) -> int:
        config = self.request["ResourceConfig"]
        preferred = config.get("InstancePreferences", [{}])[0]
        return int(config.get("InstanceCount") or preferred.get("InstanceCount", 1))

    def _transition(self, secondary: str) -> None:
        with self._lock:
            now = time.time()
            transitions = self._description["SecondaryStatusTransitions"]
            if transitions:
                transitions[-1]["EndTime"] = now
            transitions.append({"Status": secondary, "StartTime": now})
            self._description |= {"SecondaryStatus": secondary, "LastModifiedTime": now}
            description = dict(self._description)
        self._log_sink.publish_state(description)

    def _end(self, status: str, secondary: str, reason: str = "", artifact: str = "") -> None:
        with self._lock:
            config = self.request["ResourceConfig"]
            instance_type = (
                config.get("InstanceType") or config["InstancePreferences"][0]["InstanceType"]
            )
            self._description |= {
                "TrainingJobStatus": status,
                "TrainingEndTime": time.time(),
                "TrainingTimeInSeconds": max(1, int(self._machine_s)),
                "BillableTimeInSeconds": max(1, int(self._machine_s)),
                "ResourceConfig": {**config, "SelectedInstanceType": instance_type},
            }
            if reason:
                self._description["FailureReason"] = reason
            if artifact:
                self._description["ModelArtifacts"] = {"S3ModelArtifacts": artifact}
        self._transition(secondary)
        shutil.rmtree(self._home, ignore_errors=True)

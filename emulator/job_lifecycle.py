"""The life of one training job, as the service would lead it.

Starting → Downloading → Training → (Interrupted → Starting → …) → Uploading → the end. Each change
is put on the event bus.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from emulator.instance import ContainerRuntime, ContainerSpec, lay_out
from emulator.log_sink import LogSink
from emulator.s3_sync import CheckpointSync, EmulatedBucket
from launch.aws.s3 import S3Uri

Fate = Literal["stop", "interrupt", "lose"]
_TICK_S = 0.05
_LOG_EVERY_S = 0.2


@dataclass(frozen=True)
class ServiceTimings:
    """How the service behaves, in seconds.

    Attributes:
        grace_s: Between SIGTERM and SIGKILL. The service gives 120.
        sync_s: How often checkpoints are copied to S3.
        capacity_s: How long spot capacity is away after an interruption.
    """

    grace_s: float = 120.0
    sync_s: float = 1.0
    capacity_s: float = 1.0


class EmulatedTrainingJob:
    """One job from its creation to its end.

    Args:
        request: As it was accepted.
        arn: Its ARN.
        home: For the machines' disks.
        bucket: S3.
        journal: Logs, metrics and events.
        starter: Runs the container's command.
        manners: Of the service.
    """

    def __init__(
        self,
        request: dict[str, Any],
        *,
        arn: str,
        home: Path,
        bucket: EmulatedBucket,
        journal: LogSink,
        starter: ContainerRuntime,
        manners: ServiceTimings,
    ):
        self.request = request
        self._home, self._bucket, self._journal = home, bucket, journal
        self._starter, self._manners = starter, manners
        self._lock = threading.Lock()
        self._fate: Fate | None = None
        self._attempt = 0
        self._machine_s = 0.0
        now = time.time()
        self._facts: dict[str, Any] = {
            **request,
            "TrainingJobArn": arn,
            "TrainingJobStatus": "InProgress",
            "SecondaryStatus": "Starting",
            "CreationTime": now,
            "LastModifiedTime": now,
            "SecondaryStatusTransitions": [],
        }
        self._thread = threading.Thread(target=self._run, daemon=True)

    # --- what the API sees ------------------------------------------------------------------

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def describe(self) -> dict[str, Any]:
        """Return the job as DescribeTrainingJob does."""
        with self._lock:
            return {**self._facts, "FinalMetricDataList": list(self._journal.metrics.values())}

    def decide(self, fate: Fate) -> None:
        """Stop it, interrupt it, or take its machine away without a word."""
        with self._lock:
            if self._facts["TrainingJobStatus"] == "InProgress":
                self._fate = fate
                if fate == "stop":
                    self._facts["TrainingJobStatus"] = "Stopping"

    @property
    def is_over(self) -> bool:
        """Whether nothing will change any more."""
        return self._facts["TrainingJobStatus"] in ("Completed", "Failed", "Stopped")

    def join(self, timeout_s: float) -> None:
        """Wait for its end."""
        self._thread.join(timeout_s)

    # --- its life ---------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._live()
        except Exception as error:  # the service, too, reports what it did not foresee
            self._end("Failed", "Failed", f"InternalServerError: {error!r}")

    def _live(self) -> None:
        self._change("Starting")
        while True:
            self._attempt += 1
            code, fate = self._one_attempt()
            if fate not in ("interrupt", "lose"):
                break
            self._change("Interrupted")
            self._fate = None
            time.sleep(self._manners.capacity_s)
            self._change("Starting")
        if code is None:
            return
        self._change("Uploading")
        made = self._upload()
        if fate == "stop":
            self._end("Stopped", "Stopped")
        elif fate == "overtime":
            self._end("Stopped", "MaxRuntimeExceeded")
        elif code:
            self._end("Failed", "Failed", self._explain(code))
        else:
            self._end("Completed", "Completed", made=made)

    def _one_attempt(self) -> tuple[int | None, str]:
        """Lead the job through one set of machines; return their exit code and what ended them."""
        hosts = tuple(f"algo-{n + 1}" for n in range(self._count()))
        disks = {host: self._home / f"{host}-{self._attempt}" for host in hosts}
        for host, disk in disks.items():
            lay_out(disk / "ml", self.request, host, hosts, "lo")
        self._change("Downloading")
        if problem := self._download(disks):
            self._end("Failed", "Failed", problem)
            return None, ""
        self._change("Training")
        began = time.time()
        self._facts.setdefault("TrainingStartTime", began)
        mirrors = [mirror for disk in disks.values() if (mirror := self._mirror(disk))]
        containers = self._start(hosts, disks)
        fate = self._watch(containers, began)
        codes = [c.process.wait() for c in containers]
        for container in containers:
            container.reader.join(10)
        self._machine_s += time.time() - began
        for mirror in mirrors:
            mirror.stop(last_look=fate != "lose")
        self._disks = disks
        return max(codes, key=abs), fate

    def _start(self, hosts: tuple[str, ...], disks: dict[str, Path]) -> list[_Container]:
        found = []
        for host in hosts:
            order = ContainerSpec(
                ml=disks[host] / "ml",
                root=disks[host],
                host=host,
                hosts=hosts,
                environment={
                    **self.request.get("Environment", {}),
                    "HOME": "/opt/ml",
                    "TRAINING_JOB_NAME": self.request["TrainingJobName"],
                    "TRAINING_JOB_ARN": self._facts["TrainingJobArn"],
                    "AWS_REGION": self._facts["TrainingJobArn"].split(":")[3],
                },
                isolated=self.request.get("EnableNetworkIsolation", False),
                image=self.request["AlgorithmSpecification"]["TrainingImage"],
            )
            process = self._starter.start(order)
            stream = self._journal.open_stream(host, self._attempt)
            reader = threading.Thread(target=self._read, args=(process, stream), daemon=True)
            reader.start()
            found.append(_Container(process, reader))
        return found

    def _read(self, process: subprocess.Popen[bytes], stream: str) -> None:
        """Bring a container's lines to the log, those that come together in one call."""
        assert process.stdout is not None
        rest = b""
        while came := process.stdout.read1():  # type: ignore[attr-defined]  # buffered
            *lines, rest = (rest + came).split(b"\n")
            self._journal.write(stream, [line.decode(errors="replace") for line in lines])
            time.sleep(_LOG_EVERY_S)
        self._journal.write(stream, [rest.decode(errors="replace")] if rest else [])

    def _watch(self, containers: list[_Container], began: float) -> str:
        """Wait for the containers' end, or bring it about; return what ended them."""
        limit = self.request["StoppingCondition"]["MaxRuntimeInSeconds"]
        while any(c.process.poll() is None for c in containers):
            if any(c.process.poll() for c in containers):
                self._put_away(containers)  # one host failed: the service ends the others
                return ""
            if self._fate is not None:
                fate = self._fate
                self._put_away(containers, at_once=fate == "lose")
                return fate
            if self._machine_s + time.time() - began > limit:
                self._put_away(containers)
                return "overtime"
            time.sleep(_TICK_S)
        return "stop" if self._fate == "stop" else ""

    def _put_away(self, containers: list[_Container], *, at_once: bool = False) -> None:
        """SIGTERM, two minutes of patience, SIGKILL; or SIGKILL at once."""
        if not at_once:
            for container in containers:
                if container.process.poll() is None:
                    self._starter.tell(container.process, signal.SIGTERM)
            until = time.time() + self._manners.grace_s
            while time.time() < until and any(c.process.poll() is None for c in containers):
                time.sleep(_TICK_S)
        for container in containers:
            self._starter.end(container.process)

    def _download(self, disks: dict[str, Path]) -> str:
        """Fill the channels and the checkpoint folder of each machine; return what is wrong."""
        for disk in disks.values():
            for channel in self.request.get("InputDataConfig", ()):
                address = channel["DataSource"]["S3DataSource"]["S3Uri"]
                to = disk / "ml/input/data" / channel["ChannelName"]
                to.mkdir(exist_ok=True)
                if not self._bucket.download(S3Uri.parse(address), to):
                    return (
                        f"ClientError: Data download failed:No S3 objects found under S3 URL "
                        f'"{address}" given in input data source.'
                    )
        if "CheckpointConfig" in self.request:
            prefix = S3Uri.parse(self.request["CheckpointConfig"]["S3Uri"])
            for disk in disks.values():
                self._bucket.download(prefix, disk / "ml/checkpoints")
        return ""

    def _mirror(self, disk: Path) -> CheckpointSync | None:
        if "CheckpointConfig" not in self.request:
            return None
        prefix = S3Uri.parse(self.request["CheckpointConfig"]["S3Uri"])
        mirror = CheckpointSync(self._bucket, disk / "ml/checkpoints", prefix, self._manners.sync_s)
        mirror.start()
        return mirror

    def _upload(self) -> str:
        """Upload the model and what the job put out; return the model's address."""
        out = self.request["OutputDataConfig"]
        home = S3Uri.parse(out["S3OutputPath"].rstrip("/")) / self.request["TrainingJobName"]
        first = next(iter(self._disks.values())) / "ml"
        model = home / "output/model.tar.gz"
        made = self._bucket.upload_packed(first / "model", model, out.get("KmsKeyId"))
        self._bucket.upload_packed(
            first / "output/data", home / "output/output.tar.gz", out.get("KmsKeyId")
        )
        return str(model) if made else ""

    def _explain(self, code: int) -> str:
        for disk in self._disks.values():
            failure = disk / "ml/output/failure"
            if failure.exists():
                said = failure.read_text(errors="replace").strip()[:1024]
                return f"AlgorithmError: {said}, exit code: {code}"
        return f"AlgorithmError: , exit code: {code}"

    def _count(self) -> int:
        machines = self.request["ResourceConfig"]
        preferred = machines.get("InstancePreferences", [{}])[0]
        return int(machines.get("InstanceCount") or preferred.get("InstanceCount", 1))

    def _change(self, secondary: str) -> None:
        with self._lock:
            now = time.time()
            transitions = self._facts["SecondaryStatusTransitions"]
            if transitions:
                transitions[-1]["EndTime"] = now
            transitions.append({"Status": secondary, "StartTime": now})
            self._facts |= {"SecondaryStatus": secondary, "LastModifiedTime": now}
            told = dict(self._facts)
        self._journal.tell(told)

    def _end(self, status: str, secondary: str, why: str = "", made: str = "") -> None:
        with self._lock:
            machines = self.request["ResourceConfig"]
            kind = (
                machines.get("InstanceType") or machines["InstancePreferences"][0]["InstanceType"]
            )
            self._facts |= {
                "TrainingJobStatus": status,
                "TrainingEndTime": time.time(),
                "TrainingTimeInSeconds": int(self._machine_s),
                "BillableTimeInSeconds": int(self._machine_s),
                "ResourceConfig": {**machines, "SelectedInstanceType": kind},
            }
            if why:
                self._facts["FailureReason"] = why
            if made:
                self._facts["ModelArtifacts"] = {"S3ModelArtifacts": made}
        self._change(secondary)
        shutil.rmtree(self._home, ignore_errors=True)


@dataclass(frozen=True)
class _Container:
    process: subprocess.Popen[bytes]
    reader: threading.Thread

"""A stand-in for SageMaker's training service, over the same wire.

Speaks the service's JSON protocol on a local port: boto3 is told where by
`AWS_ENDPOINT_URL_SAGEMAKER`, and nothing in `launch` knows the difference. What a request names
(role, keys, subnets, groups, image, objects) must exist in the emulated account.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from zlib import crc32

import boto3

from emulator.instance import ContainerRuntime
from emulator.job_lifecycle import EmulatedTrainingJob, Fate, ServiceTimings
from emulator.log_sink import LogSink
from emulator.request_validation import Refusal, check_request
from emulator.s3_sync import EmulatedBucket

ACCOUNT = "123456789012"


@dataclass
class FaultInjection:
    """What goes wrong on purpose.

    Attributes:
        lost_replies: So many answers to CreateTrainingJob never arrive, though the job was made.
        quotas: Instances of a type that the account may have; unlimited where none is given.
    """

    lost_replies: int = 0
    quotas: dict[str, int] = field(default_factory=dict)


class SageMakerEmulator:
    """Accepts, leads and describes training jobs.

    Args:
        endpoint: Of the emulated account.
        region: Where it is.
        home: For the machines' disks.
        starter: Runs a container's command.
        manners: How it behaves.
    """

    def __init__(
        self,
        endpoint: str,
        region: str,
        home: Path,
        starter: ContainerRuntime,
        manners: ServiceTimings,
    ):
        self.region = region
        self.faults = FaultInjection()
        self.calls: list[str] = []
        self._endpoint, self._home = endpoint, home
        self._starter, self._manners = starter, manners
        self._jobs: dict[str, EmulatedTrainingJob] = {}
        self._lock, self._making = threading.Lock(), threading.Lock()
        self._clients: dict[str, Any] = {}
        self._session = boto3.Session("test", "test", region_name=region)

    def client(self, name: str) -> Any:
        """Return a client of the emulated account; made once, for all threads."""
        with self._making:
            if name not in self._clients:
                self._clients[name] = self._session.client(name, endpoint_url=self._endpoint)
            return self._clients[name]

    def answer(self, action: str, request: dict[str, Any]) -> dict[str, Any]:
        """Answer one call.

        Raises:
            Refusal: With the service's own name for what is wrong.
        """
        self.calls.append(action)
        actions = {
            "CreateTrainingJob": self._create,
            "DescribeTrainingJob": lambda r: self.job(r["TrainingJobName"]).describe(),
            "StopTrainingJob": self._stop,
            "ListTrainingJobs": self._list,
            "ListServiceQuotas": self._list_quotas,
        }
        if action not in actions:
            raise Refusal("UnknownOperationException", f"{action} is not rehearsed")
        return actions[action](request)

    def job(self, name: str) -> EmulatedTrainingJob:
        """Return a job by its name."""
        if name not in self._jobs:
            raise Refusal("ValidationException", "Requested resource not found.")
        return self._jobs[name]

    def decide(self, name: str, fate: Fate) -> None:
        """Interrupt a job or take its machine away, as only the service can."""
        self.job(name).decide(fate)

    def close(self) -> None:
        """End every job that still runs, and forget all."""
        for job in self._jobs.values():
            job.decide("stop")
        for job in self._jobs.values():
            job.join(self._manners.grace_s)
        self._jobs, self.calls, self.faults = {}, [], FaultInjection()

    def _create(self, request: dict[str, Any]) -> dict[str, Any]:
        check_request(request, self.client, self.faults.quotas)
        name = request["TrainingJobName"]
        arn = f"arn:aws:sagemaker:{self.region}:{ACCOUNT}:training-job/{name}"
        with self._lock:
            if name in self._jobs:
                raise Refusal(
                    "ResourceInUse",
                    "Training job names must be unique within an AWS account and region",
                )
            job = self._jobs[name] = EmulatedTrainingJob(
                request,
                arn=arn,
                home=self._home / name,
                bucket=EmulatedBucket(self.client("s3")),
                journal=LogSink(
                    self.client("logs"), self.client("cloudwatch"), self.client("events"), request
                ),
                starter=self._starter,
                manners=self._manners,
            )
        job.start()
        return {"TrainingJobArn": arn}

    def _stop(self, request: dict[str, Any]) -> dict[str, Any]:
        job = self.job(request["TrainingJobName"])
        if job.is_over:
            raise Refusal(
                "ValidationException",
                "The request was rejected because the training job is in status "
                f"{job.describe()['TrainingJobStatus']}.",
            )
        job.decide("stop")
        return {}

    def _list(self, request: dict[str, Any]) -> dict[str, Any]:
        keys = ("TrainingJobName", "TrainingJobArn", "CreationTime", "TrainingJobStatus")
        found = [job.describe() for job in self._jobs.values()]
        wanted = request.get("StatusEquals")
        return {
            "TrainingJobSummaries": [
                {key: job[key] for key in keys}
                for job in found
                if wanted in (None, job["TrainingJobStatus"])
            ]
        }

    def _list_quotas(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer for Service Quotas, too, with the quotas that requests are held against."""
        usages = ("training job usage", "spot training job usage")
        return {
            "Quotas": [
                {
                    "ServiceCode": request["ServiceCode"],
                    "QuotaName": f"{kind} for {usage}",
                    "QuotaCode": f"L-{crc32(f'{kind} {usage}'.encode()):08X}",
                    "Value": float(count),
                }
                for kind, count in self.faults.quotas.items()
                for usage in usages
            ]
        }


class EmulatorServer(ThreadingHTTPServer):
    """The service on a port of this machine."""

    daemon_threads = True

    def __init__(self, service: SageMakerEmulator):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.service = service

    @property
    def url(self) -> str:
        """Where boto3 finds it."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> EmulatorServer:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.service.close()
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer a call in the JSON 1.1 protocol."""
        assert isinstance(self.server, EmulatorServer)
        service = self.server.service
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        action = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
        try:
            answer, status = service.answer(action, json.loads(body or b"{}")), 200
        except Refusal as refusal:
            answer, status = {"__type": refusal.code, "message": refusal.message}, 400
        if action == "CreateTrainingJob" and service.faults.lost_replies:
            service.faults.lost_replies -= 1
            self.close_connection = True
            return
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing: the terminal belongs to the person who rehearses."""

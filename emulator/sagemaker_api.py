"""Emulated API of SageMaker's training and processing services.

An HTTP server implements the service's JSON protocol on a local port, which boto3 finds by
`AWS_ENDPOINT_URL_SAGEMAKER`; `launch` needs no change. The role, keys, subnets, groups, image and
objects that a request names must exist in the emulated account.
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
from emulator.job_lifecycle import EmulatedTrainingJob, JobEvent, ServiceTimings
from emulator.log_sink import JobKind, LogSink
from emulator.processing_api import USAGE, ProcessingApi
from emulator.processing_job import EmulatedProcessingJob
from emulator.request_validation import RequestRejected, check_request
from emulator.s3_sync import EmulatedBucket
from emulator.search import search_jobs

ACCOUNT = "123456789012"


@dataclass
class FaultInjection:
    """Faults that the emulated service injects.

    Attributes:
        lost_replies: Number of CreateTrainingJob calls that create the job and get no reply.
        quotas: Allowed number of instances by type; types that are missing are unlimited.
        throttled: Number of Search calls that are rejected for their rate.
    """

    lost_replies: int = 0
    throttled: int = 0
    quotas: dict[str, int] = field(default_factory=dict)


class SageMakerEmulator:
    """Emulated training service.

    Args:
        endpoint: Endpoint of the emulated account.
        region: Region of the service.
        home: Folder for the disks of its machines.
        runtime: Runs the containers.
        timings: Delays and periods of the service.

    Attributes:
        calls: Names of the operations that were called, in order.
        faults: Faults to inject.
        processing: Processing jobs.
    """

    def __init__(
        self,
        endpoint: str,
        region: str,
        home: Path,
        runtime: ContainerRuntime,
        timings: ServiceTimings,
    ):
        self.region = region
        self.faults = FaultInjection()
        self.calls: list[str] = []
        self._endpoint, self._home = endpoint, home
        self._runtime, self._timings = runtime, timings
        self._jobs: dict[str, EmulatedTrainingJob] = {}
        self._past_jobs: dict[str, dict[str, Any]] = {}
        self._lock, self._client_lock = threading.Lock(), threading.Lock()
        self._clients: dict[str, Any] = {}
        self._session = boto3.Session("test", "test", region_name=region)
        prefix = f"arn:aws:sagemaker:{region}:{ACCOUNT}:processing-job/"
        self.processing = ProcessingApi(self._create_processing_job, prefix)

    def client(self, name: str) -> Any:
        """Return a boto3 client of the emulated account; all threads share one."""
        with self._client_lock:
            if name not in self._clients:
                self._clients[name] = self._session.client(name, endpoint_url=self._endpoint)
            return self._clients[name]

    def handle(self, action: str, request: dict[str, Any]) -> dict[str, Any]:
        """Execute an operation and return its response.

        Raises:
            RequestRejected: The service rejects the request.
        """
        self.calls.append(action)
        actions = {
            "CreateTrainingJob": self._create,
            "DescribeTrainingJob": lambda r: self._describe(r["TrainingJobName"]),
            "ListTags": self._list_tags,
            "Search": self._search,
            "StopTrainingJob": self._stop,
            "ListTrainingJobs": self._list,
            "ListServiceQuotas": self._list_quotas,
            "CreateProcessingJob": lambda r: self.processing.create(
                r, self.client, self.faults.quotas
            ),
            "DescribeProcessingJob": self.processing.describe,
            "ListProcessingJobs": self.processing.list,
            "StopProcessingJob": self.processing.stop,
        }
        if action not in actions:
            raise RequestRejected("UnknownOperationException", f"{action} is not emulated")
        return actions[action](request)

    def job(self, name: str) -> EmulatedTrainingJob:
        """Return the job of a name.

        Raises:
            RequestRejected: It does not exist.
        """
        if name not in self._jobs:
            raise RequestRejected("ValidationException", "Requested resource not found.")
        return self._jobs[name]

    def trigger(self, name: str, event: JobEvent) -> None:
        """Interrupt a job or fail its machine, which no operation of the API can do."""
        self.job(name).trigger(event)

    def close(self) -> None:
        """Stop every running job and reset the service."""
        for job in self._jobs.values():
            job.trigger("stop")
        for job in self._jobs.values():
            job.join(self._timings.grace_s)
        self.processing.close(self._timings.grace_s)
        self._jobs, self._past_jobs = {}, {}
        self.calls, self.faults = [], FaultInjection()

    def add_past_job(self, description: dict[str, Any]) -> None:
        """Add a job that ended before the emulator was started.

        Args:
            description: Its description, with its tags and with times in seconds since the epoch.
        """
        self._past_jobs[description["TrainingJobName"]] = description

    def _describe(self, name: str) -> dict[str, Any]:
        description = self._past_jobs.get(name) or self.job(name).describe()
        return {key: value for key, value in description.items() if key != "Tags"}

    def _list_tags(self, request: dict[str, Any]) -> dict[str, Any]:
        kind, _, name = request["ResourceArn"].rpartition(":")[2].partition("/")
        if kind == "processing-job":
            return {"Tags": self.processing.job(name).describe().get("Tags", [])}
        description = self._past_jobs.get(name) or self.job(name).describe()
        return {"Tags": description.get("Tags", [])}

    def _search(self, request: dict[str, Any]) -> dict[str, Any]:
        if self.faults.throttled:
            self.faults.throttled -= 1
            raise RequestRejected("ThrottlingException", "Rate exceeded")
        jobs = [*self._past_jobs.values(), *(job.describe() for job in self._jobs.values())]
        return search_jobs(request, jobs)

    def _create(self, request: dict[str, Any]) -> dict[str, Any]:
        check_request(request, self.client, self.faults.quotas)
        name = request["TrainingJobName"]
        arn = f"arn:aws:sagemaker:{self.region}:{ACCOUNT}:training-job/{name}"
        with self._lock:
            if name in self._jobs:
                raise RequestRejected(
                    "ResourceInUse",
                    "Training job names must be unique within an AWS account and region",
                )
            job = self._jobs[name] = EmulatedTrainingJob(
                request,
                arn=arn,
                home=self._home / name,
                bucket=EmulatedBucket(self.client("s3")),
                log_sink=self._log_sink(request, "Training"),
                runtime=self._runtime,
                timings=self._timings,
            )
        job.start()
        return {"TrainingJobArn": arn}

    def _create_processing_job(self, request: dict[str, Any], arn: str) -> EmulatedProcessingJob:
        return EmulatedProcessingJob(
            {**request, "ProcessingJobArn": arn},
            home=self._home / request["ProcessingJobName"],
            bucket=EmulatedBucket(self.client("s3")),
            log_sink=self._log_sink(request, "Processing"),
            runtime=self._runtime,
            timings=self._timings,
            credentials={
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test",
                "AWS_ENDPOINT_URL": self._endpoint,
            },
        )

    def _log_sink(self, request: dict[str, Any], kind: JobKind) -> LogSink:
        logs, cloudwatch, events = map(self.client, ("logs", "cloudwatch", "events"))
        return LogSink(logs, cloudwatch, events, request, kind)

    def _stop(self, request: dict[str, Any]) -> dict[str, Any]:
        job = self.job(request["TrainingJobName"])
        if job.is_over:
            raise RequestRejected(
                "ValidationException",
                "The request was rejected because the training job is in status "
                f"{job.describe()['TrainingJobStatus']}.",
            )
        job.trigger("stop")
        return {}

    def _list(self, request: dict[str, Any]) -> dict[str, Any]:
        keys = ("TrainingJobName", "TrainingJobArn", "CreationTime", "TrainingJobStatus")
        descriptions = [job.describe() for job in self._jobs.values()]
        status = request.get("StatusEquals")
        return {
            "TrainingJobSummaries": [
                {key: job[key] for key in keys}
                for job in descriptions
                if status in (None, job["TrainingJobStatus"])
            ]
        }

    def _list_quotas(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the response of Service Quotas, with the quotas of the injected faults."""
        usages = ("training job usage", "spot training job usage", f"{USAGE} usage")
        return {
            "Quotas": [
                {
                    "ServiceCode": request["ServiceCode"],
                    "QuotaName": f"{instance_type} for {usage}",
                    "QuotaCode": f"L-{crc32(f'{instance_type} {usage}'.encode()):08X}",
                    "Value": float(count),
                }
                for instance_type, count in self.faults.quotas.items()
                for usage in usages
            ]
        }


class EmulatorServer(ThreadingHTTPServer):
    """HTTP server of the emulated service, on a free port of this machine."""

    daemon_threads = True

    def __init__(self, service: SageMakerEmulator):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.service = service

    @property
    def url(self) -> str:
        """Endpoint for boto3."""
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
        """Handle a call in the JSON 1.1 protocol."""
        assert isinstance(self.server, EmulatorServer)
        service = self.server.service
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        action = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
        try:
            answer, status = service.handle(action, json.loads(body or b"{}")), 200
        except RequestRejected as rejection:
            answer, status = {"__type": rejection.code, "message": rejection.message}, 400
        if action == "CreateTrainingJob" and service.faults.lost_replies:
            service.faults.lost_replies -= 1
            self.close_connection = True  # without a reply, as when the network fails
            return
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *arguments: object) -> None:
        """Log nothing: the terminal shows the rehearsal."""

"""Emulated API of SageMaker: training jobs, processing jobs, pipelines, hosting.

An HTTP server implements the service's JSON protocol on a local port, which boto3 finds by
`AWS_ENDPOINT_URL_SAGEMAKER`; `launch` needs no change. The role, keys, subnets, groups, image and
objects that a request names must exist in the emulated account.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import boto3

from emulator.aws_service import AwsServer, AwsService, Handler
from emulator.clock import Clock, SystemClock
from emulator.hosting.api import Hosting
from emulator.hosting.context import HostingContext, HostingTimings
from emulator.hub import EmulatedHub
from emulator.instance import ContainerRuntime
from emulator.job_lifecycle import EmulatedTrainingJob, JobEvent, ServiceTimings
from emulator.lineage import LineageApi
from emulator.log_sink import JobKind, LogSink
from emulator.managed_training import Train, train_here
from emulator.moto_account import ACCOUNT
from emulator.pipelines.account_calls import AccountCalls
from emulator.pipelines.api import PipelineApi
from emulator.pipelines.functions import FunctionRunner
from emulator.pipelines.step_run import StepServices
from emulator.planted_errors import PlantedErrors
from emulator.processing_api import USAGE, ProcessingApi
from emulator.processing_job import EmulatedProcessingJob
from emulator.recipe_job import EmulatedRecipeJob, check_recipe_request
from emulator.request_validation import RequestRejected, check_request
from emulator.s3_sync import EmulatedBucket
from emulator.search import search_jobs
from emulator.serverless_job import EmulatedServerlessJob, check_serverless_request
from emulator.tuning_api import TuningApi


@dataclass
class FaultInjection:
    """Faults that the emulated service injects.

    `SageMakerEmulator.errors` plants errors of single operations.

    Attributes:
        quotas: Allowed number of instances by type; types that are missing are unlimited.
    """

    quotas: dict[str, int] = field(default_factory=dict)


class SageMakerEmulator:
    """Emulated training service.

    Args:
        endpoint: Endpoint of the emulated account.
        region: Region of the service.
        home: Folder for the disks of its machines.
        runtime: Runs the containers.
        timings: Delays and periods of the service.
        clock: Clock of the hosting; the machine's by default.
        hosting_timings: Delays and periods of the hosting.

    Attributes:
        account: Endpoint of the emulated account.
        faults: Faults to inject.
        processing: Processing jobs.
        tuning: Tuning jobs.
        pipelines: Pipelines and their executions.
        hosting: Models and endpoints.
        hub: Public hub, which is empty at first.
        train: Trains the records of serverless customization; on this machine by default.
        lineage: Lineage entities.
        services: The services, for a server.
    """

    def __init__(
        self,
        endpoint: str,
        region: str,
        home: Path,
        runtime: ContainerRuntime,
        timings: ServiceTimings,
        clock: Clock | None = None,
        hosting_timings: HostingTimings | None = None,
    ):
        self.region = region
        self.faults = FaultInjection()
        self.account, self._home = endpoint, home
        self._runtime, self._timings = runtime, timings
        self._jobs: dict[str, EmulatedTrainingJob | EmulatedServerlessJob] = {}
        self._past_jobs: dict[str, dict[str, Any]] = {}
        self._lock, self._client_lock = threading.Lock(), threading.Lock()
        self._clients: dict[str, Any] = {}
        self._session = boto3.Session("test", "test", region_name=region)
        self.train: Train = train_here
        self.hub = EmulatedHub(region, self.client)
        prefix = f"arn:aws:sagemaker:{region}:{ACCOUNT}:processing-job/"
        self.processing = ProcessingApi(self._create_processing_job, prefix)
        tuning_arn = f"arn:aws:sagemaker:{region}:{ACCOUNT}:hyper-parameter-tuning-job/"
        self.tuning = TuningApi(self._create, self.job, tuning_arn)
        context = HostingContext(
            self.client,
            region,
            home / "hosting",
            runtime,
            clock or SystemClock(),
            hosting_timings or HostingTimings(),
        )
        self.hosting = Hosting(context, self._list_tags)
        self.lineage = LineageApi(region, context.clock.now)
        calls = AccountCalls(self.client, lambda: self._sagemaker)
        invoke = FunctionRunner(self.client, endpoint, region)
        services = StepServices(calls.call, invoke, calls.read, context.clock)
        self.pipelines = PipelineApi(self.client, region, services)
        self._sagemaker = AwsService(
            "sagemaker",
            {
                **self._operations(),
                **self.hosting.operations,
                **self.lineage.operations(),
                **self.pipelines.operations(),
            },
            late={"DescribeTrainingJob": ("ModelArtifacts",)},
        )
        quotas = AwsService("service-quotas", {"ListServiceQuotas": self._list_quotas})
        self.services = (self._sagemaker, quotas, *self.hosting.services)

    @property
    def calls(self) -> list[str]:
        """Names of the operations of SageMaker that were called, in order."""
        return self._sagemaker.calls

    @property
    def errors(self) -> PlantedErrors:
        """Errors that operations of SageMaker answer with, and replies that get lost."""
        return self._sagemaker.errors

    def call(self, action: str, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Execute an operation of SageMaker, as another service of the account does.

        Raises:
            RequestRejected: SageMaker rejects the request.
        """
        return self._sagemaker.call(action, parameters)

    def client(self, name: str) -> Any:
        """Return a boto3 client of the emulated account; all threads share one."""
        with self._client_lock:
            if name not in self._clients:
                self._clients[name] = self._session.client(name, endpoint_url=self.account)
            return self._clients[name]

    def _operations(self) -> dict[str, Handler]:
        return {
            "CreateTrainingJob": self._create,
            "DescribeTrainingJob": lambda r: self._describe(r["TrainingJobName"]),
            "Search": self._search,
            "StopTrainingJob": self._stop,
            "ListTrainingJobs": self._list,
            "CreateHub": self.hub.private.create,
            "ImportHubContent": self.hub.private.import_content,
            "DeleteHubContent": self.hub.private.delete_content,
            "DescribeHubContent": self.hub.describe,
            "CreateHyperParameterTuningJob": self.tuning.create,
            "DescribeHyperParameterTuningJob": self.tuning.describe,
            "StopHyperParameterTuningJob": self.tuning.stop,
            "ListTrainingJobsForHyperParameterTuningJob": self.tuning.list_training_jobs,
            "CreateProcessingJob": lambda r: self.processing.create(
                r, self.client, self.faults.quotas
            ),
            "DescribeProcessingJob": self.processing.describe,
            "ListProcessingJobs": self.processing.list,
            "StopProcessingJob": self.processing.stop,
        }

    def job(self, name: str) -> EmulatedTrainingJob | EmulatedServerlessJob:
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
        self.pipelines.close(self._timings.grace_s)
        self.tuning.close()
        for job in self._jobs.values():
            job.trigger("stop")
        for job in self._jobs.values():
            job.join(self._timings.grace_s)
        self.processing.close(self._timings.grace_s)
        self.hosting.close()
        self.lineage.clear()
        self._jobs, self._past_jobs = {}, {}
        self.faults = FaultInjection()
        for service in self.services:
            service.reset()

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
        if kind != "training-job":
            response: dict[str, Any] = self.client("sagemaker").list_tags(**request)
            return {key: response[key] for key in ("Tags", "NextToken") if key in response}
        description = self._past_jobs.get(name) or self.job(name).describe()
        return {"Tags": description.get("Tags", [])}

    def _search(self, request: dict[str, Any]) -> dict[str, Any]:
        jobs = [*self._past_jobs.values(), *(job.describe() for job in self._jobs.values())]
        return search_jobs(request, jobs)

    def _create(self, request: dict[str, Any]) -> dict[str, Any]:
        serverless = "ServerlessJobConfig" in request
        recipe = not serverless and self.hub.is_recipe_image(
            request["AlgorithmSpecification"].get("TrainingImage", "")
        )
        if serverless:
            check_serverless_request(request, self.client, self.hub)
        elif recipe:
            check_recipe_request(request, self.client, self.hub, self.faults.quotas)
        else:
            check_request(request, self.client, self.faults.quotas)
        name = request["TrainingJobName"]
        arn = f"arn:aws:sagemaker:{self.region}:{ACCOUNT}:training-job/{name}"
        with self._lock:
            if name in self._jobs:
                raise RequestRejected(
                    "ResourceInUse",
                    "Training job names must be unique within an AWS account and region",
                )
            make = self._customization_job if serverless or recipe else self._training_job
            job = self._jobs[name] = make(request, arn)
        job.start()
        return {"TrainingJobArn": arn}

    def _training_job(self, request: dict[str, Any], arn: str) -> EmulatedTrainingJob:
        return EmulatedTrainingJob(
            request,
            arn=arn,
            home=self._home / request["TrainingJobName"],
            bucket=EmulatedBucket(self.client("s3")),
            log_sink=self._log_sink(request, "Training"),
            runtime=self._runtime,
            timings=self._timings,
        )

    def _customization_job(self, request: dict[str, Any], arn: str) -> EmulatedServerlessJob:
        serverless = "ServerlessJobConfig" in request
        make = EmulatedServerlessJob if serverless else EmulatedRecipeJob
        return make(
            request,
            arn=arn,
            home=self._home / request["TrainingJobName"],
            client=self.client,
            hub=self.hub,
            train=self.train,
        )

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
                "AWS_ENDPOINT_URL": self.account,
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
        training = ("training job usage", "spot training job usage", f"{USAGE} usage")
        hosting = ("endpoint usage", "transform job usage")
        groups = (
            (self.faults.quotas, training),
            (self.hosting.context.faults.quotas, hosting),
        )
        return {
            "Quotas": [
                {
                    "ServiceCode": request["ServiceCode"],
                    "QuotaName": f"{instance_type} for {usage}",
                    "QuotaCode": f"L-{crc32(f'{instance_type} {usage}'.encode()):08X}",
                    "Value": float(count),
                }
                for quotas, usages in groups
                for instance_type, count in quotas.items()
                for usage in usages
            ]
        }


class EmulatorServer(AwsServer):
    """HTTP server of the emulated services, which end with it.

    Args:
        emulator: The services.
        others: Further services of the same account.
    """

    def __init__(self, emulator: SageMakerEmulator, others: Sequence[AwsService] = ()):
        super().__init__((*emulator.services, *others), emulator.account)
        self._emulator = emulator

    def __exit__(self, *error: object) -> None:
        self._emulator.close()
        super().__exit__(*error)

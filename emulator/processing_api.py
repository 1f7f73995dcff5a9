"""Emulated operations on processing jobs: create, describe, list, stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from emulator.botocore_schema import validation_errors
from emulator.processing_job import EmulatedProcessingJob
from emulator.request_validation import (
    Client,
    RequestRejected,
    check_image,
    check_keys,
    check_network,
    check_quota,
    check_role,
    has_local_storage,
    reject,
)

USAGE = "processing job"
_INPUT_FOLDER = "/opt/ml/processing/"
_EMULATED = {
    "S3DataType": "S3Prefix",
    "S3InputMode": "File",
    "S3DataDistributionType": "FullyReplicated",
    "S3CompressionType": "None",
}


class ProcessingApi:
    """Processing jobs of the emulated service.

    Args:
        create_job: Returns the job of a request and an ARN.
        arn_prefix: ARN of a job without its name.
    """

    def __init__(
        self,
        create_job: Callable[[dict[str, Any], str], EmulatedProcessingJob],
        arn_prefix: str,
    ):
        self._create_job, self._arn_prefix = create_job, arn_prefix
        self._jobs: dict[str, EmulatedProcessingJob] = {}
        self._lock = threading.Lock()

    def create(
        self, request: dict[str, Any], client: Client, quotas: Mapping[str, int]
    ) -> dict[str, Any]:
        """Check a request and start its job.

        Args:
            request: Parameters of the request.
            client: Returns the boto3 client of a service of the emulated account.
            quotas: Allowed number of instances by type.

        Raises:
            RequestRejected: The service would reject the request.
        """
        check_processing_request(request, client, quotas)
        name = request["ProcessingJobName"]
        with self._lock:
            if name in self._jobs:
                raise RequestRejected(
                    "ResourceInUse",
                    "Processing job names must be unique within an AWS account and region",
                )
            job = self._jobs[name] = self._create_job(request, self._arn_prefix + name)
        job.start()
        return {"ProcessingJobArn": self._arn_prefix + name}

    def job(self, name: str) -> EmulatedProcessingJob:
        """Return the job of a name.

        Raises:
            RequestRejected: It does not exist.
        """
        if name not in self._jobs:
            raise RequestRejected("ValidationException", "Could not find requested job")
        return self._jobs[name]

    def describe(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return a job, without its tags, which ListTags returns."""
        described = self.job(request["ProcessingJobName"]).describe()
        return {key: value for key, value in described.items() if key != "Tags"}

    def stop(self, request: dict[str, Any]) -> dict[str, Any]:
        """Stop a job.

        Raises:
            RequestRejected: It has ended, or is being stopped.
        """
        job = self.job(request["ProcessingJobName"])
        if not job.stop():
            reject("The request was rejected because the processing job is in status " + job.status)
        return {}

    def list(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return summaries of jobs, newest first, by status and part of the name."""
        keys = (
            *("ProcessingJobName", "ProcessingJobArn", "ProcessingJobStatus", "CreationTime"),
            *("LastModifiedTime", "ProcessingEndTime", "FailureReason", "ExitMessage"),
        )
        status, part = request.get("StatusEquals"), request.get("NameContains", "")
        found = [
            job
            for job in (job.describe() for job in self._jobs.values())
            if status in (None, job["ProcessingJobStatus"]) and part in job["ProcessingJobName"]
        ]
        found.sort(key=lambda job: job["CreationTime"], reverse=True)
        summaries = [{key: job[key] for key in keys if key in job} for job in found]
        return {"ProcessingJobSummaries": summaries}

    def close(self, grace_s: float) -> None:
        """Stop every running job and forget all."""
        for job in self._jobs.values():
            job.stop()
        for job in self._jobs.values():
            job.join(grace_s)
        self._jobs = {}


def check_processing_request(
    request: dict[str, Any], client: Client, quotas: Mapping[str, int]
) -> None:
    """Raise if the service would reject a CreateProcessingJob request.

    Args:
        request: Parameters of the request.
        client: Returns the boto3 client of a service of the emulated account.
        quotas: Allowed number of instances by type; types that are missing are unlimited.

    Raises:
        RequestRejected: The service would reject the request, or it uses what is not emulated.
    """
    if errors := validation_errors("sagemaker", "CreateProcessingJob", request):
        reject(f"{len(errors)} validation error(s) detected: {'; '.join(errors)}")
    cluster = request["ProcessingResources"]["ClusterConfig"]
    volume_key, instance_type = cluster.get("VolumeKmsKeyId"), cluster["InstanceType"]
    # https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ProcessingClusterConfig.html
    if volume_key and has_local_storage(instance_type, client):
        reject(f"You can't request a VolumeKmsKeyId with {instance_type}, which has local storage")
    _check_files(request)
    if "ContainerEntrypoint" in request["AppSpecification"]:
        reject("ContainerEntrypoint is not emulated: the image's own entry point runs")
    check_role(request["RoleArn"], client)
    check_keys([volume_key, request.get("ProcessingOutputConfig", {}).get("KmsKeyId")], client)
    check_network(request.get("NetworkConfig", {}).get("VpcConfig"), client)
    check_image(request["AppSpecification"]["ImageUri"], client)
    check_quota(instance_type, cluster["InstanceCount"], USAGE, quotas)


def _check_files(request: Mapping[str, Any]) -> None:
    """Reject inputs and outputs outside the folder of the service, or that are not emulated."""
    inputs = request.get("ProcessingInputs", ())
    outputs = request.get("ProcessingOutputConfig", {}).get("Outputs", ())
    if any("S3Input" not in item for item in inputs) or any("S3Output" not in o for o in outputs):
        reject("only inputs and outputs in S3 are emulated")
    places = [item["S3Input"] for item in inputs] + [item["S3Output"] for item in outputs]
    for place in places:
        if not place.get("LocalPath", "").startswith(_INPUT_FOLDER):
            reject(f"LocalPath {place.get('LocalPath')!r} is not below {_INPUT_FOLDER}")
        for key, value in _EMULATED.items():
            if place.get(key, value) != value:
                reject(f"{key}: {place[key]} is not emulated")

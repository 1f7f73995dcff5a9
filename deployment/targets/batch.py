"""Batch inference: one transform job over a file of requests, whose instances end with it.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateTransformJob.html
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import catalog.deployment_tags as tag
from catalog.instances import has_local_disk
from deployment.account import DeploymentAccount
from deployment.errors import DeployModelError
from deployment.quote import DeploymentQuote, instance_quote
from deployment.record import Deployment, DeploymentState, model_of_tags, tag_list
from deployment.sagemaker.calls import SageMakerCalls
from deployment.sagemaker.checks import common_problems
from deployment.sagemaker.endpoints import is_of
from deployment.sagemaker.images import image_cuda, image_kind
from deployment.sagemaker.requests import DIGEST_LENGTH, FILES, model_request
from deployment.targets.base import DeploymentRequest, ignored_problems
from launch.aws.s3 import S3Store, S3Uri
from launch.aws.session import explain_aws_errors
from launch.errors import LaunchError
from training.console import say
from training.errors import Problem

_STATES: Mapping[str, DeploymentState] = {
    "InProgress": "deployed",
    "Stopping": "undeploying",
    "Completed": "not deployed",
    "Stopped": "not deployed",
    "Failed": "failed",
}
_GPU_AMI, _GPU_CUDA = "al2-ami-sagemaker-batch-gpu-535", (12, 2)
"""Newest operating system of transform jobs, and the newest CUDA that its driver runs."""
_CONCURRENT, _PAYLOAD_MB, _TIMEOUT_S, _RETRIES = 16, 6, 3600, 3
_WAIT_S = 5 * 86_400.0


def connect(account: DeploymentAccount) -> BatchTarget:
    """Return the target in an account."""
    return BatchTarget(account)


class BatchTarget:
    """Transform jobs.

    Args:
        account: The account.
    """

    kind = "batch"
    form: str | None = None

    def __init__(self, account: DeploymentAccount):
        self.account = account
        self.calls = SageMakerCalls(account.client("sagemaker"))

    def problems(self, request: DeploymentRequest) -> Iterator[Problem]:
        """Yield everything that would make the job fail, before any resource is created."""
        ignored = ("adapter_of", "devices", "throughput", "capture", "rollout", "ami")
        yield from ignored_problems(request, *ignored)
        yield from common_problems(self.account, request)
        spec = request.spec
        if spec.batch is None:
            yield Problem(
                "batch.input", "is missing", fix="Name JSON Lines of requests: --input s3://…"
            )
        else:
            yield from self._input_problems(spec.batch.input)
        if spec.scaling is not None:
            yield Problem("scaling", "a batch has a fixed number of instances", fix="Set --copies")
        if spec.instance is None:
            return
        try:
            cuda = image_cuda(spec.image) if image_kind(spec.instance) == "serve-gpu" else None
        except DeployModelError:
            return  # reported by the checks of the image
        if cuda is not None and cuda > _GPU_CUDA:
            newest = ".".join(map(str, _GPU_CUDA))
            yield Problem(
                "instance",
                f"transform jobs have drivers up to CUDA {newest}, and the image needs "
                f"{'.'.join(map(str, cuda))}: the container would fail when it starts",
                spec.instance,
                f"Choose a CPU instance, an image of CUDA {newest} with `image`, or --to async",
            )

    def _input_problems(self, address: str) -> Iterator[Problem]:
        try:
            S3Store(self.account.client("s3")).require_objects("batch.input", S3Uri.parse(address))
        except LaunchError as error:
            yield Problem("batch.input", str(error).removeprefix("batch.input: "))

    def quote(self, request: DeploymentRequest) -> DeploymentQuote:
        """Return what the job costs while it runs."""
        spec = request.spec
        assert spec.instance is not None
        return instance_quote(
            spec.instance,
            (spec.copies, 0, spec.copies),
            "when the last request is answered",
            region=self.account.environment.region,
        )

    def find(self, name: str) -> Deployment | None:
        """Return the job of a name that runs, None if none does."""
        return next((job for job in self.list() if job.name == name), None)

    def deploy(self, request: DeploymentRequest) -> Deployment:
        """Run a batch, or attach to the one that an earlier command started, and wait.

        Raises:
            DeployModelError: It failed, with the service's reason.
        """
        model = model_request(self.account, request)
        self.calls.create("model", model, "ModelName")
        job = self.job_request(request, model["ModelName"])
        if not self.calls.create("transform_job", job, "TransformJobName"):
            say(f"{job['TransformJobName']} exists; waiting for it")
        described = self._settle(job["TransformJobName"])
        self.calls.delete("model", ModelName=model["ModelName"])
        return self._deployment(described)

    def swap(self, request: DeploymentRequest) -> Deployment:
        """Raise: a batch ends, and the next one names its version.

        Raises:
            DeployModelError: Always.
        """
        raise DeployModelError(
            f"{request.spec.name} is a batch, whose version stays. Stop it: temper undeploy; then "
            f"deploy {request.model.id} with --to batch"
        )

    def undeploy(self, name: str) -> None:
        """Stop the jobs of a name and delete their models; a repetition is no error."""
        stem = self.account.resource_name(name)
        for summary in self.calls.names("list_transform_jobs", f"{stem}-"):
            job = summary["TransformJobName"]
            if is_of(job, stem) and summary["TransformJobStatus"] in ("InProgress", "Stopping"):
                if summary["TransformJobStatus"] == "InProgress":
                    with explain_aws_errors(f"stopping {job}"):
                        self.calls.client.stop_transform_job(TransformJobName=job)
                described = self.account.polling.until(
                    partial(self._describe, job),
                    lambda d: d.get("TransformJobStatus") not in ("InProgress", "Stopping"),
                    what=f"the end of {job}",
                    timeout_s=1800.0,
                )
                if described:
                    self.calls.delete("model", ModelName=described["ModelName"])

    def list(self) -> list[Deployment]:
        """Return the jobs that run in the environment."""
        prefix = f"{self.account.environment.prefix}-"
        found = []
        for summary in self.calls.names("list_transform_jobs", prefix):
            running = summary["TransformJobStatus"] in ("InProgress", "Stopping")
            if running and summary["TransformJobName"].startswith(prefix):
                name = summary["TransformJobName"]
                if described := self._describe(name):
                    found.append(self._deployment(described))
        return found

    def job_request(self, request: DeploymentRequest, model_name: str) -> dict[str, Any]:
        """Return the request CreateTransformJob.

        Args:
            request: The deployment.
            model_name: Name of the model.
        """
        spec, platform = request.spec, self.account.platform
        assert spec.batch is not None
        assert spec.instance is not None
        source = {"S3DataType": "S3Prefix", "S3Uri": spec.batch.input}
        key = {} if has_local_disk(spec.instance) else {"VolumeKmsKeyId": platform["keys/data"]}
        ami = {"TransformAmiVersion": _GPU_AMI} if image_kind(spec.instance) == "serve-gpu" else {}
        content: dict[str, Any] = {
            "ModelName": model_name,
            "MaxConcurrentTransforms": _CONCURRENT,
            "MaxPayloadInMB": _PAYLOAD_MB,
            "BatchStrategy": "SingleRecord",
            "ModelClientConfig": {
                "InvocationsTimeoutInSeconds": _TIMEOUT_S,
                "InvocationsMaxRetries": _RETRIES,
            },
            "TransformInput": {
                "DataSource": {"S3DataSource": source},
                "ContentType": "application/json",
                "SplitType": "Line",
            },
            "TransformOutput": {
                "Accept": "application/json",
                "AssembleWith": "Line",
                "KmsKeyId": platform["keys/data"],
            },
            "TransformResources": {
                "InstanceType": spec.instance,
                "InstanceCount": spec.copies,
                **key,
                **ami,
            },
        }
        text = json.dumps([content, spec.batch.output], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]
        stem = self.account.resource_name(spec.name)[: 63 - DIGEST_LENGTH - 1]
        output = spec.batch.output or (
            f"s3://{platform['buckets/runs']}/{FILES}/{spec.name}/batch/{digest}"
        )
        content["TransformOutput"]["S3OutputPath"] = output
        tags = tag_list({**self.account.tags, **request.tags})
        return {"TransformJobName": f"{stem}-{digest}", **content, "Tags": tags}

    def _describe(self, job: str) -> dict[str, Any]:
        """Return the description of a job; empty if there is none."""
        return self.calls.describe("transform_job", TransformJobName=job) or {}

    def _settle(self, name: str) -> dict[str, Any]:
        """Return the description of a job that has completed.

        Raises:
            DeployModelError: It failed or was stopped.
        """
        described = self.account.polling.until(
            partial(self._describe, name),
            lambda d: d.get("TransformJobStatus") not in ("InProgress", "Stopping"),
            what=name,
            timeout_s=_WAIT_S,
        )
        if described.get("TransformJobStatus") != "Completed":
            reason = described.get("FailureReason", "no reason given")
            status = described.get("TransformJobStatus", "gone")
            raise DeployModelError(
                f"{name} is {status}: {reason}. Its log is in /aws/sagemaker/TransformJobs. To run "
                f"it again, name another --output or --name"
            )
        return described

    def _deployment(self, described: Mapping[str, Any]) -> Deployment:
        tags = self.calls.tags(described["TransformJobArn"])
        status = described["TransformJobStatus"]
        resources = described["TransformResources"]
        running = status in ("InProgress", "Stopping")
        output = described["TransformOutput"]["S3OutputPath"]
        return Deployment(
            name=tags.get(tag.DEPLOYMENT, described["TransformJobName"]),
            to=self.kind,
            state=_STATES[status],
            model=model_of_tags(tags),
            address=output,
            detail=f"{status}; answers in {output}",
            tags=tags,
            instances={resources["InstanceType"]: resources["InstanceCount"]} if running else {},
            created=described.get("CreationTime"),
        )

"""Emulated batch transform: a container reads objects of S3 and writes an answer to each.

https://docs.aws.amazon.com/sagemaker/latest/dg/batch-transform.html
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any

from emulator.aws_service import Handler
from emulator.hosting.context import HostingContext
from emulator.hosting.fleet import NO_CAPACITY, start_server
from emulator.hosting.model_server import ModelServer
from emulator.hosting.models import EmulatedModel
from emulator.hosting.resources import ResourceTable, list_page
from emulator.request_validation import RequestRejected, check_keys, check_quota, reject
from emulator.s3_sync import EmulatedBucket
from launch.aws.s3 import S3Store, S3Uri

_FINAL = ("Completed", "Failed", "Stopped")
_MEBIBYTE = 2**20


class EmulatedTransformJob:
    """Batch transform job.

    Args:
        context: Clock, account and containers.
        request: CreateTransformJob request.
        model: The model.
        arn: ARN of the job.

    Attributes:
        status: Status of the job.
    """

    def __init__(
        self,
        context: HostingContext,
        request: Mapping[str, Any],
        model: EmulatedModel,
        arn: str,
    ):
        self._context, self.request, self.arn = context, request, arn
        self.name, self.status, self.failure = request["TransformJobName"], "InProgress", ""
        self.created, self._times = context.clock.now(), dict[str, float]()
        container = dict(model.container)
        variables = {**container.get("Environment", {}), **request.get("Environment", {})}
        self._server = ModelServer(
            context,
            f"transform/{self.name}",
            {**container, "Environment": variables},
            ("/aws/sagemaker/TransformJobs", f"{self.name}/i-1"),
            mute=model.request["ModelName"] in context.faults.mute_models,
        )
        self._thread = threading.Thread(target=self._transform, daemon=True)

    def start(self) -> None:
        """Provide the instances, and start the container on them."""
        resources = self.request["TransformResources"]
        timings = self._context.timings
        if resources["InstanceType"] in self._context.faults.no_capacity:
            self._context.later(timings.provision_s, lambda: self._end("Failed", NO_CAPACITY))
            return

        def started(reason: str) -> None:
            if reason:
                self._end("Failed", reason)
            elif self.status == "InProgress":
                self._times["TransformStartTime"] = self._context.clock.now()
                self._thread.start()

        def provided() -> None:
            if self.status == "InProgress":
                start_server(self._context, self._server, {}, self.name, started)

        self._context.later(timings.provision_s, provided)

    def stop(self) -> None:
        """Stop the job."""
        self.status = "Stopping"
        self._context.later(self._context.timings.release_s, lambda: self._end("Stopped"))

    def join(self, timeout_s: float = 60.0) -> None:
        """Wait until the container has read everything."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def end(self) -> None:
        """End the container, at once."""
        self.status = "Stopped"
        self._server.stop()

    def describe(self) -> dict[str, Any]:
        """Return the job as DescribeTransformJob does."""
        described = {
            **{key: value for key, value in self.request.items() if key != "Tags"},
            "TransformJobArn": self.arn,
            "TransformJobStatus": self.status,
            "CreationTime": self.created,
            **self._times,
        }
        return described | ({"FailureReason": self.failure[:1024]} if self.failure else {})

    def _transform(self) -> None:
        try:
            for address in self._inputs():
                if self.status != "InProgress":
                    return
                self._write(address, self._answer(address))
        except RequestRejected as rejection:
            reason = rejection.message
        except Exception as error:  # the service, too, reports its own faults as a failed job
            reason = f"InternalServerError: {error!r}"
        else:
            reason = ""
        with self._context.lock:
            self._end("Failed" if reason else "Completed", reason)

    def _inputs(self) -> list[S3Uri]:
        source = S3Uri.parse(self.request["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"])
        listed = S3Store(self._context.client("s3")).list(source)
        found = [uri for uri, _ in listed if not uri.key.endswith("/")]
        if not found:
            reject(f"ClientError: No S3 objects found under {source}")
        return found

    def _answer(self, address: S3Uri) -> bytes:
        """Return the answers to one object: to each record, joined as the request says."""
        content = EmulatedBucket(self._context.client("s3")).read(address)
        headers = {
            header: self.request[part][key]
            for header, part, key in (
                ("Content-Type", "TransformInput", "ContentType"),
                ("Accept", "TransformOutput", "Accept"),
            )
            if key in self.request[part]
        }
        client = self.request.get("ModelClientConfig", {})
        answers = []
        for body in self._records(content):
            for _ in range(client.get("InvocationsMaxRetries", 0) + 1):
                answer = self._server.request(
                    "POST",
                    "/invocations",
                    body,
                    headers,
                    timeout_s=client.get("InvocationsTimeoutInSeconds", 600),
                )
                if answer.status == 200 or 400 <= answer.status < 500:
                    break
            if answer.status != 200:
                text = answer.body.decode(errors="replace")
                reject(f"AlgorithmError: {address}: the container answered {answer.status}: {text}")
            answers.append(answer.body)
        joined = self.request["TransformOutput"].get("AssembleWith", "None") == "Line"
        return b"".join(a + b"\n" for a in answers) if joined else b"".join(answers)

    def _records(self, content: bytes) -> Iterator[bytes]:
        """Yield the bodies of the requests to the container."""
        limit = self.request.get("MaxPayloadInMB", 6) * _MEBIBYTE
        if self.request["TransformInput"].get("SplitType", "None") == "None":
            if limit and len(content) > limit:
                reject(f"ClientError: the object has more than MaxPayloadInMB {limit // _MEBIBYTE}")
            yield content
            return
        lines = [line for line in content.split(b"\n") if line]
        if self.request.get("BatchStrategy") == "SingleRecord":
            yield from lines
            return
        batch = b""
        for line in lines:
            if batch and limit and len(batch) + len(line) > limit:
                yield batch
                batch = b""
            batch += line + b"\n"
        yield batch

    def _write(self, address: S3Uri, content: bytes) -> None:
        source = S3Uri.parse(self.request["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"])
        name = address.key.removeprefix(source.key.rpartition("/")[0]).lstrip("/")
        output = self.request["TransformOutput"]
        place = S3Uri.parse(output["S3OutputPath"].rstrip("/")) / f"{name}.out"
        bucket = EmulatedBucket(self._context.client("s3"))
        bucket.write(content, place, output.get("KmsKeyId"))

    def _end(self, status: str, failure: str = "") -> None:
        if self.status in _FINAL:
            return
        self.status, self.failure = status, failure
        self._times["TransformEndTime"] = self._context.clock.now()
        self._server.stop()
        self._context.publish("Transform Job", self.arn, self.describe())


class TransformApi:
    """Batch transform jobs of the emulated service.

    Args:
        context: Clock, account and containers.
        models: The models.
    """

    def __init__(self, context: HostingContext, models: ResourceTable[EmulatedModel]):
        self._context, self._models = context, models
        self.table = ResourceTable[EmulatedTransformJob](context, "transform-job", "transform job")

    def operations(self) -> dict[str, Handler]:
        """Return the handler of each operation."""
        return {
            "CreateTransformJob": self._create,
            "DescribeTransformJob": lambda request: self._job(request).describe(),
            "ListTransformJobs": self._list,
            "StopTransformJob": self._stop,
        }

    def _create(self, request: dict[str, Any]) -> dict[str, Any]:
        name = request["TransformJobName"]
        with self._context.lock:
            if self.table.find(name):
                message = "Transform job names must be unique within an AWS account and region"
                raise RequestRejected("ResourceInUse", message)
            if request["TransformInput"]["DataSource"]["S3DataSource"]["S3DataType"] != "S3Prefix":
                reject("only S3DataType S3Prefix is emulated")
            if "DataProcessing" in request:
                reject("DataProcessing is not emulated")
            output, resources = request["TransformOutput"], request["TransformResources"]
            check_keys(
                [output.get("KmsKeyId"), resources.get("VolumeKmsKeyId")], self._context.client
            )
            quotas = self._context.faults.quotas
            count = resources["InstanceCount"]
            check_quota(resources["InstanceType"], count, "transform job", quotas)
            model = self._models.get(request["ModelName"])
            job = EmulatedTransformJob(self._context, request, model, self.table.arn(name))
            self.table.add(name, job, request)
            job.start()
        return {"TransformJobArn": job.arn}

    def _job(self, request: Mapping[str, Any]) -> EmulatedTransformJob:
        return self.table.get(request["TransformJobName"])

    def _list(self, request: dict[str, Any]) -> dict[str, Any]:
        keys = (
            *("TransformJobName", "TransformJobArn", "CreationTime", "TransformJobStatus"),
            *("TransformEndTime", "FailureReason"),
        )
        jobs = [job.describe() for job in self.table]
        summaries = [{key: job[key] for key in keys if key in job} for job in jobs]
        return list_page(request, summaries, "TransformJob", "TransformJobSummaries")

    def _stop(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._context.lock:
            job = self._job(request)
            if job.status != "InProgress":
                reject(
                    f"The request was rejected because the transform job is in status {job.status}."
                )
            job.stop()
        return {}

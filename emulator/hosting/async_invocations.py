"""Emulated asynchronous inference: a queue, answers in S3, notifications.

https://docs.aws.amazon.com/sagemaker/latest/dg/async-inference.html
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from emulator.aws_service import Handler
from emulator.hosting.context import HostingContext
from emulator.hosting.endpoint import EmulatedEndpoint
from emulator.hosting.invocations import refuse, request_headers
from emulator.hosting.metrics import MetricStore
from emulator.hosting.model_server import ModelServer
from emulator.hosting.resources import ResourceTable
from emulator.moto_account import ACCOUNT
from emulator.s3_sync import EmulatedBucket
from launch.aws.s3 import S3Uri

_TTL_S = 21_600
_TIMEOUT_S = 900.0


@dataclass(frozen=True)
class QueuedRequest:
    """Request that waits for an instance."""

    id: str
    request: Mapping[str, Any]
    output: S3Uri
    failure: S3Uri
    expires: float


class AsyncInvocationApi:
    """Asynchronous invocations of the emulated endpoints.

    Args:
        context: Clock, account and containers.
        endpoints: The endpoints.
        store: The metrics.
    """

    def __init__(
        self,
        context: HostingContext,
        endpoints: ResourceTable[EmulatedEndpoint],
        store: MetricStore,
    ):
        self._context, self._endpoints, self._store = context, endpoints, store
        self.queues: dict[str, list[QueuedRequest]] = {}
        self._running: dict[str, int] = {}
        self._threads: list[threading.Thread] = []

    def operations(self) -> dict[str, Handler]:
        """Return the handler of each operation."""
        return {"InvokeEndpointAsync": self._invoke}

    def _invoke(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._context.lock:
            endpoint = self._endpoints.find(request["EndpointName"])
            if endpoint is None or not endpoint.answers:
                refuse(f"Endpoint {request['EndpointName']} of account {ACCOUNT} not found.")
            config = endpoint.config.request.get("AsyncInferenceConfig")
            if config is None:
                refuse(f"Endpoint {endpoint.name} is not an asynchronous endpoint.")
            if ("InputLocation" in request) == ("Body" in request):
                refuse("Exactly one of InputLocation and Body must be specified.")
            output = config["OutputConfig"]
            id_ = str(uuid.uuid4())
            home = S3Uri.parse(output["S3OutputPath"].rstrip("/"))
            failures = S3Uri.parse(output.get("S3FailurePath", f"{home}/failures").rstrip("/"))
            queued = QueuedRequest(
                id_,
                request,
                home / f"{id_}.out",
                failures / f"{id_}-error.out",
                self._context.clock.now() + request.get("RequestTTLSeconds", _TTL_S),
            )
            queue = self.queues.setdefault(endpoint.name, [])
            queue.append(queued)
            if len(queue) == 1:
                self._context.later(0, lambda: self._work(endpoint.name))
        return {
            "InferenceId": request.get("InferenceId", id_),
            "OutputLocation": str(queued.output),
            "FailureLocation": str(queued.failure),
        }

    def join(self, timeout_s: float = 60.0) -> None:
        """Wait until the requests in progress have their answers."""
        for thread in list(self._threads):
            thread.join(timeout_s)

    def clear(self) -> None:
        """Forget all queues."""
        self.queues.clear()

    def _work(self, name: str) -> None:
        """Hand requests of a queue to the container, if there is one, and look again."""
        endpoint, queue = self._endpoints.find(name), self.queues.get(name, [])
        if endpoint is None:
            self.queues.pop(name, None)
            return
        now = self._context.clock.now()
        queue[:] = [queued for queued in queue if queued.expires > now]
        (fleet,) = [endpoint.fleets[v["VariantName"]] for v in endpoint.config.variants]
        limit = (
            endpoint.config.request["AsyncInferenceConfig"]
            .get("ClientConfig", {})
            .get("MaxConcurrentInvocationsPerInstance", 4)
        )
        ready = fleet.count > 0 and fleet.server is not None and fleet.server.is_ready
        self._measure(name, len(queue), fleet.count)
        while ready and queue and self._running.get(name, 0) < limit * fleet.count:
            assert fleet.server is not None
            self._running[name] = self._running.get(name, 0) + 1
            thread = threading.Thread(
                target=self._answer,
                args=(name, queue.pop(0), fleet.server, endpoint.config.request),
                daemon=True,
            )
            self._threads.append(thread)
            thread.start()
        if queue or self._running.get(name):
            self._context.later(self._context.timings.queue_s, lambda: self._work(name))
        else:
            self._measure(name, 0, fleet.count)

    def _measure(self, name: str, backlog: int, instances: int) -> None:
        put, of = self._store.put, {"EndpointName": name}
        put("ApproximateBacklogSize", backlog, **of)
        put("HasBacklogWithoutCapacity", float(backlog > 0 and instances == 0), **of)
        if instances:
            put("ApproximateBacklogSizePerInstance", backlog / instances, **of)

    def _answer(
        self, name: str, queued: QueuedRequest, server: ModelServer, config: Mapping[str, Any]
    ) -> None:
        output = config["AsyncInferenceConfig"]["OutputConfig"]
        bucket = EmulatedBucket(self._context.client("s3"))
        try:
            body = queued.request.get("Body") or bucket.read(
                S3Uri.parse(queued.request["InputLocation"])
            )
            timeout = queued.request.get("InvocationTimeoutSeconds", _TIMEOUT_S)
            answer = server.request(
                "POST", "/invocations", body, request_headers(queued.request), timeout_s=timeout
            )
            content, ended_well = answer.body, answer.status == 200
        except ClientError as error:
            content, ended_well = str(error).encode(), False
        place = queued.output if ended_well else queued.failure
        bucket.write(content, place, output.get("KmsKeyId"))
        self._notify(queued, output.get("NotificationConfig", {}), place, ended_well=ended_well)
        with self._context.lock:
            self._running[name] -= 1

    def _notify(
        self, queued: QueuedRequest, topics: Mapping[str, Any], place: S3Uri, *, ended_well: bool
    ) -> None:
        topic = topics.get("SuccessTopic" if ended_well else "ErrorTopic")
        if topic:
            message = {
                "inferenceId": queued.request.get("InferenceId", queued.id),
                "invocationStatus": "Completed" if ended_well else "Failed",
                "responseParameters": {"outputLocation": str(place)},
            }
            self._context.client("sns").publish(TopicArn=topic, Message=json.dumps(message))

"""Emulated runtime of endpoints: invocations that reach the container of a variant or component.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NoReturn

from emulator.aws_service import Handler
from emulator.hosting.component import ADAPTER_HEADER, EmulatedComponent
from emulator.hosting.context import HostingContext
from emulator.hosting.data_capture import DataCapture
from emulator.hosting.endpoint import EmulatedEndpoint
from emulator.hosting.fleet import Fleet
from emulator.hosting.invocation_metrics import InvocationMetrics, InvocationOutcome
from emulator.hosting.metrics import MetricStore
from emulator.hosting.model_server import Answer, ModelServer
from emulator.hosting.resources import ResourceTable
from emulator.hosting.shadow import ShadowTraffic
from emulator.hosting.traffic_share import RequestCounter, is_in_share
from emulator.moto_account import ACCOUNT
from emulator.request_validation import RequestRejected

TIMEOUT_S = 60.0
STREAM_TIMEOUT_S = 480.0
NO_COPIES = (
    "Inference Component has no capacity to process this request. ApplicationAutoScaling may be "
    "in-progress (if configured) or try to increase the capacity by invoking "
    "UpdateInferenceComponentRuntimeConfig API."
)
_HEADERS = {
    "ContentType": "Content-Type",
    "Accept": "Accept",
    "CustomAttributes": "X-Amzn-SageMaker-Custom-Attributes",
    "SessionId": "X-Amzn-SageMaker-Session-Id",
    "InferenceId": "X-Amzn-SageMaker-Inference-Id",
}


@dataclass(frozen=True)
class InvocationTarget:
    """Container that answers an invocation.

    Attributes:
        endpoint: The endpoint.
        server: The container.
        variant: Name of its variant.
        headers: Further headers that the container receives.
    """

    endpoint: EmulatedEndpoint
    server: ModelServer
    variant: str
    headers: Mapping[str, str]


class InvocationApi:
    """Invocations of the emulated endpoints.

    Args:
        context: Clock, account and containers.
        endpoints: The endpoints.
        components: The inference components.
        store: The metrics.

    Attributes:
        capture: Captured calls.
        shadow: Traffic of shadow variants.
    """

    def __init__(
        self,
        context: HostingContext,
        endpoints: ResourceTable[EmulatedEndpoint],
        components: ResourceTable[EmulatedComponent],
        store: MetricStore,
    ):
        self._store, self._metrics = store, InvocationMetrics(context, store)
        self.capture = DataCapture(context)
        self.shadow = ShadowTraffic(context, self._metrics, self.capture)
        self._context, self._endpoints, self._components = context, endpoints, components
        self._requests = RequestCounter()

    def operations(self) -> dict[str, Handler]:
        """Return the handler of each operation."""
        return {
            "InvokeEndpoint": self._invoke,
            "InvokeEndpointWithResponseStream": self._stream,
        }

    def clear(self) -> None:
        """Forget the requests and the captured calls."""
        self._requests.clear()
        self.shadow.clear()
        self.capture.clear()

    def _invoke(self, request: dict[str, Any]) -> dict[str, Any]:
        target = self.target(request)
        endpoint, headers = target.endpoint, {**request_headers(request), **target.headers}
        config = endpoint.capture
        captured = self.capture.takes(endpoint.name, config)
        with self._measured(request, target) as outcome:
            self.shadow.copy(endpoint, request, headers, captured=captured)
            answer = target.server.request(
                "POST", "/invocations", request["Body"], headers, timeout_s=TIMEOUT_S
            )
            outcome.status = answer.status
        if answer.status != 200:
            raise model_error(answer)
        if captured and config:
            self.capture.put((endpoint.name, target.variant), config, request, answer)
        return {
            "Body": answer.body,
            "ContentType": answer.headers.get("content-type", ""),
            "InvokedProductionVariant": target.variant,
        }

    def _measured(
        self, request: Mapping[str, Any], target: InvocationTarget
    ) -> AbstractContextManager[InvocationOutcome]:
        component = request.get("InferenceComponentName")
        return self._metrics.measured(target.endpoint.name, target.variant, component)

    def _stream(self, request: dict[str, Any]) -> dict[str, Any]:
        target = self.target(request)
        passed = {**request_headers(request), **target.headers}
        with self._measured(request, target) as outcome:
            self.shadow.copy(target.endpoint, request, passed, captured=False)
            status, headers, parts = target.server.stream(
                request["Body"], passed, timeout_s=STREAM_TIMEOUT_S
            )
            outcome.status = status
        if status != 200:
            raise model_error(Answer(status, headers, b"".join(parts)))

        def events() -> Iterator[dict[str, Any]]:
            try:
                for part in parts:
                    yield {"PayloadPart": {"Bytes": part}}
            except OSError as error:
                code, message = "ModelInvocationTimeExceeded", f"The stream broke off: {error}"
                yield {"ModelStreamError": {"Message": message, "ErrorCode": code}}

        return {
            "Body": events(),
            "ContentType": headers.get("content-type", ""),
            "InvokedProductionVariant": target.variant,
        }

    def target(self, request: Mapping[str, Any]) -> InvocationTarget:
        """Return the container that answers a request.

        Raises:
            RequestRejected: No container can answer.
        """
        with self._context.lock:
            endpoint = self._endpoints.find(request["EndpointName"])
            if endpoint is None or not endpoint.answers:
                refuse(f"Endpoint {request['EndpointName']} of account {ACCOUNT} not found.")
            name = request.get("InferenceComponentName")
            if endpoint.config.has_components:
                return self._component(endpoint, name)
            if name:
                refuse(f"Inference Component {name} of {endpoint.name} not found.")
            fleet = self._fleet(endpoint, request.get("TargetVariant"))
            assert fleet.server is not None
            return InvocationTarget(endpoint, fleet.server, fleet.name, {})

    def _component(self, endpoint: EmulatedEndpoint, name: str | None) -> InvocationTarget:
        """Return the container of an inference component, which answers for its adapters."""
        if not name:
            refuse(
                "Inference Component Name header is required for endpoints to which you plan to "
                "deploy inference components. Please include Inference Component Name header or "
                "consider using SageMaker models."
            )
        component = self._components.find(name)
        if component is None or component.endpoint != endpoint.name:
            refuse(f"Inference Component {name} of {endpoint.name} not found.")
        base = component.base or component
        copies, number = base.copies, self._requests.next(name)
        if component.status not in ("InService", "Updating") or not copies or not copies.count:
            self._store.put("NoCapacityInvocationFailures", 1, InferenceComponentName=name)
            refuse(NO_COPIES)
        if base.deployment and is_in_share(base.deployment.share, number):
            copies = base.deployment.fleets[base.name]
        headers = {ADAPTER_HEADER: name} if component.base else {}
        return InvocationTarget(endpoint, copies.server, component.variant, headers)

    def _fleet(self, endpoint: EmulatedEndpoint, variant: str | None) -> Fleet:
        """Return the fleet of the next request, by weight and by the share of a new deployment."""
        weights = {n: w for n, w in endpoint.weights.items() if variant in (None, n) and w}
        if not weights:
            refuse(f"Variant {variant} of {endpoint.name} not found.")
        number = self._requests.next(endpoint.name)
        name = _variant_of(weights, number)
        deployment = endpoint.deployment
        if deployment and name in deployment.fleets and is_in_share(deployment.share, number):
            return deployment.fleets[name]
        return endpoint.fleets[name]


def _variant_of(weights: Mapping[str, float], number: int) -> str:
    """Return the variant of a request: each is as often chosen as its weight says."""
    total = sum(weights.values())
    position = (number * 0.6180339887498949) % 1.0 * total  # evenly spread over the weights
    for name, weight in weights.items():
        position -= weight
        if position < 0:
            return name
    return next(reversed(list(weights)))


def request_headers(request: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers that the container receives."""
    return {header: request[key] for key, header in _HEADERS.items() if key in request}


def refuse(message: str) -> NoReturn:
    """Refuse an invocation that cannot be routed.

    Raises:
        RequestRejected: Always.
    """
    raise RequestRejected("ValidationError", message)


def model_error(answer: Answer) -> RequestRejected:
    """Return the error of a container that did not answer with 200."""
    message = answer.body.decode(errors="replace")[:2048] or (
        "Your invocation timed out while waiting for a response from container primary. Review the "
        "latency metrics for each container in Amazon CloudWatch, resolve the issue, and try again."
    )
    kind = "server" if not 400 <= answer.status < 500 else "client"
    return RequestRejected(
        "ModelError",
        f'Received {kind} error ({answer.status}) from primary with message "{message}".',
        OriginalStatusCode=answer.status,
        OriginalMessage=message,
    )

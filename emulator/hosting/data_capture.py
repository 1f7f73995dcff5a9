"""Captured requests and answers of endpoints: JSON lines in S3, a folder for each hour.

https://docs.aws.amazon.com/sagemaker/latest/dg/model-monitor-data-capture-endpoint.html
Streamed answers are not captured.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

from emulator.hosting.context import HostingContext
from emulator.hosting.model_server import Answer
from emulator.hosting.traffic_share import RequestCounter, is_in_share
from emulator.s3_sync import EmulatedBucket
from launch.aws.s3 import S3Uri

_PARTS = {"Input": "endpointInput", "Output": "endpointOutput"}


class DataCapture:
    """Captured calls that wait for their delivery to S3.

    Args:
        context: Clock, account and containers.
    """

    def __init__(self, context: HostingContext):
        self._context = context
        self._requests = RequestCounter()
        self._waiting: dict[tuple[str, str], list[tuple[float, dict[str, Any]]]] = {}
        self._configs: dict[str, Mapping[str, Any]] = {}

    def takes(self, endpoint: str, config: Mapping[str, Any] | None) -> bool:
        """Return whether the next call of an endpoint is captured.

        Args:
            endpoint: Name of the endpoint.
            config: Its DataCaptureConfig.
        """
        if not config or not config.get("EnableCapture", True):
            return False
        with self._context.lock:
            number = self._requests.next(endpoint)
        return is_in_share(Fraction(config["InitialSamplingPercentage"], 100), number)

    def put(
        self,
        place: tuple[str, str],
        config: Mapping[str, Any],
        request: Mapping[str, Any],
        answer: Answer,
    ) -> None:
        """Capture a call.

        Args:
            place: Names of the endpoint and of the variant.
            config: DataCaptureConfig of the endpoint.
            request: InvokeEndpoint request.
            answer: Answer of the container.
        """
        now = self._context.clock.now()
        line = capture_record(config, request, answer, now)
        with self._context.lock:
            self._configs[place[0]] = config
            waiting = self._waiting.setdefault(place, [])
            waiting.append((now, line))
            if len(waiting) == 1:
                self._context.later(self._context.timings.capture_s, lambda: self._deliver(place))

    def clear(self) -> None:
        """Forget what was not delivered."""
        self._waiting.clear()
        self._requests.clear()

    def _deliver(self, place: tuple[str, str]) -> None:
        """Write an object for each hour of the calls that wait."""
        endpoint, variant = place
        hours: dict[str, list[tuple[float, dict[str, Any]]]] = {}
        for now, line in self._waiting.pop(place, ()):
            hours.setdefault(f"{_moment(now):%Y/%m/%d/%H}", []).append((now, line))
        config = self._configs[endpoint]
        home = S3Uri.parse(config["DestinationS3Uri"].rstrip("/")) / endpoint / variant
        bucket = EmulatedBucket(self._context.client("s3"))
        for hour, lines in hours.items():
            first = _moment(lines[0][0])
            name = f"{first:%M-%S}-{first.microsecond // 1000:03d}-{uuid.uuid4()}.jsonl"
            text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for _, line in lines)
            bucket.write(text.encode(), home / hour / name, config.get("KmsKeyId"))


def capture_record(
    config: Mapping[str, Any], request: Mapping[str, Any], answer: Answer, now: float
) -> dict[str, Any]:
    """Return the line of a call.

    Args:
        config: DataCaptureConfig of the endpoint.
        request: InvokeEndpoint request.
        answer: Answer of the container.
        now: Time of the call.
    """
    headers = config.get("CaptureContentTypeHeader", {})
    contents = {
        "Input": (request.get("ContentType", ""), request["Body"]),
        "Output": (answer.headers.get("content-type", ""), answer.body),
    }
    modes = [option["CaptureMode"] for option in config["CaptureOptions"]]
    if "InputAndOutput" in modes:
        modes = list(_PARTS)
    data = {_PARTS[mode]: _part(mode, *contents[mode], headers) for mode in _PARTS if mode in modes}
    metadata: dict[str, Any] = {"eventId": str(uuid.uuid4())}
    if "CustomAttributes" in request:
        metadata["customAttributes"] = [request["CustomAttributes"]]
    if "InferenceId" in request:
        metadata["inferenceId"] = request["InferenceId"]
    metadata["inferenceTime"] = f"{_moment(now):%Y-%m-%dT%H:%M:%SZ}"
    return {"captureData": data, "eventMetadata": metadata, "eventVersion": "0"}


def _part(
    mode: str, content_type: str, body: bytes, headers: Mapping[str, list[str]]
) -> dict[str, str]:
    """Return a request or an answer: as text if its content type is listed, else in base64.

    Args:
        mode: `Input` or `Output`.
        content_type: Value of the header Content-Type.
        body: The content.
        headers: CaptureContentTypeHeader of the configuration.
    """
    kind = content_type.partition(";")[0].strip()
    encoding = "BASE64"
    if kind in headers.get("CsvContentTypes", ()):
        encoding = "CSV"
    elif kind in headers.get("JsonContentTypes", ()):
        encoding = "JSON"
    data = base64.b64encode(body).decode() if encoding == "BASE64" else body.decode()
    return {
        "observedContentType": content_type,
        "mode": mode.upper(),
        "data": data,
        "encoding": encoding,
    }


def _moment(now: float) -> datetime:
    return datetime.fromtimestamp(now, UTC)

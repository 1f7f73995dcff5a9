"""Event streams of AWS (`application/vnd.amazon.eventstream`), which frame parts in binary.

https://docs.aws.amazon.com/AmazonS3/latest/API/RESTSelectObjectAppendix.html describes the frames.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import httpx2

from client.endpoints.http_errors import classified
from client.errors import UnavailableError

_STATUS = {
    "validationException": 400,
    "throttlingException": 429,
    "serviceUnavailableException": 503,
}
"""Statuses that the errors inside a stream would have outside of it; others are server errors."""


class StreamEvent(NamedTuple):
    """Event of a stream.

    Attributes:
        kind: Its type, such as `contentBlockDelta`.
        payload: Its bytes.
    """

    kind: str
    payload: bytes


async def stream_events(name: str, response: httpx2.Response) -> AsyncIterator[StreamEvent]:
    """Yield the events of a response.

    Args:
        name: Name of the endpoint.
        response: The response.

    Raises:
        UnavailableError: A frame is damaged; an error that the service reports has its own class.
    """
    from botocore.eventstream import EventStreamBuffer, ParserError

    buffer = EventStreamBuffer()
    async for chunk in response.aiter_bytes():
        buffer.add_data(chunk)
        try:
            for event in buffer:
                headers = event.headers
                if headers.get(":message-type", "event") != "event":
                    error = _stream_error(name, headers, event.payload)
                    raise error
                yield StreamEvent(str(headers.get(":event-type", "")), event.payload)
        except ParserError as damage:
            raise UnavailableError(f"{name} sent a damaged frame: {damage}") from None


def _stream_error(name: str, headers: dict[str, Any], payload: bytes) -> Exception:
    code = str(headers.get(":exception-type") or headers.get(":error-code") or "")
    try:
        body = json.loads(payload)
        message = str(body.get("message") or body.get("Message") or "")
    except (ValueError, AttributeError):
        message = str(headers.get(":error-message", ""))
    return classified(name, _STATUS.get(code, 500), code, " ".join(message.split())[:300])

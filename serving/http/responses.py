"""Responses: JSON, server-sent events, errors in OpenAI's form."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Mapping
from typing import Any, TypeVar

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from serving.errors import RequestError

_KINDS = {
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
Result = TypeVar("Result")


class ClientGone(Exception):  # noqa: N818 (not a fault)
    """The client has closed the connection."""


def error_body(error: RequestError) -> dict[str, Any]:
    """Return the body that says what is wrong."""
    default = "invalid_request_error" if error.status < 500 else "server_error"
    return {
        "error": {
            "message": error.message,
            "type": _KINDS.get(error.status, default),
            "param": error.param,
            "code": "model_not_found" if error.param == "model" else None,
        }
    }


def error_response(error: RequestError) -> JSONResponse:
    """Return the response to a request that cannot be answered."""
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return JSONResponse(error_body(error), error.status, headers)


async def unless_gone(request: Request, work: Awaitable[Result]) -> Result:
    """Return the result of work, which is cancelled when the client closes the connection.

    Raises:
        ClientGone: The client has closed it.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_closed(request.receive))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone
    finally:
        for one in (task, watch):
            one.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _closed(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """Server-sent events, which end when the client closes the connection.

    Args:
        events: Objects to send; the generator is closed in any case.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[Mapping[str, Any], None]):
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        request = Request(scope, receive)
        try:
            await unless_gone(request, self._send(send))
        except ClientGone:
            return

    async def _send(self, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        try:
            async for event in self._events:
                await _send_event(send, orjson.dumps(event))
            await _send_event(send, b"[DONE]")
        except RequestError as error:
            await _send_event(send, orjson.dumps(error_body(error)))
        finally:
            await self._events.aclose()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send_event(send: Send, data: bytes) -> None:
    body = b"data: " + data + b"\n\n"
    await send({"type": "http.response.body", "body": body, "more_body": True})

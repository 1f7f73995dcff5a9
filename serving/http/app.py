"""ASGI application: routes, the API key, and errors as JSON."""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from serving.errors import RequestError
from serving.http.adapter_routes import AdapterRoutes
from serving.http.answers import AnswerService
from serving.http.metrics import CONTENT_TYPE
from serving.http.openai_routes import OpenAIRoutes
from serving.http.responses import ClientGone, error_response
from serving.model import ServedModel

logger = logging.getLogger(__name__)
_MAX_BODY = 32 * 2**20
_ADAPTER_HEADER = "X-Amzn-SageMaker-Adapter-Identifier"
_CLIENT_CLOSED = 499
"""Status that nginx logs for a request whose client has gone; no client receives it."""
Endpoint = Callable[[Request, Any], Awaitable[Response]]


def build_app(served: ServedModel, service: AnswerService, api_key: str | None) -> Starlette:
    """Return the application that serves a model.

    Args:
        served: The model.
        service: Answers of the engine.
        api_key: Key that requests must present; None for none.
    """
    openai, adapters = OpenAIRoutes(served, service), AdapterRoutes(served)

    async def health(_: Request) -> Response:
        alive = service.engine.alive
        return Response(status_code=200 if alive else 503)

    async def metrics(_: Request) -> Response:
        load = service.engine.load
        text = service.metrics.render(load.running, load.waiting)
        return PlainTextResponse(text, headers={"Content-Type": CONTENT_TYPE})

    async def invoke(request: Request, document: Any) -> Response:
        """Answer as SageMaker asks: the body says which of the two it is.

        Raises:
            RequestError: It is neither.
        """
        if not isinstance(document, dict) or not {"messages", "prompt"} & document.keys():
            raise RequestError("the body has neither messages (chat) nor prompt (completion)")
        if adapter := request.headers.get(_ADAPTER_HEADER):
            document = {**document, "model": adapter}
        return await (openai.chat if "messages" in document else openai.completions)(
            request, document
        )

    guard = _Guard(api_key)
    routes = [
        Route("/health", health),
        Route("/ping", health, methods=["GET", "POST"]),
        Route("/metrics", metrics),
        Route("/v1/models", guard.reading(openai.models)),
        Route("/v1/chat/completions", guard.posting(openai.chat), methods=["POST"]),
        Route("/v1/completions", guard.posting(openai.completions), methods=["POST"]),
        Route("/adapters", guard.reading(adapters.list)),
        Route("/adapters", guard.posting(adapters.load), methods=["POST"]),
        Route("/adapters/{name}", guard.reading(adapters.unload), methods=["DELETE"]),
        Route("/invocations", guard.posting(invoke, any_type=True), methods=["POST"]),
    ]

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        service.engine.start()
        yield
        service.engine.stop()
        if service.log is not None:
            service.log.close()

    handlers = {RequestError: _known, HTTPException: _http, Exception: _unexpected}
    # Starlette's type asks that each handler takes any exception; it calls each with its own.
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)  # type: ignore[arg-type]


class _Guard:
    """Checks before an endpoint: the key, the type of the body, its size, its JSON."""

    def __init__(self, api_key: str | None):
        self._key = None if api_key is None else api_key.encode()

    def reading(
        self, endpoint: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Return an endpoint that checks the key."""

        async def checked(request: Request) -> Response:
            self._check_key(request)
            return await endpoint(request)

        return checked

    def posting(
        self, endpoint: Endpoint, *, any_type: bool = False
    ) -> Callable[[Request], Awaitable[Response]]:
        """Return an endpoint that checks the key and parses the body.

        Args:
            endpoint: Endpoint of the request and its JSON.
            any_type: Accept a body of any media type.
        """

        async def checked(request: Request) -> Response:
            self._check_key(request)
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            # A web page can send another type to this machine without asking the server first.
            if not any_type and kind != "application/json":
                raise RequestError(
                    f"the body's Content-Type is {kind or 'missing'}; send application/json", 415
                )
            try:
                return await endpoint(request, await _json(request))
            except (ClientGone, ClientDisconnect):
                return Response(status_code=_CLIENT_CLOSED)

        return checked

    def _check_key(self, request: Request) -> None:
        if self._key is None:
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._key):
            raise RequestError("the API key is missing or wrong: Authorization: Bearer KEY", 401)


async def _json(request: Request) -> Any:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY:
            raise RequestError(f"the body is longer than {_MAX_BODY // 2**20} MiB", 413)
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the body is not JSON: {error}") from None


async def _known(_: Request, error: RequestError) -> Response:
    return error_response(error)


async def _http(request: Request, error: HTTPException) -> Response:
    message = f"{request.method} {request.url.path}: {error.detail}"
    if error.status_code == 404:
        routes = ", ".join(dict.fromkeys(route.path for route in request.app.routes))
        message = f"there is no {request.url.path}. Routes: {routes}"
    response = error_response(RequestError(message, error.status_code))
    response.headers.update(error.headers or {})
    return response


async def _unexpected(_: Request, error: Exception) -> Response:
    logger.error("A request failed", exc_info=error)
    return error_response(RequestError(f"the server failed: {type(error).__name__}", 500))

"""Server process: socket, signals, log."""

from __future__ import annotations

import socket
import sys

import uvicorn

from serving.command import STANDARD_OUTPUT, ServeError, ServeOptions
from serving.http.answers import AnswerService, RequestLimits
from serving.http.app import build_app
from serving.http.metrics import ServingMetrics
from serving.http.request_log import RequestLog
from serving.model import ServedModel

_BACKLOG = 2048
_GRACE_SECONDS = 5


def build_service(served: ServedModel, options: ServeOptions) -> AnswerService:
    """Return the answers of an engine for a model."""
    engine = served.build_engine(options.max_running)
    accepted = RequestLimits(options.max_running + options.max_waiting, options.timeout)
    return AnswerService(engine, ServingMetrics(served.name), accepted, _request_log(options))


def _request_log(options: ServeOptions) -> RequestLog | None:
    """Return the log of requests that the options name, or None.

    Raises:
        ServeError: Its folder cannot be written.
    """
    folder = options.log_requests
    if folder is None:
        return None
    from preparation.masking import RowMask

    try:
        return RequestLog(None if folder == STANDARD_OUTPUT else folder, RowMask().mask)
    except OSError as error:
        raise ServeError(f"--log-requests {folder}: {error.strerror or error}") from None


def serve(served: ServedModel, options: ServeOptions, listener: socket.socket) -> int:
    """Serve a model until the process is told to stop, and return the exit code.

    Args:
        served: The model.
        options: Options of the server.
        listener: Socket that is bound to its address.
    """
    app = build_app(served, build_service(served, options), options.api_key or None)
    config = uvicorn.Config(
        app,
        log_level="warning",
        backlog=_BACKLOG,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        server_header=False,
    )
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    listener.listen(_BACKLOG)  # so that a client can connect once the line below is read
    sys.stderr.write(_summary(served, f"http://{shown}:{port}"))
    uvicorn.Server(config).run(sockets=[listener])
    return 0


def _summary(served: ServedModel, url: str) -> str:
    adapters = f", adapters {', '.join(served.adapters)}" if served.adapters else ""
    chat = served.formats[None].rows.template is not None
    return (
        f"serving {served.name}{adapters}\n"
        f"  {url}/v1 (OpenAI), {url}/invocations (SageMaker), {url}/metrics\n"
        f"  context {served.context} tokens, {served.description}"
        f"{'' if chat else ', no chat template: completions only'}\n"
    )

"""Emulated AWS services behind one address: requests and responses checked by botocore's models.

A service is a table of operations. A request that its description does not allow is rejected as
the service rejects it, and a response that its description does not allow is an internal error. A
request of an operation that no service here has is passed on to the emulated account.
"""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any

from botocore.model import OperationModel, ServiceModel

from emulator.botocore_schema import operation, response_errors, service_model, validation_errors
from emulator.planted_errors import PlantedErrors
from emulator.request_validation import RequestRejected
from emulator.wire_format import (
    HttpRequest,
    HttpResponse,
    match_path,
    parse_json,
    parse_rest,
    serialize_json,
    serialize_rest,
)

Handler = Callable[[dict[str, Any]], Mapping[str, Any]]
_HOP_BY_HOP = ("connection", "transfer-encoding", "content-length", "host", "keep-alive")


class AwsService:
    """One emulated service.

    Args:
        name: Name of the service, as boto3 has it.
        operations: Handler of each operation: takes the parameters, returns the response.
        late: Members of an operation's response that are described as required, and that the
            service nevertheless leaves out at first.

    Attributes:
        calls: Names of the operations that were called, in order.
        errors: Errors to answer with, and replies to lose.
    """

    def __init__(
        self,
        name: str,
        operations: Mapping[str, Handler],
        late: Mapping[str, Collection[str]] = MappingProxyType({}),
    ):
        self.name, self._operations, self._late = name, dict(operations), late
        self.calls: list[str] = []
        self.errors = PlantedErrors()

    @property
    def model(self) -> ServiceModel:
        """Botocore's description of the service."""
        return service_model(self.name)

    def has(self, action: str) -> bool:
        """Return whether an operation is emulated here."""
        return action in self._operations

    def find(self, request: HttpRequest) -> tuple[OperationModel, dict[str, str]] | None:
        """Return the operation of a request and the labels of its path; None if it has none."""
        target = request.headers.get("x-amz-target", "")
        if self.model.metadata["protocol"] == "json":
            prefix, _, action = target.rpartition(".")
            if prefix == self.model.metadata["targetPrefix"] and action in self._operations:
                return operation(self.name, action), {}
            return None
        if target:
            return None
        for action in self._operations:
            model = operation(self.name, action)
            labels = match_path(model, request)
            if labels is not None:
                return model, labels
        return None

    def respond(
        self, model: OperationModel, request: HttpRequest, labels: Mapping[str, str]
    ) -> HttpResponse:
        """Execute a request and return the response to send.

        Args:
            model: Description of its operation.
            request: The request.
            labels: Labels in its path, by their names.
        """
        is_json = self.model.metadata["protocol"] == "json"
        try:
            parameters = (
                parse_json(model, request.body) if is_json else parse_rest(model, request, labels)
            )
            response = self.call(model.name, parameters)
            return serialize_json(model, response) if is_json else serialize_rest(model, response)
        except RequestRejected as rejection:
            return _error_response(model, rejection)
        except Exception as error:  # the service, too, answers its own faults
            return _error_response(model, RequestRejected("InternalFailure", repr(error)))

    def call(self, action: str, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Execute an operation and return its response.

        Raises:
            RequestRejected: The service rejects the request, or an error was planted.
        """
        self.calls.append(action)
        self.errors.raise_next(action)
        if errors := validation_errors(self.name, action, parameters):
            message = f"{len(errors)} validation error(s) detected: {'; '.join(errors)}"
            raise RequestRejected("ValidationException", message)
        response = self._operations[action](parameters)
        if errors := response_errors(self.name, action, response, self._late.get(action, ())):
            message = f"the emulator's response of {action} is invalid: {'; '.join(errors)}"
            raise RequestRejected("InternalFailure", message)
        return response

    def reset(self) -> None:
        """Forget the calls and what is planted."""
        self.calls.clear()
        self.errors.clear()


def _error_response(model: OperationModel, rejection: RequestRejected) -> HttpResponse:
    """Return the error response, with the status that the service's description has for it."""
    status = 500 if rejection.code in ("InternalFailure", "InternalServerException") else 400
    for shape in model.error_shapes:
        if rejection.code in (shape.name, shape.metadata.get("error", {}).get("code")):
            status = shape.metadata.get("error", {}).get("httpStatusCode", status)
    content = {
        "__type": rejection.code,
        "message": rejection.message,
        "Message": rejection.message,
        **rejection.details,
    }
    headers = {"Content-Type": "application/json", "x-amzn-ErrorType": rejection.code}
    return HttpResponse(status, headers, json.dumps(content).encode())


class AwsServer(ThreadingHTTPServer):
    """HTTP server of emulated services, on a free port of this machine.

    Args:
        services: The services.
        account: Address of the emulated account, to which other requests are passed on.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, services: Sequence[AwsService], account: str):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.services, self.account = tuple(services), account

    @property
    def url(self) -> str:
        """Endpoint for boto3."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def variables(self) -> dict[str, str]:
        """Return the environment variables that point boto3 to this server for its services."""
        names = (service.model.service_id for service in self.services)
        return {f"AWS_ENDPOINT_URL_{n.replace(' ', '_').upper()}": self.url for n in names}

    def respond(self, request: HttpRequest) -> HttpResponse | None:
        """Return the response to a request; None if the reply is to be lost."""
        for service in self.services:
            if found := service.find(request):
                model, labels = found
                response = service.respond(model, request, labels)
                return None if service.errors.loses_reply(model.name) else response
        return _pass_on(request, self.account)

    def __enter__(self) -> AwsServer:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self.server_close()


def _pass_on(request: HttpRequest, account: str) -> HttpResponse:
    """Send a request to the emulated account, which tells the service by its signature."""
    query = f"?{request.query}" if request.query else ""
    headers = {k: v for k, v in request.headers.items() if k not in _HOP_BY_HOP}
    passed = urllib.request.Request(
        f"{account}{request.path}{query}",
        data=request.body or None,
        headers=headers,
        method=request.method,
    )
    try:
        with urllib.request.urlopen(passed, timeout=120) as answer:
            return HttpResponse(answer.status, dict(answer.headers), answer.read())
    except urllib.error.HTTPError as error:
        return HttpResponse(error.code, dict(error.headers), error.read())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _handle(self) -> None:
        assert isinstance(self.server, AwsServer)
        path, _, query = self.path.partition("?")
        headers = {key.lower(): value for key, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        response = self.server.respond(HttpRequest(self.command, path, query, headers, body))
        if response is None:
            self.close_connection = True  # without a reply, as when the network fails
            return
        self._send(response)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _handle  # noqa: N815 (names that http.server calls)

    def _send(self, response: HttpResponse) -> None:
        self.send_response(response.status)
        for key, value in response.headers.items():
            if key.lower() not in _HOP_BY_HOP:
                self.send_header(key, value)
        if isinstance(response.body, bytes):
            self.send_header("Content-Length", str(len(response.body)))
            self.end_headers()
            self.wfile.write(response.body)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in response.body:
            self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *arguments: object) -> None:
        """Log nothing: the terminal shows the rehearsal."""

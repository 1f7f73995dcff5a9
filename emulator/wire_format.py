"""Parsing of requests and serialization of responses, by botocore's description of a service.

botocore serializes requests and parses responses; a service does the opposite. Two protocols are
enough for the emulated services: `json` (JSON 1.1, the operation in a header) and `rest-json`.
https://smithy.io/2.0/aws/protocols/aws-restjson1-protocol.html
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qs, unquote
from zlib import crc32

from botocore.model import OperationModel, Shape

_LABEL = re.compile(r"\{(\w+)(\+?)\}")


@dataclass(frozen=True)
class HttpRequest:
    """Request as it was received; the names of the headers are in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class HttpResponse:
    """Response to send; the body is sent in chunks if it is no `bytes`."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | Iterable[bytes] = b""


def match_path(operation: OperationModel, request: HttpRequest) -> dict[str, str] | None:
    """Return the labels in the path of a `rest-json` request; None for another operation's."""
    if operation.http["method"] != request.method:
        return None
    template = operation.http["requestUri"].partition("?")[0]
    pattern, end = "", 0
    for label in _LABEL.finditer(template):
        pattern += re.escape(template[end : label.start()])
        pattern += f"(?P<{label[1]}>{'.+' if label[2] else '[^/]+'})"
        end = label.end()
    found = re.fullmatch(pattern + re.escape(template[end:]), request.path)
    return {key: unquote(value) for key, value in found.groupdict().items()} if found else None


def parse_json(operation: OperationModel, body: bytes) -> dict[str, Any]:
    """Return the parameters of a request in the `json` protocol."""
    return dict(_decode(operation.input_shape, json.loads(body or b"{}")))


def parse_rest(
    operation: OperationModel, request: HttpRequest, labels: Mapping[str, str]
) -> dict[str, Any]:
    """Return the parameters of a request in the `rest-json` protocol.

    Args:
        operation: The operation.
        request: The request.
        labels: Labels in its path, by their names.
    """
    shape = operation.input_shape
    if shape is None:
        return {}
    payload = shape.serialization.get("payload")
    query = parse_qs(request.query, keep_blank_values=True)
    body = {} if payload else json.loads(request.body or b"{}")
    parameters: dict[str, Any] = {}
    for name, member in shape.members.items():
        place, key = member.serialization.get("location"), member.serialization.get("name", name)
        if name == payload:
            if request.body or name in shape.required_members:
                parameters |= _parse_payload(name, member, request.body)
        elif place == "uri" and key in labels:
            parameters[name] = _from_text(member, labels[key])
        elif place == "header" and key.lower() in request.headers:
            parameters[name] = _from_text(member, request.headers[key.lower()])
        elif place == "querystring" and key in query:
            texts = query[key]
            is_list = member.type_name == "list"
            parameters[name] = texts if is_list else _from_text(member, texts[0])
        elif place is None and not payload and key in body:
            parameters[name] = _decode(member, body.pop(key))
    return {**parameters, **body} if isinstance(body, dict) else parameters


def _parse_payload(name: str, member: Shape, body: bytes) -> dict[str, Any]:
    if member.type_name == "blob":
        return {name: body}
    if member.type_name == "string":
        return {name: body.decode()}
    return {name: _decode(member, json.loads(body or b"{}"))}


def serialize_json(operation: OperationModel, response: Mapping[str, Any]) -> HttpResponse:
    """Return the HTTP response of the `json` protocol."""
    shape = operation.output_shape
    content = _encode(shape, response) if shape else {}
    headers = {"Content-Type": "application/x-amz-json-1.1"}
    return HttpResponse(200, headers, json.dumps(content).encode())


def serialize_rest(operation: OperationModel, response: Mapping[str, Any]) -> HttpResponse:
    """Return the HTTP response of the `rest-json` protocol, whose payload may be a stream."""
    status = int(operation.http.get("responseCode", 200))
    shape = operation.output_shape
    if shape is None:
        return HttpResponse(status)
    payload = shape.serialization.get("payload")
    headers, content = {"Content-Type": "application/json"}, {}
    body: bytes | Iterable[bytes] = b""
    for name, member in shape.members.items():
        if name not in response:
            continue
        value = response[name]
        place, key = member.serialization.get("location"), member.serialization.get("name", name)
        if name == payload:
            body = _serialize_payload(member, value)
            if member.serialization.get("eventstream"):
                headers["Content-Type"] = "application/vnd.amazon.eventstream"
        elif place == "header":
            headers[key] = _to_text(member, value)
        elif place == "statusCode":
            status = int(value)
        else:
            content[key] = _encode(member, value)
    if not payload:
        body = json.dumps(content).encode()
    return HttpResponse(status, headers, body)


def _serialize_payload(member: Shape, value: Any) -> bytes | Iterable[bytes]:
    if member.serialization.get("eventstream"):
        return (encode_event(member, event) for event in value)
    if member.type_name == "blob":
        return value if isinstance(value, bytes) else str(value).encode()
    return json.dumps(_encode(member, value)).encode()


def encode_event(stream: Shape, event: Mapping[str, Any]) -> bytes:
    """Return one message of an event stream.

    https://smithy.io/2.0/aws/amazon-eventstream.html

    Args:
        stream: Shape of the stream.
        event: The only member of the stream's union that this event has.
    """
    ((name, value),) = event.items()
    shape = stream.members[name]
    is_error = bool(shape.metadata.get("exception"))
    kind = "exception" if is_error else "event"
    blob = next((m for m, s in shape.members.items() if s.serialization.get("eventpayload")), None)
    if blob is not None and shape.members[blob].type_name == "blob":
        content = bytes(value.get(blob, b""))
        content_type = "application/octet-stream"
    else:
        part = value.get(blob, {}) if blob else value
        described = shape.members[blob] if blob else shape
        content = json.dumps(_encode(described, part)).encode()
        content_type = "application/json"
    headers = b"".join(
        bytes([len(key)]) + key.encode() + b"\x07" + len(text).to_bytes(2, "big") + text.encode()
        for key, text in (
            (":message-type", kind),
            (f":{kind}-type", name),
            (":content-type", content_type),
        )
    )
    total = 16 + len(headers) + len(content)
    prelude = total.to_bytes(4, "big") + len(headers).to_bytes(4, "big")
    message = prelude + crc32(prelude).to_bytes(4, "big") + headers + content
    return message + crc32(message).to_bytes(4, "big")


def _decode(shape: Shape | None, value: Any) -> Any:
    """Return a value of a JSON body as botocore's validation expects it."""
    if shape is None or value is None:
        return value
    kind = shape.type_name
    if kind == "structure" and isinstance(value, dict) and not _is_document(shape):
        names = {m.serialization.get("name", n): (n, m) for n, m in shape.members.items()}
        decoded = {}
        for key, inner in value.items():
            name, member = names.get(key, (key, None))
            if inner is not None:
                decoded[name] = _decode(member, inner)
        return decoded
    if kind == "list" and isinstance(value, list):
        return [_decode(shape.member, inner) for inner in value]
    if kind == "map" and isinstance(value, dict):
        return {key: _decode(shape.value, inner) for key, inner in value.items()}
    if kind == "timestamp" and isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC)
    if kind == "blob" and isinstance(value, str):
        return base64.b64decode(value)
    return value


def _encode(shape: Shape | None, value: Any) -> Any:
    """Return a value as it stands in a JSON body."""
    if shape is None or _is_document(shape):
        return value
    kind = shape.type_name
    if kind == "structure":
        return {
            shape.members[name].serialization.get("name", name): _encode(shape.members[name], inner)
            for name, inner in value.items()
            if inner is not None
        }
    if kind == "list":
        return [_encode(shape.member, inner) for inner in value]
    if kind == "map":
        return {key: _encode(shape.value, inner) for key, inner in value.items()}
    if kind == "timestamp":
        return _encode_time(value, shape.serialization.get("timestampFormat", "unixTimestamp"))
    if kind == "blob":
        return base64.b64encode(value).decode()
    return value


def _encode_time(value: datetime | float, time_format: str) -> Any:
    moment = value if isinstance(value, datetime) else datetime.fromtimestamp(value, UTC)
    if time_format == "iso8601":
        return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return format_datetime(moment, usegmt=True) if time_format == "rfc822" else moment.timestamp()


def _is_document(shape: Shape) -> bool:
    return bool(getattr(shape, "is_document_type", False))


def _from_text(shape: Shape, text: str) -> Any:
    """Return the value of a label, header or query parameter; the text if it is malformed."""
    readers: dict[str, Any] = {
        "integer": int,
        "long": int,
        "float": float,
        "double": float,
        "boolean": lambda t: {"true": True, "false": False}[t],
        "timestamp": _read_time,
    }
    try:
        return readers.get(shape.type_name, str)(text)
    except (ValueError, KeyError):
        return text


def _read_time(text: str) -> datetime:
    return datetime.fromisoformat(text) if text[:1].isdigit() else parsedate_to_datetime(text)


def _to_text(shape: Shape, value: Any) -> str:
    if shape.type_name == "timestamp":
        return str(_encode_time(value, shape.serialization.get("timestampFormat", "rfc822")))
    return str(value).lower() if isinstance(value, bool) else str(value)

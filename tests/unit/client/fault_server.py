"""HTTP server on this machine that answers as planned: OpenAI's API, SageMaker, Bedrock, faults."""

from __future__ import annotations

import json
import struct
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Planned:
    """Response to one request.

    Attributes:
        text: Answer of the model.
        status: HTTP status; other than 200, `body` is sent.
        body: Body in place of an answer, as JSON or raw bytes.
        headers: Further headers.
        delay_s: Seconds before the response.
        drop: Whether the connection is closed without a response.
        cut_after: Number of the parts of a stream after which the connection is closed.
        pause_s: Seconds between the parts of a stream.
        finish_reason: Why the answer ended.
    """

    text: str = "Hello there, how are you?"
    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    drop: bool = False
    cut_after: int | None = None
    pause_s: float = 0.0
    finish_reason: str = "stop"


@dataclass
class Received:
    """Request that came."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    raw: bytes


class FaultServer:
    """Server with a plan: each response once, then `default`; requests are kept."""

    def __init__(self) -> None:
        self.plan: list[Planned] = []
        self.default = Planned()
        self.requests: list[Received] = []
        self.in_progress = self.most_in_progress = 0
        self.aborted = 0
        self.origin = ""
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"{self.origin}/v1"

    def next(self, received: Received) -> Planned:
        with self._lock:
            self.requests.append(received)
            self.in_progress += 1
            self.most_in_progress = max(self.most_in_progress, self.in_progress)
            return self.plan.pop(0) if self.plan else self.default

    def done(self, aborted: bool) -> None:
        with self._lock:
            self.in_progress -= 1
            self.aborted += aborted


def pieces(text: str) -> list[str]:
    """Return a text in parts of three characters, so that placeholders are cut."""
    return [text[start : start + 3] for start in range(0, len(text), 3)]


def event_frame(headers: dict[str, str], payload: bytes) -> bytes:
    """Return a frame of `application/vnd.amazon.eventstream`."""
    encoded = b"".join(
        bytes([len(name)])
        + name.encode()
        + b"\x07"
        + struct.pack(">H", len(value))
        + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack(">II", 16 + len(encoded) + len(payload), len(encoded))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + encoded + payload
    return message + struct.pack(">I", zlib.crc32(message))


def aws_event(kind: str, payload: bytes) -> bytes:
    return event_frame({":message-type": "event", ":event-type": kind}, payload)


def aws_exception(kind: str, message: str) -> bytes:
    headers = {":message-type": "exception", ":exception-type": kind}
    return event_frame(headers, json.dumps({"message": message}).encode())


USAGE = {"prompt_tokens": 20, "completion_tokens": 5}


def openai_events(planned: Planned) -> list[bytes]:
    deltas: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]},
        *({"choices": [{"index": 0, "delta": {"content": p}}]} for p in pieces(planned.text)),
        {"choices": [{"index": 0, "delta": {}, "finish_reason": planned.finish_reason}]},
        {"choices": [], "usage": USAGE},
    ]
    events = [f"data: {json.dumps(delta)}\n\n".encode() for delta in deltas]
    return [*events, b"data: [DONE]\n\n"]


def sagemaker_events(planned: Planned) -> list[bytes]:
    """Return frames whose payloads cut the events of the container anywhere."""
    whole = b"".join(openai_events(planned))
    parts = [whole[start : start + 37] for start in range(0, len(whole), 37)]
    return [aws_event("PayloadPart", part) for part in parts]


def converse_events(planned: Planned) -> list[bytes]:
    usage = {"inputTokens": 20, "outputTokens": 5, "totalTokens": 25, "cacheReadInputTokens": 7}
    events = [
        ("messageStart", {"role": "assistant"}),
        *(
            ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": part}})
            for part in pieces(planned.text)
        ),
        ("contentBlockStop", {"contentBlockIndex": 0}),
        ("messageStop", {"stopReason": "end_turn"}),
        ("metadata", {"usage": usage, "metrics": {"latencyMs": 5}}),
    ]
    return [aws_event(kind, json.dumps(body).encode()) for kind, body in events]


def whole_answer(path: str, planned: Planned) -> dict[str, Any]:
    if path.endswith("/converse"):
        return {
            "output": {"message": {"role": "assistant", "content": [{"text": planned.text}]}},
            "stopReason": "end_turn",
            "usage": {"inputTokens": 20, "outputTokens": 5, "totalTokens": 25},
            "metrics": {"latencyMs": 5},
        }
    message = {"role": "assistant", "content": planned.text}
    choice = {"index": 0, "message": message, "finish_reason": planned.finish_reason}
    return {"object": "chat.completion", "choices": [choice], "usage": USAGE}


def stream_of(path: str, body: dict[str, Any], planned: Planned) -> tuple[str, Sequence[bytes]]:
    """Return content type and parts of a streamed response; no parts for one that is not."""
    if path.endswith("/converse-stream"):
        return "application/vnd.amazon.eventstream", converse_events(planned)
    if path.endswith("/invocations-response-stream"):
        return "application/vnd.amazon.eventstream", sagemaker_events(planned)
    return "text/event-stream", openai_events(planned) if body.get("stream") else ()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # with the default of 5, the system resets connections of a burst

    def __init__(self, faults: FaultServer):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.faults = faults


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Listener

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        received = Received(self.path, headers, json.loads(raw), raw)
        planned = self.server.faults.next(received)
        aborted = True
        try:
            time.sleep(planned.delay_s)
            self._respond(received, planned)
            aborted = False
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            self.server.faults.done(aborted)

    def _respond(self, received: Received, planned: Planned) -> None:
        if planned.drop:
            self.close_connection = True
            return
        kind, parts = stream_of(self.path, received.body, planned)
        if planned.body is None and parts:
            self._stream(kind, parts, planned)
            return
        body = planned.body
        if body is None:
            body = whole_answer(self.path, planned)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(planned.status)
        for name, value in planned.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _stream(self, kind: str, parts: Sequence[bytes], planned: Planned) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number, part in enumerate(parts):
            if number == planned.cut_after:
                self.close_connection = True
                return
            self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            self.wfile.flush()
            time.sleep(planned.pause_s)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *ignored: Any) -> None:
        """Log nothing."""


@contextmanager
def fault_server() -> Iterator[FaultServer]:
    """Serve on a free port of the loopback interface."""
    server = FaultServer()
    http = _Listener(server)
    server.origin = f"http://127.0.0.1:{http.server_address[1]}"
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()

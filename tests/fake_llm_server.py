"""A judge on this machine: an endpoint that speaks OpenAI's protocol, and Bedrock's Converse."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[[list[dict[str, Any]]], tuple[int, str]]
"""Of a conversation: the status, and what is said."""


class Endpoint:
    """What a test decides of it, and what it was asked.

    Attributes:
        reply: Replies to a conversation.
        asked: Path, headers and body of every call.
        bodies: The same bodies, as they came.
        headers: Sent with every reply.
        ends: Says why the reply to a conversation ended, in OpenAI's words.
    """

    def __init__(self) -> None:
        self.reply: Reply = lambda said: (200, "7")
        self.asked: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.bodies: list[bytes] = []
        self.headers: dict[str, str] = {}
        self.ends: Callable[[list[dict[str, Any]]], str] = lambda said: "stop"
        self.url = ""


def _said(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the conversation of a call, in either protocol, as OpenAI's has it."""
    system = [{"role": "system", "content": part["text"]} for part in body.get("system", ())]
    rest = [
        {"role": m["role"], "content": m["content"]}
        if isinstance(m["content"], str)
        else {"role": m["role"], "content": m["content"][0]["text"]}
        for m in body["messages"]
    ]
    return [*system, *rest]


def _answer(path: str, said: str, end: str) -> dict[str, Any]:
    if path.endswith("/converse"):
        usage = {"inputTokens": 100, "outputTokens": 10}
        output = {"message": {"content": [{"text": said}]}}
        reason = {"length": "max_tokens", "stop": "end_turn"}[end]
        return {"output": output, "stopReason": reason, "usage": usage}
    usage = {"prompt_tokens": 100, "completion_tokens": 10}
    choice = {"message": {"content": said}, "finish_reason": end}
    return {"choices": [choice], "usage": usage}


@contextmanager
def serving() -> Iterator[Endpoint]:
    """Serve on a free port of the loopback interface."""
    endpoint = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            endpoint.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            body = json.loads(endpoint.bodies[-1])
            headers = {name.lower(): value for name, value in self.headers.items()}
            endpoint.asked.append((self.path, headers, body))
            status, said = endpoint.reply(_said(body))
            end = endpoint.ends(_said(body))
            content = json.dumps(_answer(self.path, said, end)).encode()
            self.send_response(status)
            for name, value in endpoint.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *ignored: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    endpoint.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()

"""Fake LLM server on this machine that implements OpenAI's chat API and Bedrock's Converse API."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[[list[dict[str, Any]]], tuple[int, str]]
"""Returns the HTTP status and the text of the reply to a conversation."""


class FakeLlmServer:
    """Settings of the fake server, and the calls that it received.

    Attributes:
        reply: Replies to a conversation.
        calls: Path, headers and body of every call.
        bodies: Bodies of the calls as raw bytes.
        headers: Headers of every response.
        finish_reason: Returns why the reply to a conversation ended, in OpenAI's words.
        url: Address of the server, with the path prefix of OpenAI's API.
    """

    def __init__(self) -> None:
        self.reply: Reply = lambda messages: (200, "7")
        self.calls: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.bodies: list[bytes] = []
        self.headers: dict[str, str] = {}
        self.finish_reason: Callable[[list[dict[str, Any]]], str] = lambda messages: "stop"
        self.url = ""


def _messages(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the conversation of a call to either API in the format of OpenAI's."""
    system = [{"role": "system", "content": part["text"]} for part in body.get("system", ())]
    others = [
        {"role": m["role"], "content": m["content"]}
        if isinstance(m["content"], str)
        else {"role": m["role"], "content": m["content"][0]["text"]}
        for m in body["messages"]
    ]
    return [*system, *others]


def _response_body(path: str, text: str, finish_reason: str) -> dict[str, Any]:
    if path.endswith("/converse"):
        usage = {"inputTokens": 100, "outputTokens": 10}
        output = {"message": {"content": [{"text": text}]}}
        stop_reason = {"length": "max_tokens", "stop": "end_turn"}[finish_reason]
        return {"output": output, "stopReason": stop_reason, "usage": usage}
    usage = {"prompt_tokens": 100, "completion_tokens": 10}
    choice = {"message": {"content": text}, "finish_reason": finish_reason}
    return {"choices": [choice], "usage": usage}


@contextmanager
def serving() -> Iterator[FakeLlmServer]:
    """Serve on a free port of the loopback interface."""
    fake = FakeLlmServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            fake.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            body = json.loads(fake.bodies[-1])
            headers = {name.lower(): value for name, value in self.headers.items()}
            fake.calls.append((self.path, headers, body))
            messages = _messages(body)
            status, text = fake.reply(messages)
            reason = fake.finish_reason(messages)
            content = json.dumps(_response_body(self.path, text, reason)).encode()
            self.send_response(status)
            for name, value in fake.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *ignored: Any) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()

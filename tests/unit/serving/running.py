"""Run the server on a free port of this machine, in a thread of this process."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import uvicorn

from serving.command import ServeOptions
from serving.http.answers import AnswerService
from serving.http.app import build_app
from serving.http.server import build_service
from serving.model import ServedModel
from training.listen_address import bind


@dataclass
class RunningServer:
    """Server that answers on a port."""

    url: str
    client: httpx2.Client
    served: ServedModel
    service: AnswerService

    def post(self, path: str, body: Any, **headers: str) -> httpx2.Response:
        return self.client.post(path, json=body, headers=headers)

    def complete(self, prompt: Any, **fields: Any) -> dict[str, Any]:
        response = self.post("/v1/completions", {"prompt": prompt, **fields})
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def stream(self, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the events of a streamed answer."""
        response = self.post(path, {**body, "stream": True})
        assert response.headers["content-type"].startswith("text/event-stream"), response.text
        lines = [line for line in response.text.split("\n\n") if line]
        assert lines.pop() == "data: [DONE]"
        return [json.loads(line.removeprefix("data: ")) for line in lines]

    def error(self, path: str, body: Any, **headers: str) -> tuple[int, str]:
        """Return status and message of a request that is refused."""
        response = self.post(path, body, **headers)
        return response.status_code, response.json()["error"]["message"]

    def wait_until_idle(self, seconds: float = 5) -> None:
        """Wait until the engine works on nothing."""
        until = time.monotonic() + seconds
        while self.service.engine.load.running or self.service.engine.load.waiting:
            assert time.monotonic() < until, self.service.engine.load
            time.sleep(0.01)


@contextmanager
def running_server(served: ServedModel, **options: Any) -> Iterator[RunningServer]:
    """Serve a model while the context lasts."""
    settings = ServeOptions(served.source, **options)
    service = build_service(served, settings)
    listener = bind("127.0.0.1", 0)
    app = build_app(served, service, settings.api_key)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        limits = httpx2.Limits(max_connections=64)
        with httpx2.Client(base_url=url, timeout=60, limits=limits, trust_env=False) as client:
            yield RunningServer(url, client, served, service)
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()

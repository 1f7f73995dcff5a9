"""Process that serves a model of an emulated service: `temper serve` on a port of this machine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2

from emulator.child_process import start_child

_ADDRESS = re.compile(r"(http://\S+)/v1 ")
_TIMEOUT_S = 300.0
_DONE = "[DONE]"


class ModelProcess:
    """Model in a process of its own.

    Args:
        folder: Folder of the model.
        log: File for the process's output.
    """

    def __init__(self, folder: Path, log: Path):
        self._url: str | None = None
        self._up = threading.Event()
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        command = ("serve", str(folder), "--port", "0", "--name", "model")
        self._process = start_child(
            [sys.executable, "-m", "temper", *command],
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._read_output, daemon=True).start()

    def _read_output(self) -> None:
        assert self._process.stderr is not None
        with self._log.open("a", encoding="utf-8") as log:
            for line in self._process.stderr:
                log.write(line)
                log.flush()
                if found := _ADDRESS.search(line):
                    self._url = found[1]
                    self._up.set()
        self._up.set()

    @property
    def is_ready(self) -> bool:
        """True if the model answers."""
        return self._url is not None and self._process.poll() is None

    @property
    def has_failed(self) -> bool:
        """True if the process has ended."""
        return self._process.poll() is not None

    def settle(self) -> None:
        """Wait until the model answers, or the process has ended."""
        self._up.wait(_TIMEOUT_S)

    def wait(self) -> None:
        """Wait until the model answers.

        Raises:
            RuntimeError: The process ended, or does not answer; the message has its last lines.
        """
        if not self._up.wait(_TIMEOUT_S) or not self.is_ready:
            lines = self._log.read_text(encoding="utf-8").splitlines()[-5:]
            raise RuntimeError("the model cannot be served: " + " / ".join(lines))

    def post(self, path: str, body: Mapping[str, Any]) -> httpx2.Response:
        """Return the response to a request."""
        return httpx2.post(f"{self._url}{path}", json=body, timeout=_TIMEOUT_S, trust_env=False)

    def stream(
        self, path: str, body: Mapping[str, Any], check: Callable[[httpx2.Response], None]
    ) -> Iterator[dict[str, Any]]:
        """Yield the events of a streamed response.

        Args:
            path: Path of the request.
            body: Body of the request.
            check: Raises if the response is an error.
        """
        request = {**body, "stream": True, "stream_options": {"include_usage": True}}
        with (
            httpx2.Client(timeout=_TIMEOUT_S, trust_env=False) as client,
            client.stream("POST", f"{self._url}{path}", json=request) as response,
        ):
            if response.status_code != 200:
                response.read()
            check(response)
            for event in httpx2.EventSource(response):
                if event.data != _DONE:
                    yield json.loads(event.data)

    def stop(self) -> None:
        """End the process."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

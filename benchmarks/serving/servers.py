"""Servers that are compared, each a process on a free port of this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psutil

_START_SECONDS = 180


@dataclass(frozen=True)
class ServerContestant:
    """Server of the comparison.

    Attributes:
        name: Its name in the tables.
        command: Command line, in which MODEL and PORT are replaced.
        fields: Fields of requests that this server alone knows.
    """

    name: str
    command: tuple[str, ...]
    fields: dict[str, Any]


_TRANSFORMERS = (str(Path(sys.executable).with_name("transformers")), "serve", "MODEL")
# The cache of its continuous batching, which otherwise takes most of the memory: 16,384 tokens.
_CACHE = ("--continuous-batching", "--cb-block-size", "32", "--cb-num-blocks", "512")
_OURS = ServerContestant(
    "temper serve",
    (sys.executable, "-m", "temper", "serve", "MODEL", "--port", "PORT"),
    {"ignore_eos": True, "stream_options": {"include_usage": True}},
)
ON_SAFETENSORS = (
    _OURS,
    ServerContestant("transformers serve", (*_TRANSFORMERS, "--port", "PORT"), {}),
    ServerContestant(
        "transformers serve, continuous batching", (*_TRANSFORMERS, "--port", "PORT", *_CACHE), {}
    ),
)
ON_GGUF = (
    _OURS,
    ServerContestant(
        "llama.cpp's server",
        (sys.executable, "-m", "benchmarks.serving.llama_cpp_server", "MODEL", "PORT"),
        _OURS.fields,
    ),
)


@dataclass(frozen=True)
class ServerProcess:
    """Server that runs.

    Attributes:
        url: Its address.
        pid: Its process.
    """

    url: str
    pid: int

    def cpu_s(self) -> float:
        """Return the CPU time that it has taken, in seconds."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)


@contextmanager
def running(server: ServerContestant, model: Path, log: Path) -> Iterator[ServerProcess]:
    """Run a server while the context lasts.

    Args:
        server: The server.
        model: Folder of the model.
        log: File of what it writes.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    replaced = {"MODEL": str(model), "PORT": str(port)}
    command = [replaced.get(word, word) for word in server.command]
    # The servers share the cores with the clients, as on a machine where one tries a model.
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(url, process, log)
            yield ServerProcess(url, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx2.get(f"{url}/health", trust_env=False).status_code == 200:
                return
        except httpx2.TransportError:
            time.sleep(0.2)
    raise RuntimeError(f"the server did not start: {log.read_text()[-2000:]}")

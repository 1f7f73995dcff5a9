"""Container of a model: its files, its process, its health, its answers."""

from __future__ import annotations

import http.client
import io
import shutil
import signal
import socket
import subprocess
import tarfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError, EndpointConnectionError

from emulator.hosting.context import HostingContext
from emulator.instance import ContainerSpec
from emulator.s3_sync import EmulatedBucket
from launch.aws.s3 import S3Uri

_LOG_LINES = 200
_STOP_S = 5.0
_PING_S = 2.0
_LOG_INTERVAL_S = 0.2


class ModelDataError(Exception):
    """Model files that cannot be downloaded."""


@dataclass(frozen=True)
class Answer:
    """Answer of a container.

    Attributes:
        status: HTTP status; 0 if the container did not answer.
        headers: Headers, their names in lower case.
        body: Body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass
class ModelServer:
    """Container that serves a model; it can be started again after it was stopped.

    Args:
        context: Clock, account and containers.
        name: Name of the container, for its folder.
        container: Image, place of the model's files, variables.
        log: Log group and stream of its output.
        mute: Whether it never answers health checks.

    Attributes:
        port: Port of this machine at which it is reached.
        is_ready: Whether it has passed its health check, and was not stopped since.
        lines: Its latest lines of output.
    """

    context: HostingContext
    name: str
    container: Mapping[str, Any]
    log: tuple[str, str]
    mute: bool = False
    port: int = 0
    is_ready: bool = False
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_LOG_LINES))
    _process: subprocess.Popen[bytes] | None = None
    _start: int = 0

    @property
    def ml(self) -> Path:
        """Folder that is `/opt/ml` in the container, new for each start."""
        return self.context.home / f"{self.name}-{self._start}" / "ml"

    def download(self) -> None:
        """Download the model's files.

        Raises:
            ModelDataError: There are none, or the archive is broken.
        """
        self._start += 1
        folder = self.ml / "model"
        folder.mkdir(parents=True, exist_ok=True)
        source = self.container.get("ModelDataSource", {}).get("S3DataSource", {})
        address = source.get("S3Uri") or self.container.get("ModelDataUrl")
        if address:
            packed = source.get("CompressionType", "Gzip") == "Gzip"
            self.fetch(address, folder, packed=packed)

    def fetch(self, address: str, folder: Path, *, packed: bool) -> None:
        """Download files below a prefix, or an archive, into a folder.

        Args:
            address: Address in S3.
            folder: The folder.
            packed: Whether the address is that of a `.tar.gz`.

        Raises:
            ModelDataError: There is nothing, or the archive is broken.
        """
        bucket = EmulatedBucket(self.context.client("s3"))
        folder.mkdir(parents=True, exist_ok=True)
        target = folder.with_name(f"{folder.name}.download") if packed else folder
        target.mkdir(exist_ok=True)
        try:
            if not bucket.download(S3Uri.parse(address), target):
                raise ModelDataError(f"There is no object at {address}.")
            if packed:
                (archive,) = target.iterdir()
                with tarfile.open(archive) as files:
                    files.extractall(folder, filter="data")
                shutil.rmtree(target)
        except (ClientError, tarfile.TarError, OSError) as error:
            raise ModelDataError(f"{address}: {error}") from error

    def start(self) -> None:
        """Start the container's process, and copy its output to its log."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        spec = ContainerSpec(
            ml=self.ml,
            root=self.ml.parent,
            host="model",
            hosts=("model",),
            environment={
                "HOME": "/opt/ml",
                "AWS_REGION": self.context.region,
                **self.container.get("Environment", {}),
            },
            isolated=False,  # the service reaches the container also if that reaches nothing
            image=self.container["Image"],
            job=self.name.replace("/", "-"),
            arguments=("serve",),
            port=self.port,
        )
        self._process = self.context.runtime.start(spec)
        threading.Thread(target=self._copy_output, args=(self._process,), daemon=True).start()

    def is_healthy(self) -> bool:
        """Return whether the container answers its health check."""
        return not self.mute and self.request("GET", "/ping", timeout_s=_PING_S).status == 200

    @property
    def has_ended(self) -> bool:
        """True if the container's process has ended."""
        return self._process is not None and self._process.poll() is not None

    def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        timeout_s: float = 60.0,
    ) -> Answer:
        """Send a request and return the answer; status 0 if there is none in time.

        Args:
            method: HTTP method.
            path: Path at the container.
            body: Body of the request.
            headers: Headers of the request.
            timeout_s: Seconds to wait.
        """
        try:
            response = self._send(method, path, body, headers or {}, timeout_s)
            content = response.read()
        except (OSError, http.client.HTTPException):
            return Answer(0, {}, b"")
        return Answer(response.status, _lower(response), content)

    def stream(
        self, body: bytes, headers: Mapping[str, str], *, timeout_s: float
    ) -> tuple[int, Mapping[str, str], Iterator[bytes]]:
        """Send an invocation and return status, headers, and the body as it arrives.

        Args:
            body: Body of the request.
            headers: Headers of the request.
            timeout_s: Seconds to wait for each part.
        """
        try:
            response = self._send("POST", "/invocations", body, headers, timeout_s)
        except (OSError, http.client.HTTPException):
            return 0, {}, iter(())

        def parts() -> Iterator[bytes]:
            while part := response.read1(65536):
                yield part

        return response.status, _lower(response), parts()

    def _send(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], timeout_s: float
    ) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        connection.request(method, path, body=body or None, headers=dict(headers))
        return connection.getresponse()

    def stop(self) -> None:
        """End the container and delete its files, without waiting for the end."""
        process, self._process = self._process, None
        folder, self.is_ready = self.ml.parent, False
        threading.Thread(target=self._end, args=(process, folder), daemon=True).start()

    def _end(self, process: subprocess.Popen[bytes] | None, folder: Path) -> None:
        if process is not None:
            self.context.runtime.send_signal(process, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_S)
            self.context.runtime.kill(process)
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)

    def _copy_output(self, process: subprocess.Popen[bytes]) -> None:
        assert isinstance(process.stdout, io.BufferedReader)
        logs = self.context.client("logs")
        group, stream = self.log
        with suppress(ClientError, EndpointConnectionError):
            logs.create_log_group(logGroupName=group)
        with suppress(ClientError, EndpointConnectionError):
            logs.create_log_stream(logGroupName=group, logStreamName=stream)
        rest = b""
        while received := process.stdout.read1():
            *lines, rest = (rest + received).split(b"\n")
            texts = [line.decode(errors="replace") or " " for line in lines]
            self.lines.extend(texts)
            if texts:
                now = int(time.time() * 1000)
                events = [{"timestamp": now, "message": text} for text in texts]
                with suppress(EndpointConnectionError):  # the account may end before the container
                    logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)
            time.sleep(_LOG_INTERVAL_S)
        if rest:
            self.lines.append(rest.decode(errors="replace"))


def _lower(response: http.client.HTTPResponse) -> dict[str, str]:
    return {key.lower(): value for key, value in response.getheaders()}

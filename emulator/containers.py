"""Containers of an emulated job: their start, their output in the log, and their end."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from emulator.instance import ContainerRuntime, ContainerSpec
from emulator.log_sink import LogSink

TICK_S = 0.05
_LOG_INTERVAL_S = 0.2
_READ_S = 10


@dataclass(frozen=True)
class Container:
    """Running container, whose output a thread copies to the log."""

    process: subprocess.Popen[bytes]
    reader: threading.Thread

    def wait(self) -> int:
        """Wait for the end of the container and of its output; return its exit code."""
        code = self.process.wait()
        self.reader.join(_READ_S)
        return code


def start_container(
    runtime: ContainerRuntime, spec: ContainerSpec, log_sink: LogSink, attempt: int
) -> Container:
    """Start a container, and copy its output to a log stream.

    Args:
        runtime: Runs the container.
        spec: Settings of the container.
        log_sink: Writer of log lines.
        attempt: Number of the attempt.
    """
    process = runtime.start(spec)
    stream = log_sink.open_stream(spec.host, attempt)
    reader = threading.Thread(target=_copy_output, args=(process, log_sink, stream), daemon=True)
    reader.start()
    return Container(process, reader)


def end_containers(
    runtime: ContainerRuntime, containers: Sequence[Container], grace_s: float
) -> None:
    """Send SIGTERM, and SIGKILL after the grace period.

    Args:
        runtime: Runs the containers.
        containers: The containers.
        grace_s: Grace period; 0 sends SIGKILL alone.
    """
    if grace_s:
        for container in containers:
            if container.process.poll() is None:
                runtime.send_signal(container.process, signal.SIGTERM)
    deadline = time.time() + grace_s
    while time.time() < deadline and any(c.process.poll() is None for c in containers):
        time.sleep(TICK_S)
    for container in containers:
        runtime.kill(container.process)


def _copy_output(process: subprocess.Popen[bytes], log_sink: LogSink, stream: str) -> None:
    """Copy a container's output to the log, several lines per call."""
    assert process.stdout is not None
    rest = b""
    while received := process.stdout.read1():  # type: ignore[attr-defined]  # buffered
        *lines, rest = (rest + received).split(b"\n")
        log_sink.write(stream, [line.decode(errors="replace") for line in lines])
        time.sleep(_LOG_INTERVAL_S)
    log_sink.write(stream, [rest.decode(errors="replace")] if rest else [])

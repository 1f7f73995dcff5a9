"""Faults of one running job, from its metrics, wherever it runs.

The GPU metrics of a host are sums over its devices (800 for eight busy GPUs), so they are divided
by the number of devices.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from .faults import Fault

MINUTES_OF_IDLENESS = 30
STEPS_FOR_A_MEDIAN = 30


@dataclass(frozen=True)
class Thresholds:
    """Limits from which on a metric is a fault."""

    stuck_minutes: int
    slow_percent: int
    gpu_idle_percent: int
    gpu_memory_percent: int
    disk_percent: int
    pending_minutes: int


@dataclass(frozen=True)
class HostMetrics:
    """Metrics of one host, one value per minute, newest first."""

    gpu: Sequence[float] = ()
    memory: Sequence[float] = ()
    disk: Sequence[float] = ()
    devices: int = 0


@dataclass(frozen=True)
class JobMetrics:
    """Metrics of one job.

    Attributes:
        running_minutes: Minutes since it began to train, or resumed.
        logs_loss: A loss is to be expected of it.
        loss_age: Minutes since its newest loss; None without one.
        speed: Tokens per second of its logged steps, newest first.
        hosts: Metrics of its hosts, by number.
    """

    running_minutes: float
    logs_loss: bool
    loss_age: float | None = None
    speed: Sequence[float] = ()
    hosts: Mapping[int, HostMetrics] = field(default_factory=dict)


def find_faults(name: str, metrics: JobMetrics, limits: Thresholds) -> Iterator[Fault]:
    """Yield the faults of one job.

    The GPUs of a job that is stuck are idle for the same cause, which is reported once.

    Args:
        name: Name of the job.
        metrics: Its metrics.
        limits: Thresholds of the environment.
    """
    silent = min(
        metrics.running_minutes,
        metrics.running_minutes if metrics.loss_age is None else metrics.loss_age,
    )
    stuck = metrics.logs_loss and silent >= limits.stuck_minutes
    if stuck:
        yield Fault(name, "training-job-stuck", f"no new loss for {silent:.0f} minutes")
    if len(metrics.speed) >= STEPS_FOR_A_MEDIAN:
        recent = statistics.median(metrics.speed[:10])
        usual = statistics.median(metrics.speed[10:])
        if recent < usual * limits.slow_percent / 100:
            yield Fault(name, "training-job-slow", f"{recent:.0f} tokens/s, usually {usual:.0f}")
    for number, host in metrics.hosts.items():
        for fault in _host_faults(name, number, host, limits):
            if not (stuck and fault.fault == "gpu-idle"):
                yield fault


def _host_faults(name: str, number: int, host: HostMetrics, limits: Thresholds) -> Iterator[Fault]:
    if host.disk and host.disk[0] >= limits.disk_percent:
        reason = f"disk of host {number} at {host.disk[0]:.0f} %"
        yield Fault(name, "training-disk-full", reason)
    if not host.devices:
        return
    recent = host.gpu[:MINUTES_OF_IDLENESS]
    if len(recent) == MINUTES_OF_IDLENESS:
        busy = max(recent) / host.devices
        if busy < limits.gpu_idle_percent:
            yield Fault(name, "gpu-idle", f"GPUs of host {number} at most {busy:.0f} % busy")
    if host.memory and host.memory[0] / host.devices >= limits.gpu_memory_percent:
        full = host.memory[0] / host.devices
        yield Fault(name, "gpu-memory-full", f"GPU memory of host {number} at {full:.0f} %")

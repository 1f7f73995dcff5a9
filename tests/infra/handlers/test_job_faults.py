"""Tests of the faults found in the metrics of one job."""

from dataclasses import replace

import pytest

from stacks.handlers.monitor.job_faults import HostMetrics, JobMetrics, Thresholds, find_faults

LIMITS = Thresholds(
    stuck_minutes=30,
    slow_percent=50,
    gpu_idle_percent=10,
    gpu_memory_percent=97,
    disk_percent=90,
    pending_minutes=60,
)
HOST = HostMetrics(gpu=[760.0] * 60, memory=[640.0] * 60, disk=[40.0] * 60, devices=8)
WELL = JobMetrics(
    running_minutes=120, logs_loss=True, loss_age=1.0, speed=[1000.0] * 60, hosts={1: HOST}
)


def _host(**changes: list[float]) -> JobMetrics:
    return replace(WELL, hosts={1: replace(HOST, **changes)})


@pytest.mark.parametrize(
    ("metrics", "faults"),
    [
        (WELL, []),
        (replace(WELL, loss_age=45.0), ["training-job-stuck"]),
        (replace(WELL, loss_age=None), ["training-job-stuck"]),
        (replace(WELL, loss_age=None, logs_loss=False), []),  # a job of others may log none
        (replace(WELL, loss_age=60.0, running_minutes=5), []),  # resumed after an interruption
        (replace(WELL, speed=[400.0] * 10 + [1000.0] * 50), ["training-job-slow"]),
        (replace(WELL, speed=[400.0] * 10 + [1000.0] * 5), []),  # too young for a usual speed
        (_host(gpu=[72.0] * 60), ["gpu-idle"]),  # 72 of 800 is 9 % of each GPU
        (_host(gpu=[88.0] * 60), []),  # 11 % of each: one GPU at 88 % would be the same sum
        (_host(gpu=[72.0] * 10), []),  # not for half an hour yet
        (_host(gpu=[0.0] * 5 + [700.0] * 55), []),  # a checkpoint, not idleness
        (_host(memory=[780.0] * 60), ["gpu-memory-full"]),
        (_host(disk=[95.0] + [40.0] * 59), ["training-disk-full"]),
        # One cause, one fault: the GPUs of a job that is stuck are idle.
        (replace(_host(gpu=[8.0] * 60), loss_age=45.0), ["training-job-stuck"]),
    ],
)
def test_a_fault_is_named_and_nothing_else(metrics: JobMetrics, faults: list[str]) -> None:
    found = list(find_faults("support-lora", metrics, LIMITS))
    assert [f.fault for f in found] == faults
    assert all(f.resource == "support-lora" for f in found)

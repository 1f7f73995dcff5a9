"""Runs a command and looks at it from outside: its steps, its memory, its first step."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import psutil

from benchmarks.speed.contestants import Arm, read_steps

_POLL_S = 0.05


@dataclass(frozen=True)
class ProcessUsage:
    """What one round of one arm came to.

    Attributes:
        tokens_per_second: Median over the steps after the warm-up; tokens that are no padding.
        first_step_s: From the command to the end of its first optimizer step.
        peak_gib: Largest resident memory of any one of its processes.
        step_s: Median of those steps.
        sampling_s: Median of what they spent sampling answers; 0 where none are sampled.
        cpu_s: Median of the processors' time that one of them took, which others on the machine
            change little; of the process and all that it started.
    """

    tokens_per_second: float
    first_step_s: float
    peak_gib: float
    step_s: float
    sampling_s: float
    cpu_s: float


def run_arm(arm: Arm, material: Path, steps: int, warm_up: int, folder: Path) -> ProcessUsage:
    """Run one arm to its end.

    Raises:
        RuntimeError: It failed; the message ends with what it wrote last.
    """
    folder.mkdir(parents=True)
    command, notes = arm.command(material, steps, folder)
    started, first = time.monotonic(), None
    peak = 0
    spent: list[float] = []
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        while process.poll() is None:
            peak = max(peak, _largest(process.pid))
            done = len(read_steps(notes))
            if first is None and done:
                first = time.monotonic() - started
            # Where several ended since the last look, they share what was spent.
            spent += [_cpu_s(process.pid)] * (done - len(spent))
            time.sleep(_POLL_S)
    rows = read_steps(notes)
    if process.returncode or len(rows) < steps:
        end = (folder / "output").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{arm.name} took {len(rows)} of {steps} steps: {end}")
    seconds = [
        row["seconds"] - before["seconds"]
        for before, row in zip(rows[warm_up - 1 :], rows[warm_up:], strict=False)
    ]
    counted = rows[warm_up:]
    assert first is not None
    return ProcessUsage(
        tokens_per_second=median(r["tokens"] / s for r, s in zip(counted, seconds, strict=True)),
        first_step_s=first,
        peak_gib=peak / 2**30,
        step_s=median(seconds),
        sampling_s=median(row.get("sampling_seconds", 0.0) for row in counted),
        cpu_s=median(b - a for a, b in pairwise(spent[warm_up - 1 :])),
    )


def _cpu_s(pid: int) -> float:
    """Return the processors' time that a tree of processes has taken."""
    total = 0.0
    try:
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            times = process.cpu_times()
            total += times.user + times.system
    except psutil.Error:
        pass
    return total


def _largest(pid: int) -> int:
    """Return the resident bytes of the largest process of a tree."""
    sizes = [0]
    try:
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            sizes.append(process.memory_info().rss)
    except psutil.Error:
        pass
    return max(sizes)

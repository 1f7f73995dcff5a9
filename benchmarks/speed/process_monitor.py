"""Process monitor: runs a command and measures its steps, memory and first step from outside."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import psutil

from benchmarks.speed.contestants import Contestant, read_steps

_POLL_S = 0.05


@dataclass(frozen=True)
class ProcessUsage:
    """Measurements of one contestant in one round.

    Attributes:
        tokens_per_second: Median over the steps after the warm-up, without padding tokens.
        first_step_s: Seconds from the start of the command to the end of its first optimizer step.
        peak_gib: Peak resident memory of its largest process.
        step_s: Median seconds of a step.
        sampling_s: Median seconds per step spent sampling answers; 0 if it samples none.
        cpu_s: Median CPU seconds of a step, of the process and its children. Other load on the
            machine changes it little.
    """

    tokens_per_second: float
    first_step_s: float
    peak_gib: float
    step_s: float
    sampling_s: float
    cpu_s: float


def run_contestant(
    contestant: Contestant, fixtures: Path, steps: int, warm_up: int, folder: Path
) -> ProcessUsage:
    """Run one contestant until it ends and measure it.

    Args:
        contestant: The contestant.
        fixtures: The folder of fixtures.
        steps: Optimizer steps.
        warm_up: The number of first steps that are not counted.
        folder: The folder to create for its files.

    Raises:
        RuntimeError: It failed; the message ends with the end of its output.
    """
    folder.mkdir(parents=True)
    command, steps_file = contestant.command(fixtures, steps, folder)
    started, first = time.monotonic(), None
    peak = 0
    spent: list[float] = []
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        while process.poll() is None:
            peak = max(peak, _largest(process.pid))
            done = len(read_steps(steps_file))
            if first is None and done:
                first = time.monotonic() - started
            # If several steps ended since the last poll, they all get the current CPU time.
            spent += [_cpu_s(process.pid)] * (done - len(spent))
            time.sleep(_POLL_S)
    rows = read_steps(steps_file)
    if process.returncode or len(rows) < steps:
        end = (folder / "output").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{contestant.name} took {len(rows)} of {steps} steps: {end}")
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
    """Return the CPU seconds of a process and its children."""
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
    """Return the resident bytes of the largest of a process and its children."""
    sizes = [0]
    try:
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            sizes.append(process.memory_info().rss)
    except psutil.Error:
        pass
    return max(sizes)

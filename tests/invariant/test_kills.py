"""Killed at random moments, a run loses nothing: the same command ends with the same bits."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.run_commands import (
    Run,
    assert_identical,
    changed,
    finish,
    kill_all,
    latest,
    leftovers,
    start_command,
    steps_taken,
    train_by_command,
    train_here,
    wait_until,
)

pytestmark = pytest.mark.slow

KILLS = 20
STEPS = 60


@pytest.fixture
def job(document: dict[str, Any]) -> dict[str, Any]:
    """Sixty steps with a checkpoint after every second, dropout, and a held-out loss."""
    return changed(
        {**document, "adapter": {"kind": "lora", "r": 4, "dropout": 0.1}},
        data={"validation": {"split": "10%"}},
        evaluate={"every": "9 steps"},
        train={"max_steps": STEPS},
        checkpoint={"every": "2 steps", "keep": 2},
    )


def kill_at_random(
    job: dict[str, Any], home: Path, chance: random.Random, loop_s: float, *options: str
) -> bool:
    """Start the command and kill it somewhere; False when it finished before."""
    process = start_command(job, home, *options)
    started = time.time()
    phase = chance.choices(["start", "loop", "end"], [3, 6, 2])[0]
    if phase == "start":
        time.sleep(chance.uniform(0.05, 10))
    else:
        target = STEPS if phase == "end" else 1

        def reached() -> bool:
            noted = home / "runs" / job["name"] / "latest" / "samples.jsonl"
            fresh = noted.exists() and noted.stat().st_mtime > started
            return fresh and steps_taken(job, home) >= target

        wait_until(reached, process)
        time.sleep(chance.uniform(0, 1.5 if phase == "end" else loop_s))
    running = process.poll() is None
    kill_all(process)
    return running


def check(run: Run, whole: Run) -> None:
    assert run.state == "finished"
    assert [s["step"] for s in run.samples] == list(range(1, STEPS + 1))
    assert run.samples == whole.samples
    assert run.losses == whole.losses
    assert_identical(run, whole)
    assert leftovers(run) == []


def test_twenty_kills(job: dict[str, Any], tmp_path: Path) -> None:
    whole = train_here(job, tmp_path / "whole")
    loop_s = whole.steps[-1]["seconds"] - whole.steps[0]["seconds"]
    home = tmp_path / "killed"
    chance = random.Random(20)
    kills = 0
    for _ in range(3 * KILLS):
        if kill_at_random(job, home, chance, loop_s):
            kills += 1
        else:
            check(latest(job, home), whole)
        if kills == KILLS:
            break
    assert kills == KILLS
    check(train_by_command(job, home), whole)
    before = [Run(p) for p in (home / "runs" / job["name"]).iterdir() if not p.is_symlink()]
    assert {run.state for run in before} <= {"finished"}, "a run was left behind unfinished"


def test_at_most_one_interval_is_lost(job: dict[str, Any], tmp_path: Path) -> None:
    process = start_command(job, tmp_path)
    assert wait_until(lambda: steps_taken(job, tmp_path) >= 25, process)
    kill_all(process)
    run = latest(job, tmp_path)
    reached = steps_taken(job, tmp_path)
    kept = [int(name.removeprefix("checkpoint-")) for name in run.checkpoints if name[-1].isdigit()]
    assert max(int(n) for n in kept) >= reached - 2
    (run.path / "metrics.jsonl").write_text("")
    assert train_here(job, run.path).steps[0]["step"] >= reached - 1


def test_killed_for_memory(job: dict[str, Any], tmp_path: Path) -> None:
    """The kernel kills the process that trains; the command that started it explains."""
    process = start_command(job, tmp_path)
    assert wait_until(lambda: steps_taken(job, tmp_path) >= 5, process)
    for child in psutil.Process(process.pid).children(recursive=True):
        child.send_signal(signal.SIGKILL)
    ended = finish(process)
    assert ended.code == 4
    assert "memory" in ended.err
    assert "train.micro_batch_size" in ended.err
    assert "Traceback" not in ended.err
    assert latest(job, tmp_path).state == "failed"


def test_a_worker_that_outlives_its_command(job: dict[str, Any], tmp_path: Path) -> None:
    """Two processes must never train in one run folder."""
    long = changed(job, train={"max_steps": 100_000}, checkpoint={"every": "1000 steps"})
    process = start_command(long, tmp_path)
    assert wait_until(lambda: steps_taken(long, tmp_path) >= 5, process)
    orphans = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    try:
        refused = finish(start_command(long, tmp_path))
        assert refused.code == 4, refused.out
        assert "is being trained by another process" in refused.err
        assert "--fresh" in refused.err
        assert latest(long, tmp_path).state == "running"
    finally:
        for orphan in orphans:
            orphan.kill()
    reached = steps_taken(long, tmp_path)
    process = start_command(long, tmp_path)
    assert wait_until(lambda: steps_taken(long, tmp_path) not in (0, reached), process)
    kill_all(process)

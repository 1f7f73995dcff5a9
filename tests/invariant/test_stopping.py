"""Told to stop, a run saves and says so; the same command ends with the same bits."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.run_commands import (
    assert_identical,
    changed,
    finish,
    latest,
    leftovers,
    start_command,
    steps_taken,
    train_by_command,
    train_here,
    wait_until,
)
from training import supervisor
from training.config.load import parse_job
from training.run_folder import RunFolder
from training.tracking.background_publisher import BackgroundPublisher

pytestmark = pytest.mark.slow

STEPS = 60
BUDGET_S = 90

KINDS: dict[str, dict[str, Any]] = {
    "full": {"data": {"validation": {"split": "10%"}}, "evaluate": {"every": "7 steps"}},
    "packed": {"data": {"packing": True, "limit": 90}},
    "adapter with dropout": {
        "adapter": {"kind": "lora", "r": 4, "dropout": 0.1},
        "precision": "bf16",
    },
    "two processes, zero 2": {
        "sharding": {"zero": 2},
        "resources": {"processes": 2},
        "train": {"micro_batch_size": 4},
    },
    "two processes, fsdp": {
        "sharding": {"fsdp": "full"},
        "resources": {"processes": 2},
        "train": {"micro_batch_size": 4},
    },
}


def stop(document: dict[str, Any], home: Path, number: signal.Signals) -> None:
    """Start a job, tell it to stop in its midst, and see that it does within its budget."""
    before = steps_taken(document, home)
    process = start_command(document, home)
    assert wait_until(lambda: steps_taken(document, home) > before + 10, process)
    asked = time.monotonic()
    process.send_signal(number)
    ended = finish(process, timeout_s=BUDGET_S + 30)
    assert ended.code == 75, ended.err + ended.out
    assert time.monotonic() - asked < BUDGET_S
    assert number.name in ended.err
    assert "same command" in ended.err
    assert "Traceback" not in ended.err
    run = latest(document, home)
    assert run.state == "stopped"
    assert not (run.path / "model").exists()
    # Nothing that was done is lost: the checkpoint is of the last step taken.
    assert run.checkpoints[-1] == f"checkpoint-{run.samples[-1]['step']}"


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_run_ends_with_the_same_bits(
    document: dict[str, Any], tmp_path: Path, kind: str
) -> None:
    document["train"] = {**document["train"], "max_steps": STEPS, "micro_batch_size": 8}
    job = changed(document, **KINDS[kind])
    if "train" not in KINDS[kind]:
        # Found by a probe: it must be found again, or be remembered.
        del job["train"]["micro_batch_size"]
    # One process computes the same bits on every run, and so does this one.
    alone = "resources" not in job
    whole = (train_here if alone else train_by_command)(job, tmp_path / "whole")
    stop(job, tmp_path / "stopped", signal.SIGTERM)
    if kind == "full":
        stop(job, tmp_path / "stopped", signal.SIGUSR1)
    again = train_by_command(job, tmp_path / "stopped")
    assert again.state == "finished"
    assert again.samples == whole.samples
    assert [s["step"] for s in again.samples] == list(range(1, STEPS + 1))
    assert again.losses == whole.losses
    assert_identical(again, whole)
    assert leftovers(again) == []


def test_stop_signal_while_starting(document: dict[str, Any], tmp_path: Path) -> None:
    """From the first tenth of a second on, in imports, while reading data, loading the model."""
    for delay_s in (0.1, 0.6, 1.5, 3, 5, 7):
        process = start_command(document, tmp_path)
        time.sleep(delay_s)
        process.send_signal(signal.SIGTERM)
        ended = finish(process, timeout_s=BUDGET_S)
        if ended.code == 0:
            break
        if ended.code == -signal.SIGTERM:
            assert "run folder" not in ended.out, "only while Python itself is starting"
            continue
        assert ended.code == 75, f"after {delay_s} s: {ended.code}\n{ended.err}"
        assert "SIGTERM" in ended.err
        assert "Traceback" not in ended.err
    run = train_by_command(document, tmp_path)
    assert run.state == "finished"
    assert [s["step"] for s in run.samples] == list(range(1, 11))
    assert leftovers(run) == []


def test_signal_while_the_outcome_is_written_ends_no_finished_run(
    document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Report and tracking take seconds after the last step, and are still part of the run."""
    sent, escaped = [], []

    def reclaimed(*_: Any) -> None:
        sent.append(signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(supervisor, "_run_one", lambda *_: None)
    monkeypatch.setattr(BackgroundPublisher, "ended", reclaimed)
    monkeypatch.setattr(BackgroundPublisher, "close", reclaimed)
    before = signal.signal(signal.SIGTERM, lambda *_: escaped.append("it would end the process"))
    try:
        job = parse_job(document, "job")
        folder = supervisor.supervise(job, runs=tmp_path, fresh=True, source="job")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (len(sent), escaped) == (2, [])
    assert RunFolder(folder).state == "finished"

"""A run goes on with other processes, or another ZeRO stage, as if nothing had changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.run_commands import Run, changed, latest, leftovers, train_by_command, train_here
from tests.two_node import train_in_pair

pytestmark = pytest.mark.slow

STEPS, CUT = 20, 10
Shape = tuple[int, int]
"""Processes and ZeRO stage."""


@pytest.fixture(scope="module")
def job(tiny_model: Path, pairs: Path) -> dict[str, Any]:
    return {
        "name": "reshaped",
        "model": {"source": str(tiny_model), "freeze": {"embeddings": True}},
        "data": {"train": str(pairs), "max_length": 96, "workers": 1, "limit": 90},
        "method": {"kind": "sft"},
        "train": {
            "max_steps": STEPS,
            "global_batch_size": 8,
            "micro_batch_size": 2,
            "learning_rate": 1e-3,
            "weight_decay": 0.01,
        },
        "checkpoint": {"every": f"{CUT} steps", "keep": 2},
        "tracking": {"mlflow": False},
    }


def shaped(job: dict[str, Any], shape: Shape) -> dict[str, Any]:
    processes, zero = shape
    return changed(job, resources={"processes": processes}, sharding={"zero": zero})


@pytest.fixture(scope="module")
def whole(job: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Uninterrupted, in one process, unsharded."""
    return train_here(job, tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def begun(
    job: dict[str, Any], whole: Run, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Shape], Run]:
    """Whole runs by the shape that made them, those of two processes in one pair of them."""
    pair: dict[Shape, Run] = {}

    def run(shape: Shape) -> Run:
        if shape == (1, 0):
            return whole
        if not pair:
            shapes = {f"zero-{zero}": (2, zero) for zero in (2, 3)}
            jobs = {name: shaped(job, one) for name, one in shapes.items()}
            runs = train_in_pair(jobs, tmp_path_factory.mktemp("begun"))
            pair.update({shapes[name]: one for name, one in runs.items()})
        return pair[shape]

    return run


def cut(run: Run, job: dict[str, Any], home: Path) -> Path:
    """Copy a whole run, and leave of it what a kill before its last checkpoint leaves.

    Returns:
        The copy, a run folder in `home/runs` that the command finds.
    """
    copy = home / "runs" / job["name"] / "begun"
    shutil.copytree(run.path, copy)
    (copy.parent / "latest").symlink_to("begun")
    shutil.rmtree(copy / "checkpoints" / f"checkpoint-{STEPS}")
    shutil.rmtree(copy / "model")
    (copy / "metrics.jsonl").write_text("")
    (copy / "status.json").write_text(json.dumps({"state": "running"}))
    return copy


CHANGES: list[tuple[Shape, Shape]] = [
    ((1, 0), (2, 0)),
    ((2, 2), (1, 0)),
    ((1, 0), (2, 2)),
    ((2, 2), (2, 3)),
    ((2, 3), (1, 0)),
    ((2, 3), (1, 2)),
]


@pytest.mark.parametrize(
    ("before", "after"),
    CHANGES,
    ids=[f"{b[0]} zero {b[1]} to {a[0]} zero {a[1]}" for b, a in CHANGES],
)
def test_resumes_with_another_number_of_processes_or_zero_stage(
    job: dict[str, Any],
    whole: Run,
    begun: Callable[[Shape], Run],
    tmp_path: Path,
    before: Shape,
    after: Shape,
) -> None:
    going_on = cut(begun(before), job, tmp_path)
    again = train_by_command(shaped(job, after), tmp_path)
    assert again.path == going_on, "a new run was begun"
    assert [row["step"] for row in again.steps] == list(range(CUT + 1, STEPS + 1))
    assert again.losses == pytest.approx(whole.losses[CUT:], abs=1e-4)
    assert again.grad_norms == pytest.approx(whole.grad_norms[CUT:], rel=1e-4)
    assert [r["learning_rate"] for r in again.steps] == pytest.approx(
        [r["learning_rate"] for r in whole.steps[CUT:]]
    )
    assert [sorted(s["ids"]) for s in again.samples] == [sorted(s["ids"]) for s in whole.samples]
    for name, weight in again.weights.items():
        assert (weight - whole.weights[name]).abs().max() < 1e-4, name
    assert leftovers(again) == []


def test_an_adapter_resumes_with_another_number_of_processes(
    job: dict[str, Any], tmp_path: Path
) -> None:
    """Names in memory and on disk differ for adapters, most of all for magnitudes."""
    tuned = {
        **changed(job, model={"freeze": {}}, train={"learning_rate": 1e-2}),
        "adapter": {"kind": "lora", "r": 4, "use_dora": True, "modules_to_save": ["lm_head"]},
    }
    whole = train_here(tuned, tmp_path / "alone")
    going_on = cut(whole, job, tmp_path)
    again = train_by_command(shaped(tuned, (2, 2)), tmp_path)
    assert again.path == going_on, "a new run was begun"
    assert again.losses == pytest.approx(whole.losses[CUT:], abs=1e-4)
    for name, weight in again.weights.items():
        assert (weight - whole.weights[name]).abs().max() < 1e-3, name


# --- FSDP2, as on Trainium ----------------------------------------------------------------------


def fsdp(job: dict[str, Any], processes: int) -> dict[str, Any]:
    return changed(job, resources={"processes": processes}, sharding={"fsdp": "full"})


def stopped_at(home: Path, job: dict[str, Any], step: int) -> None:
    """Leave of a run what a kill after a checkpoint leaves."""
    run = latest(job, home)
    for path in (run.path / "checkpoints").iterdir():
        if int(path.name.rpartition("-")[2]) > step:
            shutil.rmtree(path)
    shutil.rmtree(run.path / "model")
    (run.path / "metrics.jsonl").write_text("")
    (run.path / "status.json").write_text(json.dumps({"state": "running"}))


@pytest.mark.parametrize("adapter", [None, {"kind": "lora", "r": 4}], ids=["full", "LoRA"])
def test_fsdp_on_two_processes_then_one_then_two(
    job: dict[str, Any], tmp_path: Path, adapter: dict[str, Any] | None
) -> None:
    """The job has the static shapes of Trainium: the last batch of rows is incomplete."""
    job = changed(job, train={"static_shapes": True}, checkpoint={"every": "5 steps", "keep": 9})
    if adapter is not None:
        job = {
            **changed(job, model={"freeze": {}}, train={"learning_rate": 1e-2}),
            "adapter": adapter,
        }
    whole = train_here(job, tmp_path / "whole")
    home = tmp_path / "home"
    train_by_command(fsdp(job, 2), home)
    path = latest(job, home).path
    for processes, step in ((1, 5), (2, 10), (1, 15)):
        stopped_at(home, job, step)
        again = train_by_command(fsdp(job, processes), home)
        assert again.path == path, "a new run was begun"
        assert [row["step"] for row in again.steps] == list(range(step + 1, STEPS + 1))
        assert again.losses == pytest.approx(whole.losses[step:], abs=1e-4)
        assert again.grad_norms == pytest.approx(whole.grad_norms[step:], rel=1e-3)
    assert [sorted(s["ids"]) for s in again.samples] == [sorted(s["ids"]) for s in whole.samples]
    assert again.weights.keys() == whole.weights.keys()
    for name, weight in again.weights.items():
        assert (weight - whole.weights[name]).abs().max() < 1e-3, name
    assert leftovers(again) == []

"""Properties of every preference method: micro-batches, resume, references, learning."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.preference_rows import preference_job, write_rows
from tests.run_commands import (
    Run,
    assert_identical,
    changed,
    read_weights,
    train_here,
)
from tests.two_node import train_in_pair
from training.errors import GuardError
from training.methods import dpo

KINDS = ["reward", "dpo", "kto", "orpo", "simpo"]
LORA = {"kind": "lora", "r": 4, "alpha": 16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("preferences")


@pytest.fixture(scope="module")
def rows(folder: Path) -> dict[str, Path]:
    return {kind: write_rows(kind, folder) for kind in KINDS}


@pytest.fixture(scope="module")
def whole(folder: Path, tiny_model: Path, rows: dict[str, Path]) -> Any:
    """Return the run of a method at once, its checkpoints kept; each is trained once."""
    done: dict[str, Run] = {}

    def run(kind: str) -> Run:
        if kind not in done:
            job = job_of(kind, tiny_model, rows)
            done[kind] = train_here(job, folder / f"{kind}-whole")
        return done[kind]

    return run


def job_of(kind: str, model: Path, rows: dict[str, Path], **sections: Any) -> dict[str, Any]:
    """A job whose last step is short: 5 rows of 8."""
    job = preference_job(model, rows[kind], kind, checkpoint={"every": "4 steps", "keep": 5})
    job["train"].pop("max_steps")
    job["data"]["limit"] = 61 if kind != "kto" else 60
    return changed(job, **sections)


def evaluation(run: Run) -> tuple[dict[str, float], dict[str, float]]:
    found = json.loads((run.path / "evaluation.json").read_text())
    return found["before"]["validation"], found["after"]["validation"]


def assert_moved_alike(mine: Run, other: Run, start: Path) -> None:
    """Fail unless two runs moved every tensor by the same, to a thousandth of the way.

    Single weights tell less: where a gradient is nearly zero, Adam makes a step of its rounding.
    """
    before = read_weights(start)
    for name, weight in mine.weights.items():
        moved = other.weights[name] - before.get(name, torch.zeros_like(weight))
        assert (weight - other.weights[name]).norm() < 1e-3 * moved.norm(), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("micro", [1])
def test_accumulation_changes_nothing(
    whole: Any, tiny_model: Path, rows: dict[str, Path], tmp_path: Path, kind: str, micro: int
) -> None:
    at_once = whole(kind)
    assert len(at_once.samples[-1]["ids"]) < 8, "the last step is no shorter than the others"
    job = job_of(kind, tiny_model, rows, train={"micro_batch_size": micro})
    parts = train_here(job, tmp_path)
    assert parts.losses == pytest.approx(at_once.losses, abs=1e-5)
    assert parts.grad_norms == pytest.approx(at_once.grad_norms, rel=1e-4)
    for mine, other in zip(evaluation(parts), evaluation(at_once), strict=True):
        assert mine == pytest.approx(other, abs=1e-4)
    assert_moved_alike(parts, at_once, tiny_model)
    for name in set(at_once.steps[0]) - {"seconds", "tokens_per_second", "memory_gib", "grad_norm"}:
        mine, other = ([step[name] for step in run.steps] for run in (parts, at_once))
        if mine[0] is not None:
            assert mine == pytest.approx(other, abs=1e-4), name


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_is_the_uninterrupted_one(
    whole: Any, tiny_model: Path, rows: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    at_once = whole(kind)
    cut = tmp_path / "cut"
    shutil.copytree(at_once.path, cut)
    shutil.rmtree(cut / "model")
    for number in range(5, 20):
        shutil.rmtree(cut / f"checkpoints/checkpoint-{number}", ignore_errors=True)
    resumed = train_here(job_of(kind, tiny_model, rows), cut)
    assert_identical(resumed, at_once)
    assert resumed.samples == at_once.samples
    assert resumed.losses == at_once.losses
    assert evaluation(resumed) == evaluation(at_once)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_and_tokens_are_counted(whole: Any, rows: dict[str, Path], kind: str) -> None:
    run = whole(kind)
    ids = [name for step in run.samples for name in step["ids"]]
    data = json.loads((run.path / "data.json").read_text())
    assert len(ids) == len(set(ids)) == data["rows_train"]
    assert all(name.startswith(f"{rows[kind].name}:") for name in ids)
    assert sum(step["tokens"] for step in run.steps) == data["tokens"]
    assert sum(step["supervised_tokens"] for step in run.steps) == data["supervised"]


MOVES = {
    "reward": ("accuracy", 0.1, 1e-3),
    "dpo": ("margin", 0.02, 1e-3),
    "kto": ("margin", 0.02, 3e-3),
    "orpo": ("margin", 0.001, 1e-3),
    "simpo": ("margin", 0.02, 1e-3),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_is_measured_by_moves_the_right_way(
    tiny_model: Path, rows: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    measure, least, rate = MOVES[kind]
    train = {"max_steps": 40, "learning_rate": rate}
    before, after = evaluation(
        train_here(preference_job(tiny_model, rows[kind], kind, train=train), tmp_path)
    )
    assert after["loss"] < before["loss"]
    assert after[measure] > before[measure] + least


# --- the reference ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("adapter", [None, LORA, {**LORA, "use_dora": True}])
def test_precomputed_references_are_the_same(
    tiny_model: Path, rows: dict[str, Path], tmp_path: Path, adapter: Any
) -> None:
    runs = []
    for precompute in (False, True):
        method = {"precompute": precompute}
        job = job_of("dpo", tiny_model, rows, adapter=adapter, method=method)
        runs.append(train_here(job, tmp_path / str(precompute)))
    on_the_fly, precomputed = runs
    assert precomputed.losses == pytest.approx(on_the_fly.losses, abs=1e-5)
    if adapter is None:
        assert_moved_alike(precomputed, on_the_fly, tiny_model)
    assert on_the_fly.losses[0] == pytest.approx(0.6931472, abs=1e-6), "log 2: no difference yet"


def test_a_resume_keeps_the_precomputed_reference(
    tiny_model: Path, rows: dict[str, Path], tmp_path: Path
) -> None:
    job = job_of("dpo", tiny_model, rows, adapter=LORA, method={"precompute": True})
    at_once = train_here(job, tmp_path / "whole")
    for number in (7, 8):
        shutil.rmtree(at_once.path / f"checkpoints/checkpoint-{number}", ignore_errors=True)
    cut = tmp_path / "cut"
    shutil.copytree(at_once.path, cut)
    assert_identical(train_here(job, cut), at_once)


def test_a_reference_that_is_another_model_stops_the_run(
    tiny_model: Path, rows: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = dpo.load_reference_model

    def wrong(setup: Any) -> Any:
        model = right(setup)
        model.get_input_embeddings().weight.data *= 1.05
        return model

    monkeypatch.setattr(dpo, "load_reference_model", wrong)
    with pytest.raises(GuardError, match="the reference differs from the model before the first"):
        train_here(job_of("dpo", tiny_model, rows), tmp_path)


@pytest.fixture(scope="module")
def two_processes(
    tiny_model: Path, rows: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Run]:
    jobs = {
        f"{kind}-{zero}": job_of(
            kind, tiny_model, rows, train={"micro_batch_size": 2}, sharding={"zero": zero}
        )
        for kind in KINDS
        for zero in (0, 3)
    }
    return train_in_pair(jobs, tmp_path_factory.mktemp("pair"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("zero", [0, 3])
def test_two_processes_take_the_steps_of_one(
    whole: Any, two_processes: dict[str, Run], tiny_model: Path, kind: str, zero: int
) -> None:
    alone, two = whole(kind), two_processes[f"{kind}-{zero}"]
    assert two.losses == pytest.approx(alone.losses, abs=1e-4)
    assert two.grad_norms == pytest.approx(alone.grad_norms, rel=1e-3)
    assert [sorted(s["ids"]) for s in two.samples] == [sorted(s["ids"]) for s in alone.samples]
    for mine, other in zip(evaluation(two), evaluation(alone), strict=True):
        assert mine == pytest.approx(other, abs=1e-3)
    assert_moved_alike(two, alone, tiny_model)

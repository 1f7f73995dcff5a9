"""Regularizers toward the initial weights equal their formulas and reduce forgetting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.factories import docstring_pairs, write_jsonl
from tests.run_commands import changed, read_weights, train_here
from tests.two_node import train_in_pair
from training.config.load import parse_job
from training.errors import GuardError, JobError

LORA = {"kind": "lora", "r": 4, "alpha": 16}


@pytest.fixture
def general(tmp_path: Path) -> Path:
    """Text of another kind than what is trained on: the questions alone."""
    rows = [{"text": " ".join([pair["prompt"]] * 4)} for pair in docstring_pairs(24)]
    return write_jsonl(tmp_path / "general.jsonl", rows)


@pytest.fixture
def job(document: dict[str, Any], general: Path) -> dict[str, Any]:
    return changed(
        document,
        data={"validation": {"split": "20%"}},
        train={"max_steps": 12, "learning_rate": 3e-3},
        evaluate={"forgetting": str(general)},
    )


def test_distance_to_the_start_is_in_the_loss(job: dict[str, Any], tmp_path: Path) -> None:
    """Two steps by hand: the second is taken against what the first has moved."""
    weight = 0.7
    plain = changed(
        job,
        data={"shuffle": False, "validation": "none"},
        train={"max_steps": 2, "optimizer": "sgd", "warmup": "0%", "lr_scheduler": "constant"},
    )
    without = train_here(plain, tmp_path / "without")
    held = train_here(changed(plain, train={"l2_sp": weight}), tmp_path / "held")
    assert held.losses[0] == pytest.approx(without.losses[0], abs=1e-6)
    start = read_weights(Path(job["model"]["source"]))
    first = train_here(changed(plain, train={"max_steps": 1}), tmp_path / "first")
    squared = sum(float((first.weights[n] - w).square().sum()) for n, w in start.items())
    assert held.losses[1] == pytest.approx(without.losses[1] + 0.5 * weight * squared, rel=1e-4)
    assert held.steps[1]["l2_distance"] == pytest.approx(squared**0.5, rel=1e-4)
    rate = plain["train"]["learning_rate"]
    for name, expected in without.weights.items():
        pulled = expected - rate * weight * (first.weights[name] - start[name])
        assert (held.weights[name] - pulled).abs().max() < 1e-5, name


@pytest.mark.parametrize("adapter", [None, LORA], ids=["full", "lora"])
def test_divergence_from_the_base_is_in_the_loss(
    job: dict[str, Any], tmp_path: Path, adapter: dict[str, Any] | None
) -> None:
    """After one step it is what the two models' logits say on the second step's rows."""
    job = changed(job, data={"shuffle": False, "validation": "none"}, train={"max_steps": 2})
    if adapter is not None:
        job["adapter"] = adapter
    without = train_here(job, tmp_path / "without")
    held = train_here(changed(job, train={"kl_to_base": 0.5}), tmp_path / "held")
    assert held.losses[0] == pytest.approx(without.losses[0], rel=1e-5)
    assert held.steps[0]["kl_to_base"] == pytest.approx(0, abs=1e-6)
    apart = held.steps[1]["kl_to_base"]
    assert apart > 1e-5
    assert held.losses[1] == pytest.approx(without.losses[1] + 0.5 * apart, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"adapter": LORA},
        {"adapter": {"kind": "prefix_tuning", "num_virtual_tokens": 5}},
        {"adapter": {"kind": "bottleneck", "size": 8}},
    ],
    ids=["full", "lora", "prefix", "bottleneck"],
)
def test_held_back_it_stays_nearer_the_base(
    job: dict[str, Any], tmp_path: Path, keys: dict[str, Any]
) -> None:
    job = changed(job, train={"learning_rate": 1e-2 if keys else 3e-3}, **keys)
    free = train_here(changed(job, train={"kl_to_base": 1e-9}), tmp_path / "free")
    kl = train_here(changed(job, train={"kl_to_base": 20.0}), tmp_path / "kl")
    near = train_here(changed(job, train={"kl_to_base": 1e-9, "l2_sp": 20.0}), tmp_path / "near")
    away = free.steps[-1]["kl_to_base"]
    assert away > 1e-4
    if "prefix" in str(keys):
        # A fresh one is away from the base already: its start is not the base.
        assert kl.steps[-1]["kl_to_base"] < 0.8 * away
        assert near.steps[-1]["l2_distance"] > 0
        return
    assert kl.steps[-1]["kl_to_base"] < 0.6 * away
    assert near.steps[-1]["kl_to_base"] < 0.6 * away


def test_it_goes_on_from_a_checkpoint_as_if_never_stopped(
    job: dict[str, Any], tmp_path: Path
) -> None:
    """The start is still the start, not where the checkpoint was."""
    job = changed(
        job, train={"l2_sp": 0.5, "kl_to_base": 0.5}, checkpoint={"every": "6 steps"}, adapter=LORA
    )
    run = train_here(job, tmp_path / "run")
    weights = run.weights
    for path in (run.path / "model", run.path / "checkpoints/checkpoint-12"):
        path.rename(path.with_name(f"old-{path.name}"))
    (run.path / "checkpoints/old-checkpoint-12").rename(tmp_path / "old")
    again = train_here(job, run.path)
    assert all(torch.equal(weights[name], tensor) for name, tensor in again.weights.items())


@pytest.mark.slow
def test_two_processes_are_held_as_one_is(document: dict[str, Any], tmp_path: Path) -> None:
    """However sharded: DDP, and ZeRO that cuts up optimizer, gradients and weights."""
    job = changed(document, train={"kl_to_base": 0.5, "micro_batch_size": 4, "max_steps": 6})
    kinds = {
        "full": changed(job, train={"learning_rate": 3e-3}),
        "lora": {**changed(job, train={"learning_rate": 1e-2}), "adapter": LORA},
    }
    alone, pair = {}, {}
    for zero in (0, 2, 3):
        for kind, plain in kinds.items():
            held = plain if zero == 3 else changed(plain, train={"l2_sp": 0.5})
            weighed = kind, zero == 3
            if weighed not in alone:
                alone[weighed] = train_here(held, tmp_path / f"alone-{kind}-{zero}")
            sharded = changed(held, sharding={"zero": zero}, resources={"processes": 2})
            pair[f"{kind}-{zero}"] = sharded
    for name, two in train_in_pair(pair, tmp_path / "pair").items():
        kind, _, zero = name.partition("-")
        one = alone[kind, zero == "3"]
        assert two.losses == pytest.approx(one.losses, abs=1e-4), name
        assert two.steps[-1]["kl_to_base"] > 1e-4, name
        for key in ("kl_to_base", *(["l2_distance"] if zero != "3" else [])):
            mine, other = ([step[key] for step in run.steps] for run in (two, one))
            assert mine == pytest.approx(other, rel=1e-3, abs=1e-5), (name, key)
        for tensor, weight in two.weights.items():
            assert (weight - one.weights[tensor]).abs().max() < 1e-3, (name, tensor)


def test_too_much_forgetting_fails_the_run(
    job: dict[str, Any], general: Path, tmp_path: Path
) -> None:
    learned = changed(
        job, method={"kind": "pretrain"}, data={"train": str(general), "validation": "none"}
    )
    known = train_here(changed(learned, train={"learning_rate": 1e-2}), tmp_path / "known")
    job = changed(
        job,
        model={"source": str(known.path / "model")},
        train={"learning_rate": 2e-2},
        evaluate={"max_forgetting": "3%"},
    )
    with pytest.raises(GuardError, match=r"forgetting: \+.*max_forgetting allows \+3\.00%") as stop:
        train_here(job, tmp_path / "run")
    assert stop.value.exit_code == 4
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "run/model")
    measured = json.loads((tmp_path / "run/evaluation.json").read_text())
    before, after = (measured[when]["forgetting"]["loss"] for when in ("before", "after"))
    assert after > 1.03 * before
    assert sum(p.numel() for p in model.parameters()) > 0


def test_what_cannot_be_held_is_refused(job: dict[str, Any], general: Path) -> None:
    problems: list[tuple[dict[str, Any], str]] = [
        ({"train": {"l2_sp": 1.0}, "sharding": {"zero": 3}}, r"train\.l2_sp: compares complete"),
        (
            {"train": {"kl_to_base": 1.0}, "adapter": {**LORA, "bias": "all"}},
            r"train\.kl_to_base: .*biases stay on",
        ),
        (
            {"train": {"kl_to_base": 1.0}, "method": {"kind": "distill", "teacher": "x"}},
            r"train\.kl_to_base: is for pretrain and sft",
        ),
        ({"evaluate": {"forgetting": None, "max_forgetting": "3%"}}, r"is required by max_forg"),
    ]
    for keys, says in problems:
        with pytest.raises(JobError, match=says):
            parse_job(changed(job, **keys), "test")

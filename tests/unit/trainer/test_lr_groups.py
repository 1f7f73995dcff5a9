"""Layers learn at the rates, and from the steps, that the job says."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.run_commands import changed, read_weights, train_here
from training.config.load import parse_job
from training.trainer.lr_groups import LrMultiplier, LrMultipliers, first_fully_trainable_step

NAMES = [
    "model.embed_tokens.weight",
    *(f"model.layers.{layer}.mlp.up_proj.weight" for layer in range(4)),
    "model.norm.weight",
    "lm_head.weight",
]


def rates(document: dict[str, Any], names: list[str] = NAMES, **keys: Any) -> LrMultipliers:
    job = parse_job(changed(document, train=keys), "test")
    return LrMultipliers(job, names, max_steps=80)


def test_one_rate_unless_asked(document: dict[str, Any]) -> None:
    assert rates(document).is_uniform
    assert not rates(document, layer_decay=0.9).is_uniform
    assert not rates(document, unfreeze="gradual").is_uniform


def test_each_layer_is_slower_than_the_one_above(document: dict[str, Any]) -> None:
    decayed = rates(document, layer_decay=0.5)
    assert [decayed.multiplier_of(name).factor for name in NAMES] == [
        1 / 16,
        1 / 8,
        1 / 4,
        1 / 2,
        1,
        1,
        1,
    ]


def test_layers_join_from_the_top(document: dict[str, Any]) -> None:
    gradual = rates(document, unfreeze="gradual")
    starts = [gradual.multiplier_of(name).start * 80 for name in NAMES]
    assert starts == [40, 30, 20, 10, 0, 0, 0]
    job = parse_job(changed(document, train={"unfreeze": "gradual"}), "test")
    assert first_fully_trainable_step(job, 80) == 40


def test_parts_that_learn_at_once_come_first(document: dict[str, Any]) -> None:
    gradual = rates(document, unfreeze="gradual")
    parts = gradual.partition([NAMES[:3], NAMES[3:]])
    assert [rate.start for _, rate, _ in parts] == sorted(
        {gradual.multiplier_of(n).start for n in NAMES}
    )
    assert parts[0][1] == LrMultiplier()
    assert sorted(name for _, _, names in parts for name in names) == sorted(NAMES)


@pytest.mark.parametrize(
    "adapter",
    [
        None,
        {"kind": "lora", "r": 2, "unfreeze": "gradual"},
        {"kind": "bottleneck", "unfreeze": "gradual"},
    ],
    ids=["full", "lora", "bottleneck"],
)
def test_a_layer_stays_until_its_turn(
    document: dict[str, Any], tmp_path: Path, adapter: dict[str, Any] | None
) -> None:
    """Two layers, twelve steps: the lower joins after the third, the embeddings after the sixth."""
    schedule = {} if adapter else {"unfreeze": "gradual"}
    job = changed(
        document,
        train={"max_steps": 12, "warmup": 0, "weight_decay": 0.01, **schedule},
        checkpoint={"every": "1 steps", "keep": 20},
        guards={"update_check_after": "1 steps"},
        **({"adapter": adapter} if adapter else {}),
    )
    run = train_here(job, tmp_path / "run")
    saved = [read_weights(run.path / "checkpoints" / f"checkpoint-{n}") for n in range(1, 13)]

    def moved_at(part: str) -> list[int]:
        names = [name for name in saved[0] if part in name]
        assert names
        return [
            step
            for step in range(2, 13)
            if any(not torch.equal(saved[step - 1][n], saved[step - 2][n]) for n in names)
        ]

    assert moved_at("layers.1.") == list(range(2, 13))
    assert moved_at("layers.0.") == list(range(4, 13))
    if adapter is None:
        assert moved_at("embed_tokens") == list(range(7, 13))

    # Resumed from a checkpoint in the middle, it ends with the same bits.
    weights = run.weights
    for number in range(6, 13):
        shutil.rmtree(run.path / "checkpoints" / f"checkpoint-{number}")
    shutil.rmtree(run.path / "model")
    again = train_here(job, run.path)
    assert all(torch.equal(weights[name], tensor) for name, tensor in again.weights.items())


def test_lora_plus_gives_b_its_own_rate(document: dict[str, Any], tmp_path: Path) -> None:
    """With plain SGD the step is the rate times the gradient, which is the same in both runs."""
    steps = {}
    for ratio in (1.0, 8.0):
        job = changed(
            document,
            train={"max_steps": 1, "optimizer": "sgd", "warmup": 0, "max_grad_norm": 0},
            adapter={"kind": "lora", "r": 2, "lora_plus_ratio": ratio},
        )
        steps[ratio] = train_here(job, tmp_path / str(ratio)).weights
    for name, plain in steps[1.0].items():
        if "lora_B" in name:  # starts at zero: what it is, it moved
            assert torch.allclose(steps[8.0][name], 8 * plain, rtol=1e-4, atol=1e-9), name
            assert plain.abs().max() > 0

"""LoRA on the experts of a mixture is trained, saved, resumed and merged as PEFT's own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from tests.moe_models import EXPERTS, FAMILIES, make_tiny_moe
from tests.run_commands import (
    assert_identical,
    changed,
    read_weights,
    train_here,
)
from tests.two_node import train_in_pair
from training.config.load import parse_job
from training.errors import JobError, ModelError
from training.export.streaming_merge import streaming_merge

EXPERT_LORA = {
    "kind": "lora",
    "r": 4,
    "target_modules": ["o_proj"],
    "target_parameters": ["experts.gate_up_proj", "experts.down_proj"],
}
ALL_LINEAR = {"kind": "lora", "r": 4}
FAST = ("gpt_oss",)
INCLUDES_EXPERTS = ("mixtral", "qwen3_moe", "deepseek_v3")
"""Families whose files have a linear layer per expert, which PEFT counts among `all-linear`."""


def job_for(
    document: dict[str, Any], model: Path, adapter: dict[str, Any], **train: Any
) -> dict[str, Any]:
    job = changed(document, model={"source": str(model), "attention": "eager"}, adapter=adapter)
    steps = {"max_steps": 6, "micro_batch_size": 4, "learning_rate": 1e-2}
    job = changed(job, train={**steps, **train}, checkpoint={"every": "3 steps", "keep": 9})
    return changed(job, guards={"update_check_after": "4 steps"})


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(torch.arange(3, 43)[None]).logits
    return found


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(family, marks=[] if family in FAST else [pytest.mark.slow])
        for family in FAMILIES
    ],
)
def test_experts_are_adapted_saved_resumed_and_merged(
    document: dict[str, Any], tmp_path: Path, family: str
) -> None:
    base = make_tiny_moe(tmp_path / "base", family)
    job = job_for(document, base, EXPERT_LORA)
    run = train_here(job, tmp_path / "run")
    saved = read_weights(run.path / "model")
    on_experts = {n: t for n, t in saved.items() if "experts" in n and "lora_B" in n}
    assert len(on_experts) == 4
    for name, weight in on_experts.items():
        # B starts at zero; its columns are the experts', one after another for each rank.
        moved = weight.reshape(weight.shape[0], -1, EXPERTS).abs().amax((0, 1))
        assert (moved > 1e-4).all(), (name, moved)

    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    before = logits(plain)
    tuned = logits(PeftModel.from_pretrained(plain, run.path / "model"))
    assert (tuned - before).abs().max() > 0.1
    streaming_merge(run.path / "model", base, tmp_path / "merged")
    assert set(read_weights(tmp_path / "merged")) == set(read_weights(base))
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    assert (logits(merged) - tuned).abs().max() < 1e-4

    cut = Path(shutil.copytree(run.path, tmp_path / "cut"))
    shutil.rmtree(cut / "model")
    shutil.rmtree(cut / "checkpoints/checkpoint-6")
    assert_identical(train_here(job, cut), run)


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(family, marks=[] if family in ("mixtral", "gpt_oss") else [pytest.mark.slow])
        for family in FAMILIES
    ],
)
def test_how_much_of_the_experts_an_adapter_includes_is_said(
    document: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], family: str
) -> None:
    base = make_tiny_moe(tmp_path / "base", family)
    train_here(job_for(document, base, ALL_LINEAR, max_steps=1), tmp_path / "run")
    said = " ".join(capsys.readouterr().out.split())
    plain = AutoModelForCausalLM.from_pretrained(base)
    tuned = get_peft_model(plain, LoraConfig(r=4, target_modules="all-linear"))
    included = any("experts" in n and p.requires_grad for n, p in tuned.named_parameters())
    assert included == (family in INCLUDES_EXPERTS)
    if included:
        assert "The adapter includes 100% of the experts' weights" in said
    else:
        assert "warning: the adapter includes none of the experts" in said
        assert "target_parameters: [experts.gate_up_proj, experts.down_proj]" in said


@pytest.mark.slow
def test_processes_take_the_steps_of_one(document: dict[str, Any], tmp_path: Path) -> None:
    base = make_tiny_moe(tmp_path / "base", "qwen3_moe")
    job = job_for(document, base, EXPERT_LORA, micro_batch_size=1, max_steps=5)
    alone = train_here(job, tmp_path / "alone")
    jobs = {f"zero-{zero}": changed(job, sharding={"zero": zero}) for zero in (0, 2, 3)}
    for case, both in train_in_pair(jobs, tmp_path / "pair").items():
        assert both.losses == pytest.approx(alone.losses, abs=1e-4)
        for name, weight in both.weights.items():
            assert (weight - alone.weights[name]).abs().max() < 1e-4, (case, name)


@pytest.mark.parametrize(
    ("option", "key"),
    [
        ({"dropout": 0.1}, "adapter.dropout"),
        ({"use_dora": True}, "adapter.use_dora"),
        ({"init": "pissa"}, "adapter.init"),
        ({"layers_to_transform": [1]}, "adapter.layers_to_transform"),
        ({"kind": "qlora"}, "adapter.kind"),
    ],
)
def test_what_lora_on_experts_cannot_do_is_refused(
    document: dict[str, Any], option: dict[str, Any], key: str
) -> None:
    job = changed(document, adapter={**EXPERT_LORA, **option})
    with pytest.raises(JobError, match=rf"{key}: with target_parameters"):
        parse_job(job, "test")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"dropout": 0.1}, "the adapter includes experts, and PEFT's LoRA on them cannot"),
        ({"init": "olora"}, "adapter.init is olora, which is for the weights of linear layers"),
        ({"target_parameters": ["experts.w1"]}, r"no parameter experts.w1. It has .*down_proj"),
    ],
)
def test_what_the_model_shows_is_refused_before_training(
    document: dict[str, Any], tmp_path: Path, option: dict[str, Any], message: str
) -> None:
    base = make_tiny_moe(tmp_path / "base", "mixtral")
    with pytest.raises(ModelError, match=message):
        train_here(job_for(document, base, {**ALL_LINEAR, **option}), tmp_path / "run")

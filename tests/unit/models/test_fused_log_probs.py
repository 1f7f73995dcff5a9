"""Log-probabilities of supervised positions alone are those of the whole batch's logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    GraniteConfig,
    LlamaConfig,
    PreTrainedModel,
)

from training.models import fused_log_probs
from training.models.fused_log_probs import add_next_token_log_probs

SHAPE: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
}
CONFIGS = [
    LlamaConfig(**SHAPE),
    Gemma2Config(**SHAPE, final_logit_softcapping=2.0, attn_implementation="eager"),
    CohereConfig(**SHAPE, logit_scale=0.3),
    GraniteConfig(**SHAPE, logits_scaling=4.0),
]


def make(config: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    add_next_token_log_probs(model)
    return model


def batch() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    ids = torch.randint(1, 61, (3, 12))
    labels = ids.clone()
    labels[0, :5] = labels[1, 8:] = labels[2] = -100
    return {"input_ids": ids, "labels": labels}


def gradients(model: Any) -> dict[str, torch.Tensor]:
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize("budget", [2**24, 61 * 4], ids=["at once", "in chunks"])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
def test_as_from_all_logits(config: Any, budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_log_probs, "LOGITS", budget)
    model, inputs = make(config), batch()
    found = model(**inputs, next_token_log_probs=True)
    found.log_probs.sum().backward()
    ours = gradients(model)

    logits = model(input_ids=inputs["input_ids"], use_cache=False).logits[:, :-1]
    targets = inputs["labels"][:, 1:]
    mask = targets != -100
    every = logits.log_softmax(-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    plain = every * mask
    plain.sum().backward()
    assert torch.equal(found.label_mask, mask)
    assert torch.allclose(found.log_probs, plain, atol=1e-5)
    assert (found.log_probs[~mask] == 0).all()
    for name, gradient in gradients(model).items():
        assert torch.allclose(ours[name], gradient, atol=1e-4), name


@pytest.mark.parametrize("budget", [2**24, 61 * 4], ids=["at once", "in chunks"])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
def test_temperature_and_entropy(config: Any, budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_log_probs, "LOGITS", budget)
    model, inputs = make(config), batch()
    found = model(**inputs, next_token_log_probs=True, temperature=0.7, entropy=True)
    logits = model(input_ids=inputs["input_ids"], use_cache=False).logits[:, :-1]
    every = (logits / 0.7).log_softmax(-1)
    targets = inputs["labels"][:, 1:]
    mask = targets != -100
    chosen = every.gather(-1, targets.clamp(min=0)[..., None])[..., 0] * mask
    assert torch.allclose(found.log_probs, chosen, atol=1e-5)
    assert torch.allclose(found.entropy, -(every.exp() * every).sum(-1) * mask, atol=1e-5)
    assert found.log_probs.requires_grad
    assert not found.entropy.requires_grad


@pytest.mark.parametrize("budget", [2**24, 61 * 4], ids=["at once", "in chunks"])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
def test_top1(config: Any, budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every second label is the model's own choice, so that both outcomes occur."""
    monkeypatch.setattr(fused_log_probs, "LOGITS", budget)
    model, inputs = make(config), batch()
    best = model(input_ids=inputs["input_ids"], use_cache=False).logits[:, :-1].argmax(-1)
    labels = inputs["labels"][:, 1:]
    labels[:, ::2] = torch.where(labels[:, ::2] == -100, -100, best[:, ::2])
    with torch.no_grad():
        output = model(**inputs, next_token_log_probs=True, top1=True)
    mask = labels != -100
    assert torch.equal(output.top1, (best == labels) & mask)
    assert 0 < output.top1.sum() < mask.sum()
    assert model(**inputs, next_token_log_probs=True).top1 is None


def test_nothing_supervised_leads_back_to_the_model() -> None:
    model, inputs = make(CONFIGS[0]), batch()
    inputs["labels"][:] = -100
    found = model(**inputs, next_token_log_probs=True)
    found.log_probs.sum().backward()
    assert found.log_probs.abs().sum() == 0
    assert all(p.grad is None or p.grad.abs().sum() == 0 for p in model.parameters())


def test_an_adapter_on_the_head_learns() -> None:
    model = get_peft_model(make(CONFIGS[0]), LoraConfig(target_modules=["lm_head"], r=2))
    model(**batch(), next_token_log_probs=True).log_probs.sum().backward()
    moved = {name for name, g in gradients(model).items() if g.abs().sum() > 0}
    assert moved == {"base_model.model.lm_head.lora_B.default.weight"}

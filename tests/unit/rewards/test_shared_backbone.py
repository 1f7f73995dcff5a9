"""A reward model on the policy's backbone has the scores of a separate one, and no side effects."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from training.config.rewards import ModelReward
from training.data.schema.rows import PromptRow
from training.errors import ModelError
from training.models.adapter_switching import use_adapter
from training.models.base_digest import write_base_digest
from training.rewards.context import RewardContext
from training.rewards.model import build
from training.rewards.model_scorer import StandaloneScorer
from training.rewards.shared_backbone import SharedBackboneScorer, why_not_shareable

TEXTS = [[5, 6, 7, 8, 9], [10, 11], [12], [5, 6, 7, 8, 9, 10, 11, 12, 13], [7, 7, 7]]


def lora(task: str, r: int = 4, **more: Any) -> LoraConfig:
    return LoraConfig(
        r=r, lora_alpha=8, target_modules=["q_proj", "v_proj"], task_type=task, **more
    )


def randomize_adapter(model: PeftModel, seed: int) -> PeftModel:
    """Set the trainable weights of an adapter, some of which start at zero, to random values."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(0.3 * torch.randn_like(parameter), non_blocking=False)
                assert "lora" in name or "score" in name
    return model


@pytest.fixture(params=[{}, {"use_rslora": True, "r": 8}, {"use_dora": True}], ids=str)
def reward(request: pytest.FixtureRequest, tiny_model: Path, tmp_path: Path) -> Path:
    """A reward model's adapter, as `method: {kind: reward}` writes it."""
    base = AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=1)
    settings = {"lora_dropout": 0.5, **request.param}
    model = randomize_adapter(get_peft_model(base, lora("SEQ_CLS", **settings)), 1)
    folder = tmp_path / "reward"
    model.save_pretrained(str(folder))
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    write_base_digest(folder, str(tiny_model))
    return folder


@pytest.fixture
def policy(tiny_model: Path) -> PeftModel:
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    return randomize_adapter(get_peft_model(base, lora("CAUSAL_LM", r=2)), 2)


def trainable_names(model: PeftModel) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


def test_scores_equal_those_of_a_standalone_model(reward: Path, policy: PeftModel) -> None:
    own = StandaloneScorer(str(reward), torch.device("cpu"))
    before = trainable_names(policy)
    shared = SharedBackboneScorer(policy, str(reward))
    own.pad_id = shared.pad_id = 0
    expected = torch.tensor(own.scores(TEXTS))
    assert expected.std() > 0.01
    policy.train()
    torch.testing.assert_close(torch.tensor(shared.scores(TEXTS)), expected, atol=1e-5, rtol=1e-5)
    assert trainable_names(policy) == before, "trainable parameters changed"
    assert policy.active_adapter == "default"
    randomize_adapter(policy, 3)
    torch.testing.assert_close(torch.tensor(shared.scores(TEXTS)), expected, atol=1e-5, rtol=1e-5)


def test_the_policy_is_unchanged(reward: Path, policy: PeftModel) -> None:
    ids = torch.tensor([TEXTS[3]])
    before = policy(ids).logits
    shared = SharedBackboneScorer(policy, str(reward))
    shared.pad_id = 0
    shared.scores([[1, 2]])
    assert torch.equal(policy(ids).logits, before)
    with use_adapter(policy, "reward_1"):
        assert not torch.equal(policy(ids).logits, before)
        assert not any("reward_1" in name for name in trainable_names(policy))
    assert torch.equal(policy(ids).logits, before)


def test_a_text_is_scored_at_its_last_token_before_padding(reward: Path, policy: PeftModel) -> None:
    own, shared = (
        StandaloneScorer(str(reward), torch.device("cpu")),
        SharedBackboneScorer(policy, str(reward)),
    )
    own.pad_id = shared.pad_id = 9
    texts = [[5, 9, 6, 9, 9], [9, 9], [5]]
    torch.testing.assert_close(
        torch.tensor(shared.scores(texts)), torch.tensor(own.scores(texts)), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("backbone", ["own", "shared"])
def test_padding_is_that_of_the_adapters_training(
    reward: Path, tiny_model: Path, tmp_path: Path, backbone: str
) -> None:
    """The base pads with the end token; the reward model's tokenizer has another padding token."""
    base = tmp_path / "base"
    shutil.copytree(tiny_model, base)
    settings = json.loads((base / "config.json").read_text())
    settings["pad_token_id"] = settings["eos_token_id"]
    (base / "config.json").write_text(json.dumps(settings))
    config = json.loads((reward / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(base)
    (reward / "adapter_config.json").write_text(json.dumps(config))
    model = AutoModelForCausalLM.from_pretrained(base)
    context = RewardContext(
        torch.device("cpu"), tmp_path, policy=get_peft_model(model, lora("CAUSAL_LM"))
    )
    section = ModelReward(kind="model", source=str(reward), backbone=backbone)
    scored = build(section, context).score(["what?"], ["that"], [PromptRow("1", "what?", None, {})])
    tokenizer = AutoTokenizer.from_pretrained(reward)
    ids = tokenizer("what?\n")["input_ids"]
    ids += [*tokenizer("that", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    trained = AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=1)
    trained = PeftModel.from_pretrained(trained, str(reward)).eval()
    trained.config.pad_token_id = tokenizer.pad_token_id
    with torch.no_grad():
        assert scored == pytest.approx([float(trained(torch.tensor([ids])).logits)], abs=1e-5)


def test_two_rewards_share_one_backbone(reward: Path, policy: PeftModel, tmp_path: Path) -> None:
    context = RewardContext(torch.device("cpu"), tmp_path, policy=policy)
    section = ModelReward(kind="model", source=str(reward))
    first, second = build(section, context), build(section, context)
    assert set(policy.peft_config) == {"default", "reward_1", "reward_2"}
    row = PromptRow("1", "what?", None, {})
    assert first.score(["what?"], ["that"], [row]) == second.score(["what?"], ["that"], [row])


def test_reasons_against_sharing(
    reward: Path, policy: PeftModel, tiny_model: Path, tmp_path: Path
) -> None:
    assert why_not_shareable(policy, str(reward)) is None
    assert "no adapter" in (why_not_shareable(policy.get_base_model(), str(reward)) or "")
    assert "full model" in (why_not_shareable(policy, str(tiny_model)) or "")
    other = tmp_path / "other"
    shutil.copytree(reward, other)
    noted = json.loads((other / "base.json").read_text())
    (other / "base.json").write_text(json.dumps({**noted, "digest": "0" * 64}))
    assert "was trained on" in (why_not_shareable(policy, str(other)) or "")
    config = json.loads((reward / "adapter_config.json").read_text())
    # An adapter from elsewhere, or on a base from the Hub, has no digest: names are compared.
    (other / "base.json").write_text(json.dumps({**noted, "digest": None}))
    assert why_not_shareable(policy, str(other)) is None
    named = {**config, "base_model_name_or_path": "owner/another"}
    (other / "adapter_config.json").write_text(json.dumps(named))
    assert "trained on owner/another" in (why_not_shareable(policy, str(other)) or "")
    (other / "base.json").unlink()
    assert "trained on owner/another" in (why_not_shareable(policy, str(other)) or "")
    for change, words in (
        ({"peft_type": "IA3"}, "of kind ia3"),
        ({"modules_to_save": ["score", "embed_tokens"]}, "embed_tokens in full"),
        ({"bias": "all"}, "biases"),
    ):
        (other / "adapter_config.json").write_text(json.dumps({**config, **change}))
        assert words in (why_not_shareable(policy, str(other)) or "")
    (other / "adapter_config.json").write_text(json.dumps({**config, "use_dora": True}))
    first: Any = next(policy.parameters())
    first.ds_id = 0  # ZeRO 3 marks sharded parameters so.
    assert "DoRA" in (why_not_shareable(policy, str(other)) or "")
    del first.ds_id
    first.requires_grad_(True)
    assert "backbone are trained too" in (why_not_shareable(policy, str(reward)) or "")


def test_sharing_that_is_not_possible_is_explained(tiny_model: Path, tmp_path: Path) -> None:
    section = ModelReward(kind="model", source=str(tiny_model), backbone="shared")
    with pytest.raises(ModelError, match=r"cannot share the backbone .* backbone: own"):
        build(section, RewardContext(torch.device("cpu"), tmp_path))

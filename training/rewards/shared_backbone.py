"""Reward model that is an additional adapter on the policy's backbone.

A reward model trained as an adapter differs from its base by the adapter and by a head of one row,
which maps the last hidden state to a score. If the policy is an adapter on the same base, only
these have to be held in memory.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel, set_peft_model_state_dict
from peft.utils import load_peft_weights
from torch import Tensor

from training.data.collators.answers import pad_sequences
from training.errors import ModelError
from training.models.adapter_switching import hidden_states, restore_requires_grad
from training.models.base_digest import BASE, check_base_digest
from training.models.merge import is_adapter

_HEADS = ("score", "classifier")
"""Names of the head in sequence classification models."""


class SharedBackboneScorer:
    """Scorer that runs the policy's backbone with the reward model's adapter active.

    The adapter is frozen, and it is not saved with the policy.

    Args:
        policy: Model in training, for which `why_not_shareable` returned None.
        source: Folder of the reward model's adapter.

    Raises:
        ModelError: The adapter does not match the policy, or the folder has no score head.
    """

    def __init__(self, policy: PeftModel, source: str):
        self._policy = policy
        self._device = policy.device
        config = PeftConfig.from_pretrained(source)
        # The base's configuration may pad with the end-of-text token, so that the caller sets it
        # from the reward model's tokenizer.
        self.pad_id: int | None = None
        weights = load_peft_weights(source, device="cpu")
        head = {name for name in weights if _is_head(name)}
        self._head = _head_of(weights, head, source).to(self._device)
        self._name = f"reward_{len(policy.peft_config)}"
        config.inference_mode, config.modules_to_save = True, None
        config.lora_dropout = 0.0
        policy.add_adapter(self._name, config)
        body = {name: tensor for name, tensor in weights.items() if name not in head}
        result = set_peft_model_state_dict(policy, body, adapter_name=self._name)
        missing = [name for name in result.missing_keys if f".{self._name}." in name]
        if result.unexpected_keys or missing:
            raise ModelError(
                f"the adapter in {source} does not fit the policy: "
                f"{(*result.unexpected_keys, *missing)[0]} does not match. Set backbone: own"
            )
        # PEFT freezes the other adapters when it adds one.
        restore_requires_grad(policy)

    @torch.no_grad()
    def scores(self, texts: Sequence[list[int]]) -> list[float]:
        """Return the score of each text, taken at its last token before the padding."""
        assert self.pad_id is not None
        ids = pad_sequences([(one, one) for one in texts], self.pad_id)["input_ids"].to(
            self._device
        )
        positions = torch.arange(ids.shape[1], device=self._device)
        last = ((ids != self.pad_id) * positions).argmax(dim=1)
        with self._autocast():
            states = hidden_states(self._policy, self._name, input_ids=ids)
        last_states = states[torch.arange(len(texts), device=self._device), last].float()
        scores: list[float] = (last_states @ self._head).tolist()
        return scores

    def _autocast(self) -> AbstractContextManager[Any]:
        """Return the autocast to bf16 on a GPU, the precision of a standalone reward model."""
        if self._device.type != "cuda":
            return nullcontext()
        return torch.autocast("cuda", dtype=torch.bfloat16)


def why_not_shareable(policy: Any, source: str) -> str | None:
    """Return why a reward model cannot share the policy's backbone; None if it can.

    Args:
        policy: Model in training.
        source: Folder or Hub id of the reward model.
    """
    if not isinstance(policy, PeftModel) or policy.active_peft_config.is_prompt_learning:
        return "the policy has no adapter that could be switched for another"
    if not is_adapter(source):
        return "it is a full model, not an adapter"
    config = json.loads((Path(source) / "adapter_config.json").read_text())
    kinds = config["peft_type"], str(policy.peft_type.value)
    if kinds != ("LORA", "LORA"):
        return f"its adapter is of kind {kinds[0].lower()}, and the policy's {kinds[1].lower()}"
    if others := [m for m in config.get("modules_to_save") or () if m not in _HEADS]:
        return f"it trains {', '.join(others)} in full"
    if config.get("bias", "none") != "none":
        return "it trains biases"
    if config.get("use_dora") and any(hasattr(p, "ds_id") for p in policy.parameters()):
        return "its adapter is DoRA, which needs unsharded weights, and sharding.zero is 3"
    if any(_is_backbone_weight(name) and p.requires_grad for name, p in policy.named_parameters()):
        return "weights of the policy's backbone are trained too"
    return _base_mismatch(policy, source, str(config.get("base_model_name_or_path")))


def _base_mismatch(policy: PeftModel, source: str, theirs: str) -> str | None:
    """Return how the bases differ, by digest or, if none was recorded, by name; None if equal."""
    mine = str(policy.active_peft_config.base_model_name_or_path)
    record = Path(source) / BASE
    if not record.exists() or json.loads(record.read_text())["digest"] is None:
        if Path(theirs).resolve() == Path(mine).resolve():
            return None
        return f"it was trained on {theirs}, and the policy is an adapter on {mine}"
    try:
        check_base_digest(Path(source), Path(mine))
    except ModelError as error:
        return str(error)
    return None


def _is_backbone_weight(name: str) -> bool:
    return "lora_" not in name and ".modules_to_save." not in name


def _is_head(name: str) -> bool:
    return any(f".{head}." in name for head in _HEADS)


def _head_of(weights: dict[str, Tensor], names: set[str], source: str) -> Tensor:
    """Return the weights of the score head, [width], in fp32.

    Raises:
        ModelError: The adapter has no head with a single score.
    """
    heads = [weights[name] for name in names if name.endswith("weight")]
    if len(names) != 1 or len(heads) != 1 or heads[0].shape[0] != 1:
        raise ModelError(
            f"{source} has no head with a single score: it holds "
            f"{', '.join(sorted(names)) or 'none'}. Name an adapter trained by method: "
            f"{{kind: reward}}"
        )
    return heads[0][0].float()

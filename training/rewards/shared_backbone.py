"""A reward model that is one more adapter on the backbone of the model that is trained.

A reward model trained as an adapter differs from its base by the adapter and a row of weights that
makes a number of the last hidden state. Where the policy stands on the same base, these are all
that has to be held.
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

from training.data.collators.pairs import padded
from training.errors import ModelError
from training.models.adapter_switching import hidden_states, restore_requires_grad
from training.models.base_digest import BASE, check_base
from training.models.merge import is_adapter

_HEADS = ("score", "classifier")
"""What the head of a model that scores is called."""


class SharedBackboneScorer:
    """Scores texts with the policy's backbone under the reward model's adapter.

    The adapter never learns and is never saved: it lies where it was trained.

    Args:
        policy: The model that is trained, of which `reason_apart` gave none.
        source: Folder of the reward model's adapter.

    Raises:
        ModelError: The folder does not hold what it should.
    """

    def __init__(self, policy: PeftModel, source: str):
        self._policy = policy
        self._device = policy.device
        config = PeftConfig.from_pretrained(source)
        # Its base's configuration may pad with what ends a text; its own tokenizer says.
        self.pad_id: int | None = None
        weights = load_peft_weights(source, device="cpu")
        head = {name for name in weights if _is_head(name)}
        self._head = _head_of(weights, head, source).to(self._device)
        self._name = f"reward_{len(policy.peft_config)}"
        config.inference_mode, config.modules_to_save = True, None
        config.lora_dropout = 0.0
        policy.add_adapter(self._name, config)
        body = {name: tensor for name, tensor in weights.items() if name not in head}
        missed = set_peft_model_state_dict(policy, body, adapter_name=self._name)
        lacking = [name for name in missed.missing_keys if f".{self._name}." in name]
        if missed.unexpected_keys or lacking:
            raise ModelError(
                f"the adapter in {source} does not fit the model that is trained: "
                f"{(*missed.unexpected_keys, *lacking)[0]}. Write backbone: own"
            )
        restore_requires_grad(policy)

    @torch.no_grad()
    def scores(self, texts: Sequence[list[int]]) -> list[float]:
        """Return the score of each text, taken at its last token that is no padding."""
        assert self.pad_id is not None
        ids = padded([(one, one) for one in texts], self.pad_id)["input_ids"].to(self._device)
        places = torch.arange(ids.shape[1], device=self._device)
        last = ((ids != self.pad_id) * places).argmax(dim=1)
        with self._computing():
            states = hidden_states(self._policy, self._name, input_ids=ids)
        taken = states[torch.arange(len(texts), device=self._device), last].float()
        found: list[float] = (taken @ self._head).tolist()
        return found

    def _computing(self) -> AbstractContextManager[Any]:
        """Return the precision of a reward model of its own: 16 bits on a GPU."""
        if self._device.type != "cuda":
            return nullcontext()
        return torch.autocast("cuda", dtype=torch.bfloat16)


def why_not_shareable(policy: Any, source: str) -> str | None:
    """Return why a reward model needs weights of its own; None where it can share the policy's."""
    if not isinstance(policy, PeftModel) or policy.active_peft_config.is_prompt_learning:
        return "the model that is trained has no adapter that could be put aside for another"
    if not is_adapter(source):
        return "it is a whole model"
    config = json.loads((Path(source) / "adapter_config.json").read_text())
    kinds = config["peft_type"], str(policy.peft_type.value)
    if kinds != ("LORA", "LORA"):
        return f"its adapter is of kind {kinds[0].lower()}, and the policy's {kinds[1].lower()}"
    if others := [m for m in config.get("modules_to_save") or () if m not in _HEADS]:
        return f"it has {', '.join(others)} of its own"
    if config.get("bias", "none") != "none":
        return "it has biases of its own"
    if config.get("use_dora") and any(hasattr(p, "ds_id") for p in policy.parameters()):
        return "its adapter is DoRA, which looks at whole weights, and sharding.zero is 3"
    if any(_is_backbones(name) and p.requires_grad for name, p in policy.named_parameters()):
        return "weights of the backbone learn too"
    return _other_base(policy, source, str(config.get("base_model_name_or_path")))


def _other_base(policy: PeftModel, source: str, theirs: str) -> str | None:
    """Return what differs; where no digest was noted, names must be the same."""
    mine = str(policy.active_peft_config.base_model_name_or_path)
    noted = Path(source) / BASE
    if not noted.exists() or json.loads(noted.read_text())["digest"] is None:
        if Path(theirs).resolve() == Path(mine).resolve():
            return None
        return f"it was trained on {theirs}, and the policy stands on {mine}"
    try:
        check_base(Path(source), Path(mine))
    except ModelError as error:
        return str(error)
    return None


def _is_backbones(name: str) -> bool:
    return "lora_" not in name and ".modules_to_save." not in name


def _is_head(name: str) -> bool:
    return any(f".{head}." in name for head in _HEADS)


def _head_of(weights: dict[str, Tensor], names: set[str], source: str) -> Tensor:
    """Return the weights that make a number of a hidden state, [width], in fp32."""
    found = [weights[name] for name in names if name.endswith("weight")]
    if len(names) != 1 or len(found) != 1 or found[0].shape[0] != 1:
        raise ModelError(
            f"{source} has no head that makes one score: it holds "
            f"{', '.join(sorted(names)) or 'none'}. Name an adapter that method: {{kind: reward}} "
            f"has trained"
        )
    return found[0][0].float()

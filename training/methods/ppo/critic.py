"""Critics: the expected reward of a partial answer, token by token.

`SeparateCritic` has a model of its own. `SharedBackboneCritic` is an additional adapter on the
policy's backbone: two small sets of weights on a single large one.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn

from training.models.adapter_switching import hidden_states, restore_requires_grad

CRITIC_ADAPTER = "critic"
"""Name of the critic's adapter."""


class ValueHead(nn.Module):
    """Linear head with one output per position, in fp32 under any autocast.

    Args:
        width: Width of the hidden states.
    """

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, hidden: Tensor) -> Tensor:
        """Return values, [answers, positions], of hidden states, [answers, positions, width]."""
        # In 16 bits, values of similar states would round to the same number, and so would their
        # differences, which the advantages are made of.
        with torch.autocast(hidden.device.type, enabled=False):
            return hidden.float() @ self.weight.float() + self.bias.float()


class SeparateCritic(nn.Module):
    """Critic with a backbone of its own.

    Args:
        model: Language model, whose output head is dropped, or reward model, whose head initializes
            the value head.
    """

    def __init__(self, model: Any):
        super().__init__()
        self.body = model.base_model
        self.head = ValueHead(_width(model))
        score = getattr(model, "score", None)
        if isinstance(score, nn.Linear) and score.weight.numel() == self.head.weight.numel():
            with torch.no_grad():
                self.head.weight.copy_(score.weight.flatten())

    def forward(self, input_ids: Tensor, position_ids: Tensor) -> Tensor:
        """Return the value after each position, [answers, positions]."""
        states = self.body(input_ids=input_ids, position_ids=position_ids, use_cache=False)
        return self.head(states.last_hidden_state)


class SharedBackboneCritic(nn.Module):
    """Critic that is an additional adapter on the policy's backbone.

    Args:
        policy: Policy with the adapter in training; the critic's gets the same configuration.
    """

    def __init__(self, policy: PeftModel):
        super().__init__()
        config = copy.deepcopy(policy.active_peft_config)
        # Modules that the adapter trains in full belong to the policy alone.
        config.modules_to_save, config.bias = None, "none"
        policy.add_adapter(CRITIC_ADAPTER, config)
        # In a list, so that it is not registered as a submodule: the policy lists its weights
        # already.
        self._policy = [policy]
        self.head = ValueHead(_width(policy))
        # PEFT freezes the other adapters when it adds one.
        restore_requires_grad(policy)

    def forward(self, input_ids: Tensor, position_ids: Tensor) -> Tensor:
        """Return the value after each position, [answers, positions]."""
        (policy,) = self._policy
        states = hidden_states(
            policy, CRITIC_ADAPTER, input_ids=input_ids, position_ids=position_ids
        )
        return self.head(states)


def _width(model: Any) -> int:
    return int(model.config.get_text_config().hidden_size)

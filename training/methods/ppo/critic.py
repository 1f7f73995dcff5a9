"""Critics: what an answer so far is expected to be worth, token by token.

`OwnBackbone` is a model of its own beside the policy. `SharedBackbone` is one more adapter on the
policy's: two small sets of weights, one large one.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn

from training.models.adapter_switching import hidden_states, restore_requires_grad

NAME = "critic"
"""Of the critic's adapter."""


class ValueHead(nn.Module):
    """One number for each position, in fp32 whatever the body computes in.

    Args:
        width: Of the body's hidden states.
    """

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, hidden: Tensor) -> Tensor:
        """Return [answers, positions] for hidden states [answers, positions, width]."""
        with torch.autocast(hidden.device.type, enabled=False):
            return hidden.float() @ self.weight.float() + self.bias.float()


class SeparateCritic(nn.Module):
    """A critic with a body of its own.

    Args:
        model: A language model, whose head is left behind, or a reward model, whose head is kept.
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
        """Return what is expected after each position, [answers, positions]."""
        states = self.body(input_ids=input_ids, position_ids=position_ids, use_cache=False)
        return self.head(states.last_hidden_state)


class SharedBackboneCritic(nn.Module):
    """A critic that is one more adapter on the policy's backbone.

    Args:
        policy: With the adapter that is trained; its like is added for the critic.
    """

    def __init__(self, policy: PeftModel):
        super().__init__()
        like = copy.deepcopy(policy.active_peft_config)
        # What an adapter trains in full beside itself belongs to the policy alone.
        like.modules_to_save, like.bias = None, "none"
        policy.add_adapter(NAME, like)
        # Held beside, not registered: the weights are the policy's and are listed there.
        self._policy = [policy]
        self.head = ValueHead(_width(policy))
        restore_requires_grad(policy)

    def forward(self, input_ids: Tensor, position_ids: Tensor) -> Tensor:
        """Return what is expected after each position, [answers, positions]."""
        (policy,) = self._policy
        states = hidden_states(policy, NAME, input_ids=input_ids, position_ids=position_ids)
        return self.head(states)


def _width(model: Any) -> int:
    return int(model.config.get_text_config().hidden_size)

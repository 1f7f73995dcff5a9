"""Policy and critic in one module, so that one engine shards, wraps and steps both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from torch import Tensor, nn

from training.methods.common.per_row_loss import disable_dropout
from training.methods.ppo.critic import CRITIC_ADAPTER, SeparateCritic, SharedBackboneCritic
from training.models.adapter_switching import use_adapter


class PolicyOutputs(NamedTuple):
    """Outputs of policy and critic for the actions of a batch, each [actions].

    Attributes:
        log_probs: Log-probabilities of the actions at the sampling temperature, in fp32.
        entropy: Entropy of the policy before each action; empty in training, which does not use
            it.
        values: Critic's value of the state before each action.
    """

    log_probs: Tensor
    entropy: Tensor
    values: Tensor


class ActorCritic(nn.Module):
    """Policy and critic: two models, or one model with two adapters.

    Args:
        policy: Causal language model, with its adapter if the job has one.
        critic: Values of partial answers.
        temperature: Sampling temperature.
    """

    def __init__(self, policy: Any, critic: nn.Module, temperature: float):
        super().__init__()
        self.policy = policy
        self.critic = critic
        self.temperature = temperature
        # With dropout, the policy in training would differ from the policy that sampled, and the
        # probability ratio of the first update would not be 1.
        disable_dropout(policy)
        disable_dropout(critic)

    @property
    def config(self) -> Any:
        """Configuration of the policy, which DeepSpeed reads from a model."""
        return self.policy.config

    def forward(self, input_ids: Tensor, position_ids: Tensor, labels: Tensor) -> PolicyOutputs:
        """Return the outputs of both models for the labelled tokens.

        Args:
            input_ids: Prompts and answers, padded on the right, [answers, sequence].
            position_ids: Positions, [answers, sequence].
            labels: The token if it is an action, else -100, [answers, sequence].
        """
        batch = {"input_ids": input_ids, "position_ids": position_ids, "labels": labels}
        outputs = action_log_probs(self.policy, batch, self.temperature, entropy=not self.training)
        # One search for the positions: on a GPU the host waits for its result.
        actions = outputs.label_mask.flatten().nonzero().squeeze(1)
        # The state before token t + 1 ends at position t.
        values = self.critic(input_ids, position_ids)[:, :-1].flatten()[actions]
        log_probs = outputs.log_probs.flatten()[actions]
        if self.training:
            return PolicyOutputs(log_probs, log_probs.new_empty(0), values)
        return PolicyOutputs(log_probs, outputs.entropy.flatten()[actions], values)

    def activation_checkpointing_enable(self, **settings: Any) -> None:
        """Enable activation checkpointing in the bodies of both models.

        Args:
            settings: Arguments of Transformers' method.
        """
        kwargs = {"use_reentrant": False, **(settings.pop("activation_checkpointing_kwargs") or {})}
        if isinstance(self.critic, SharedBackboneCritic):
            kwargs["context_fn"] = self._recompute_context
        bodies = [self.policy]
        if isinstance(self.critic, SeparateCritic):
            bodies.append(self.critic.body)
        for body in bodies:
            body.activation_checkpointing_enable(activation_checkpointing_kwargs=kwargs, **settings)

    def _recompute_context(
        self,
    ) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Return the contexts of a layer's forward pass and of its recomputation.

        Policy and critic share the layers, and by the time of the backward pass another adapter may
        be active: recomputation must use the one that was active in the forward pass.
        """
        return nullcontext(), use_adapter(self.policy, self.policy.active_adapter)


class ReferencePolicy:
    """Initial policy, from which the KL divergence is measured.

    Args:
        policy: Policy; if it has an adapter, the adapter must be new, so that disabling it gives
            the initial policy.
        temperature: Sampling temperature.
        frozen: Frozen copy of the initial policy; None if the policy has an adapter.
    """

    def __init__(self, policy: Any, temperature: float, frozen: Any):
        assert (frozen is None) == isinstance(policy, PeftModel)
        self._policy = policy
        self._temperature = temperature
        self._frozen = frozen

    def log_probs(self, **batch: Tensor) -> Tensor:
        """Return the log-probabilities of the labelled tokens, [actions].

        Args:
            batch: `input_ids`, `position_ids` and `labels`, as for `ActorCritic`.
        """
        with self._model() as model:
            outputs = action_log_probs(model, batch, self._temperature)
        log_probs: Tensor = outputs.log_probs[outputs.label_mask]
        return log_probs

    @contextmanager
    def _model(self) -> Iterator[Any]:
        if self._frozen is not None:
            yield self._frozen
            return
        with self._policy.disable_adapter():
            yield self._policy


def action_log_probs(
    model: Any, batch: dict[str, Tensor], temperature: float, *, entropy: bool = False
) -> Any:
    """Return the outputs of `training.models.fused_log_probs` for a batch.

    Args:
        model: Causal language model.
        batch: `input_ids`, `position_ids` and `labels`, [answers, sequence].
        temperature: Divisor of the logits.
        entropy: True to compute entropies too.
    """
    return model(**batch, next_token_log_probs=True, temperature=temperature, entropy=entropy)


def is_critic_parameter(name: str) -> bool:
    """Return True if a parameter of an `ActorCritic` belongs to the critic."""
    return name.startswith("critic.") or f".{CRITIC_ADAPTER}." in name


def trainable_parameters(model: nn.Module) -> dict[str, torch.nn.Parameter]:
    """Return the trainable parameters by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}

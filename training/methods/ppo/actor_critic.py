"""The policy and its critic as one module, so that one engine shards, wraps and steps both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from torch import Tensor, nn

from training.methods.common.per_row_loss import switch_off_dropout
from training.methods.ppo import critic as critics
from training.models.adapter_switching import use_adapter


class PolicyOutputs(NamedTuple):
    """What policy and critic make of answers; each is [actions], in the order of the labels.

    Attributes:
        log_probs: Of the tokens that were said, at the sampling temperature, in fp32.
        entropy: Of the policy before each of them; empty while it learns, which does not ask.
        values: What the critic expected before each of them.
    """

    log_probs: Tensor
    entropy: Tensor
    values: Tensor


class ActorCritic(nn.Module):
    """Two models, or one under two adapters.

    Args:
        policy: A language model, with its adapter if any.
        critic: Values answers so far.
        temperature: At which answers are sampled.
    """

    def __init__(self, policy: Any, critic: nn.Module, temperature: float):
        super().__init__()
        self.policy = policy
        self.critic = critic
        self.temperature = temperature
        # Dropout would make the policy that learns another than the one that spoke.
        switch_off_dropout(policy)
        switch_off_dropout(critic)

    @property
    def config(self) -> Any:
        """The policy's configuration, which engines look for on a model."""
        return self.policy.config

    def forward(self, input_ids: Tensor, position_ids: Tensor, labels: Tensor) -> PolicyOutputs:
        """Return what both make of the labelled tokens.

        Args:
            input_ids: Prompts and answers, padded on the right, [answers, length].
            position_ids: [answers, length].
            labels: The token where it is an action, else -100, [answers, length].
        """
        batch = {"input_ids": input_ids, "position_ids": position_ids, "labels": labels}
        said = log_probs(self.policy, batch, self.temperature, entropy=not self.training)
        values = self.critic(input_ids, position_ids)[:, :-1][labels[:, 1:] != -100]
        found = said.log_probs[said.label_mask]
        entropy = found.new_empty(0) if self.training else said.entropy[said.label_mask]
        return PolicyOutputs(found, entropy, values)

    def activation_checkpointing_enable(self, **settings: Any) -> None:
        """Compute activations twice, each time under the adapter of the first."""
        given = {"use_reentrant": False, **(settings.pop("activation_checkpointing_kwargs") or {})}
        if isinstance(self.critic, critics.SharedBackboneCritic):
            given["context_fn"] = self._as_now
        bodies = [self.policy]
        if isinstance(self.critic, critics.SeparateCritic):
            bodies.append(self.critic.body)
        for body in bodies:
            body.activation_checkpointing_enable(activation_checkpointing_kwargs=given, **settings)

    def _as_now(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Return what to do around a layer now, and around it when it is computed again."""
        return nullcontext(), use_adapter(self.policy, self.policy.active_adapter)


class ReferencePolicy:
    """What the policy started from, and is kept near to.

    Args:
        policy: A policy whose adapter was added just now: without it, it is the reference.
        temperature: At which answers are sampled.
        frozen: A copy of what it started from, where it has no adapter.
    """

    def __init__(self, policy: Any, temperature: float, frozen: Any):
        assert (frozen is None) == isinstance(policy, PeftModel)
        self._policy = policy
        self._temperature = temperature
        self._frozen = frozen

    def log_probs(self, **batch: Tensor) -> Tensor:
        """Return its log-probabilities of the labelled tokens, [actions].

        Args:
            batch: `input_ids`, `position_ids` and `labels`, as for `ActorCritic`.
        """
        with self._model() as model:
            said = log_probs(model, batch, self._temperature)
        found: Tensor = said.log_probs[said.label_mask]
        return found

    @contextmanager
    def _model(self) -> Iterator[Any]:
        if self._frozen is not None:
            yield self._frozen
            return
        with self._policy.disable_adapter():
            yield self._policy


def log_probs(
    model: Any, batch: dict[str, Tensor], temperature: float, *, entropy: bool = False
) -> Any:
    """Return what a language model makes of labelled tokens; see `training.models.fused_log_probs`."""
    return model(**batch, next_token_log_probs=True, temperature=temperature, entropy=entropy)


def is_critics(name: str) -> bool:
    """Whether a parameter of an `ActorCritic`, by its name, is the critic's."""
    return name.startswith("critic.") or f".{critics.NAME}." in name


def trainable(model: nn.Module) -> dict[str, torch.nn.Parameter]:
    """Return what learns, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}

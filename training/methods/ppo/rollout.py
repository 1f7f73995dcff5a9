"""Data of one rollout: answers, their rewards, and what the optimizer steps train on.

Every process holds the complete rollout. What is computed over all answers (whitening, means, the
assignment of answers to optimizer steps) therefore needs no communication and is the same on all
processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from training.methods.ppo.advantages import gae, token_rewards, whiten
from training.methods.ppo.kl_controller import k1
from training.methods.ppo.losses import explained_variance
from training.rewards.base import Prompt

IGNORE = -100
"""Label of a token that is not an action."""
_CHECKPOINT_NAMES = {
    "old_log_probs": "old",
    "reference_log_probs": "reference",
    "learn_mask": "learned",
}
"""Names of tensors in checkpoints that differ from the attribute; earlier checkpoints have them."""


@dataclass(frozen=True)
class Transition:
    """One answer with its reward, as the process that sampled it computed them.

    Attributes:
        prompt: Prompt as its row has it.
        prompt_ids: Token ids of the prompt.
        answer_ids: Token ids of the answer, including its end token.
        ended: True if the answer ended with an end token, False if it was truncated.
        text: Decoded answer.
        score: Weighted sum of the rewards, less the penalty for truncation.
        rewards: Each reward by name, without its weight.
        old_log_probs: Log-probabilities under the sampling policy, [tokens].
        reference_log_probs: Log-probabilities under the reference, [tokens].
        values: Critic's value before each token, [tokens].
        entropy: Entropy of the policy before each token, [tokens].
    """

    prompt: Prompt
    prompt_ids: list[int]
    answer_ids: list[int]
    ended: bool
    text: str
    score: float
    rewards: dict[str, float]
    old_log_probs: Tensor
    reference_log_probs: Tensor
    values: Tensor
    entropy: Tensor


@dataclass
class RolloutBatch:
    """All answers of a rollout; [answers, tokens] is padded on the right.

    Attributes:
        prompt_ids: Token ids, [answers, tokens of the longest prompt].
        prompt_lengths: Tokens of each prompt, [answers].
        answer_ids: Token ids, [answers, tokens].
        answer_lengths: Tokens of each answer, [answers]. Actions follow from the lengths, never
            from token ids: the padding token may be an end token.
        ended: True for answers that ended with an end token, [answers].
        scores: Reward of each answer, [answers].
        old_log_probs: Log-probabilities under the sampling policy, [answers, tokens].
        reference_log_probs: Log-probabilities under the reference, [answers, tokens].
        values: Values of the critic, [answers, tokens].
        advantages: Advantages, whitened over the complete rollout, [answers, tokens].
        returns: Targets of the critic, [answers, tokens].
        learn_mask: 1 at the actions that are trained on, [answers, tokens].
    """

    prompt_ids: Tensor
    prompt_lengths: Tensor
    answer_ids: Tensor
    answer_lengths: Tensor
    ended: Tensor
    scores: Tensor
    old_log_probs: Tensor
    reference_log_probs: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor
    learn_mask: Tensor

    @classmethod
    def from_transitions(
        cls,
        transitions: Sequence[Transition],
        *,
        kl_coefficient: float,
        gamma: float,
        lam: float,
        drop_truncated: bool,
    ) -> RolloutBatch:
        """Return the rollout of these answers with advantages and returns.

        Args:
            transitions: Answers of all processes, in the order of the prompts.
            kl_coefficient: Penalty per nat from the reference.
            gamma: Discount per token.
            lam: λ of the advantages.
            drop_truncated: True to exclude truncated answers from training.
        """
        answer_lengths = torch.tensor([len(t.answer_ids) for t in transitions])
        ended = torch.tensor([t.ended for t in transitions])
        scores = torch.tensor([t.score for t in transitions], dtype=torch.float32)
        old_log_probs = _pad([t.old_log_probs for t in transitions])
        reference_log_probs = _pad([t.reference_log_probs for t in transitions])
        values = _pad([t.values for t in transitions])
        action_mask = _length_mask(answer_lengths, old_log_probs.shape[1])
        kl = k1(old_log_probs, reference_log_probs)
        rewards = token_rewards(scores, kl, action_mask, kl_coefficient)
        advantages, returns = gae(rewards, values, action_mask, gamma=gamma, lam=lam)
        learn_mask = action_mask * ended[:, None] if drop_truncated else action_mask
        # The returns are computed from the advantages before whitening: the critic predicts
        # rewards, whose scale whitening would remove.
        whitened = whiten(advantages, learn_mask) if learn_mask.any() else advantages
        return cls(
            prompt_ids=_pad([torch.tensor(t.prompt_ids) for t in transitions]),
            prompt_lengths=torch.tensor([len(t.prompt_ids) for t in transitions]),
            answer_ids=_pad([torch.tensor(t.answer_ids) for t in transitions]),
            answer_lengths=answer_lengths,
            ended=ended,
            scores=scores,
            old_log_probs=old_log_probs,
            reference_log_probs=reference_log_probs,
            values=values,
            advantages=whitened,
            returns=returns,
            learn_mask=learn_mask,
        )

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def action_mask(self) -> Tensor:
        """1 at tokens of an answer, [answers, tokens]."""
        return _length_mask(self.answer_lengths, self.old_log_probs.shape[1])

    @property
    def explained_variance(self) -> float:
        """Share of the returns' variance that the critic predicted."""
        return explained_variance(self.values, self.returns, self.action_mask)

    @property
    def sequence_lengths(self) -> Tensor:
        """Tokens of prompt and answer together, [answers]."""
        return self.prompt_lengths + self.answer_lengths

    def count_learned(self, indices: Sequence[int]) -> int:
        """Return the number of actions of these answers that are trained on."""
        return int(self.learn_mask[list(indices)].sum())

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """Return some of the answers as a batch for the model.

        Args:
            indices: Answers of the batch.

        Returns:
            `input_ids`, `position_ids` and `labels`, [answers, sequence]: prompt and answer, padded
            on the right, with labels at the actions that are trained on. `old_log_probs`, `values`,
            `advantages` and `returns`, [actions], in the order of the labels.
        """
        prompts = [self._ids(self.prompt_ids, self.prompt_lengths, i) for i in indices]
        answers = [self._ids(self.answer_ids, self.answer_lengths, i) for i in indices]
        labelled = [bool(self.learn_mask[i].any()) for i in indices]
        mask = self.learn_mask[list(indices)].bool()
        names = ("old_log_probs", "values", "advantages", "returns")
        return {
            **layout(prompts, answers, labelled),
            **{name: getattr(self, name)[list(indices)][mask] for name in names},
        }

    @staticmethod
    def _ids(padded: Tensor, lengths: Tensor, index: int) -> list[int]:
        return [int(token) for token in padded[index, : int(lengths[index])]]

    def state_dict(self) -> dict[str, Tensor]:
        """Return all tensors by their names in a checkpoint."""
        return {
            _CHECKPOINT_NAMES.get(field.name, field.name): getattr(self, field.name).contiguous()
            for field in fields(self)
        }

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> RolloutBatch:
        """Return the rollout that `state_dict` was called on."""
        return cls(
            **{
                field.name: state[_CHECKPOINT_NAMES.get(field.name, field.name)]
                for field in fields(cls)
            }
        )


def layout(
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    labelled: Sequence[bool] | None = None,
) -> dict[str, Tensor]:
    """Return prompts with their answers as a batch for the model, padded on the right.

    Args:
        prompts: Token ids of each prompt.
        answers: Token ids of each answer.
        labelled: True for the answers that get labels; None for all.

    Returns:
        `input_ids`, `position_ids` and `labels`, [answers, sequence].
    """
    length = max(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))
    input_ids = torch.zeros((len(prompts), length), dtype=torch.long)
    labels = torch.full((len(prompts), length), IGNORE, dtype=torch.long)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        start, stop = len(prompt), len(prompt) + len(answer)
        input_ids[row, :stop] = torch.tensor([*prompt, *answer])
        if labelled is None or labelled[row]:
            labels[row, start:stop] = input_ids[row, start:stop]
    position_ids = torch.arange(length).repeat(len(prompts), 1)
    return {"input_ids": input_ids, "position_ids": position_ids, "labels": labels}


def _length_mask(lengths: Tensor, width: int) -> Tensor:
    return (torch.arange(width) < lengths[:, None]).float()


def _pad(rows: Sequence[Tensor]) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)

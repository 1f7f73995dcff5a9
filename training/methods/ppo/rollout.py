"""One rollout: answers to a batch of prompts, what they were worth, and what is learned from them.

Every process holds the whole of it, so that what is computed over all answers (whitening, means,
which of them an optimizer step takes) needs no communication and comes out the same everywhere.
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
"""A label that is not an action."""


@dataclass(frozen=True)
class Transition:
    """One answer, as the process that sampled it knows it.

    Attributes:
        prompt: What was asked, as its row has it.
        prompt_ids: The same in tokens.
        answer_ids: What was said, the token that ended it included.
        ended: Whether it ended by itself.
        text: What was said, decoded.
        score: What the reward gave it.
        parts: What each part of the reward gave it.
        old: Log-probability of each of its tokens when it was said, [tokens].
        reference: The same under the reference, [tokens].
        values: What the critic expected before each of its tokens, [tokens].
        entropy: Of the policy before each of its tokens, [tokens].
    """

    prompt: Prompt
    prompt_ids: list[int]
    answer_ids: list[int]
    ended: bool
    text: str
    score: float
    parts: dict[str, float]
    old: Tensor
    reference: Tensor
    values: Tensor
    entropy: Tensor


@dataclass
class RolloutBatch:
    """All answers of a rollout, side by side; [answers, tokens] is padded on the right.

    Attributes:
        prompt_ids: [answers, tokens of the longest prompt].
        prompt_lengths: [answers].
        answer_ids: [answers, tokens].
        answer_lengths: [answers]; what is an action follows from it, never from an id.
        ended: Whether each ended by itself, [answers].
        scores: [answers].
        old: Log-probabilities when it was said, [answers, tokens].
        reference: Under the reference, [answers, tokens].
        values: Of the critic, [answers, tokens].
        advantages: Whitened over the whole rollout, [answers, tokens].
        returns: What the critic learns, [answers, tokens].
        learned: 1 where an action is learned from, [answers, tokens].
    """

    prompt_ids: Tensor
    prompt_lengths: Tensor
    answer_ids: Tensor
    answer_lengths: Tensor
    ended: Tensor
    scores: Tensor
    old: Tensor
    reference: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor
    learned: Tensor

    @classmethod
    def of(
        cls,
        experiences: Sequence[Transition],
        *,
        coefficient: float,
        gamma: float,
        lam: float,
        drop_truncated: bool,
    ) -> RolloutBatch:
        """Return the rollout of these answers, advantages taken.

        Args:
            experiences: Of all processes, in the order of their places.
            coefficient: Reward lost for each nat from the reference.
            gamma: Discount of a token.
            lam: λ of the advantages.
            drop_truncated: Whether nothing is learned from an answer that was cut off.
        """
        answer_lengths = torch.tensor([len(e.answer_ids) for e in experiences])
        ended = torch.tensor([e.ended for e in experiences])
        scores = torch.tensor([e.score for e in experiences], dtype=torch.float32)
        old = _padded([e.old for e in experiences])
        reference = _padded([e.reference for e in experiences])
        values = _padded([e.values for e in experiences])
        acted = (torch.arange(old.shape[1]) < answer_lengths[:, None]).float()
        rewards = token_rewards(scores, k1(old, reference), acted, coefficient)
        advantages, returns = gae(rewards, values, acted, gamma=gamma, lam=lam)
        learned = acted * ended[:, None] if drop_truncated else acted
        return cls(
            prompt_ids=_padded([torch.tensor(e.prompt_ids) for e in experiences]),
            prompt_lengths=torch.tensor([len(e.prompt_ids) for e in experiences]),
            answer_ids=_padded([torch.tensor(e.answer_ids) for e in experiences]),
            answer_lengths=answer_lengths,
            ended=ended,
            scores=scores,
            old=old,
            reference=reference,
            values=values,
            advantages=whiten(advantages, learned) if learned.any() else advantages,
            returns=returns,
            learned=learned,
        )

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def acted(self) -> Tensor:
        """1 where an answer has a token, [answers, tokens]."""
        return (torch.arange(self.old.shape[1]) < self.answer_lengths[:, None]).float()

    @property
    def explained_variance(self) -> float:
        """The share of the returns' variance that the critic foresaw."""
        return explained_variance(self.values, self.returns, self.acted)

    def tokens_learned(self, places: Sequence[int]) -> int:
        """Return how many actions of these answers are learned from."""
        return int(self.learned[list(places)].sum())

    def batch(self, places: Sequence[int]) -> dict[str, Tensor]:
        """Return some of the answers as a batch for the model.

        `input_ids`, `position_ids` and `labels` are [places, length]: prompt and answer, padded on
        the right, labels where an action is learned. The rest is [actions], in the order in which
        the labels stand: `old`, `values`, `advantages`, `returns`.
        """
        prompts = [self._ids(self.prompt_ids, self.prompt_lengths, at) for at in places]
        answers = [self._ids(self.answer_ids, self.answer_lengths, at) for at in places]
        learned = [bool(self.learned[at].any()) for at in places]
        where = self.learned[list(places)].bool()
        names = ("old", "values", "advantages", "returns")
        return {
            **layout(prompts, answers, learned),
            **{name: getattr(self, name)[list(places)][where] for name in names},
        }

    @staticmethod
    def _ids(padded: Tensor, lengths: Tensor, place: int) -> list[int]:
        return [int(token) for token in padded[place, : int(lengths[place])]]

    def state_dict(self) -> dict[str, Tensor]:
        """Return all of it by name, to be kept in a checkpoint."""
        return {field.name: getattr(self, field.name).contiguous() for field in fields(self)}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> RolloutBatch:
        """Return the rollout that `state_dict` was taken of."""
        return cls(**{field.name: state[field.name] for field in fields(cls)})


def layout(
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    learned: Sequence[bool] | None = None,
) -> dict[str, Tensor]:
    """Return answers behind their prompts as a batch for the model, padded on the right.

    Args:
        prompts: Token ids.
        answers: Token ids.
        learned: Whether each is labelled; all of them where left out.

    Returns:
        `input_ids`, `position_ids` and `labels`, [answers, length].
    """
    length = max(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))
    input_ids = torch.zeros((len(prompts), length), dtype=torch.long)
    labels = torch.full((len(prompts), length), IGNORE, dtype=torch.long)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        start, stop = len(prompt), len(prompt) + len(answer)
        input_ids[row, :stop] = torch.tensor([*prompt, *answer])
        if learned is None or learned[row]:
            labels[row, start:stop] = input_ids[row, start:stop]
    position_ids = torch.arange(length).repeat(len(prompts), 1)
    return {"input_ids": input_ids, "position_ids": position_ids, "labels": labels}


def _padded(rows: Sequence[Tensor]) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)

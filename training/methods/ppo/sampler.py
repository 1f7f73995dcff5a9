"""Puts the policy to work on prompts: answers, scores, and what each model makes of them.

This is one process's part; nothing here talks to the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from training.config.ppo import Ppo
from training.data.schema.rows import PromptRow
from training.methods.ppo.actor_critic import ActorCritic, PolicyOutputs, ReferencePolicy
from training.methods.ppo.rollout import Transition, layout
from training.models.generate import Generation, sample
from training.rewards.aggregate import CompositeReward


@dataclass
class RolloutSampler:
    """Answers prompts with the policy as it is.

    Attributes:
        method: The job's section.
        model: Policy and critic.
        reference: What the policy started from.
        rewards: What answers are worth.
        tokenizer: Writes answers out.
        end_ids: Tokens that end one.
        micro_batch_size: Rows at once where nothing is learned.
        speaking: Entered while answers are sampled: makes sharded weights whole.
        computing: Entered around a forward pass: the precision of training.
        sampling_seconds: What the last answers took to sample.
    """

    method: Ppo
    model: ActorCritic
    reference: ReferencePolicy
    rewards: CompositeReward
    tokenizer: PreTrainedTokenizerBase
    end_ids: list[int]
    micro_batch_size: int
    speaking: Callable[[], AbstractContextManager[Any]]
    computing: Callable[[], AbstractContextManager[Any]]
    sampling_seconds: float = 0.0

    def experiences(
        self, prompts: Sequence[list[int]], rows: Sequence[PromptRow], chance: Tensor
    ) -> list[Transition]:
        """Return an answer to each prompt, scored.

        Args:
            prompts: Token ids.
            rows: Where they come from.
            chance: Decides the answers' tokens, [prompts, tokens of the longest answer].

        Raises:
            GuardError: A score is not a finite number.
        """
        was_training = self.model.training
        self.model.eval()
        with torch.no_grad():
            answers = self._answers(prompts, chance)
            seen = self._look(prompts, [answer.ids for answer in answers])
        self.model.train(was_training)
        texts = [self.tokenizer.decode(a.ids, skip_special_tokens=True) for a in answers]
        scores = self.rewards.score([row.prompt for row in rows], texts, rows)
        return [
            Transition(
                prompt=rows[place].prompt,
                prompt_ids=list(prompt),
                answer_ids=answer.ids,
                ended=answer.ended,
                text=text,
                score=score - (0.0 if answer.ended else self.method.rollout.truncated_penalty),
                parts={name: values[place] for name, values in scores.each.items()},
                old=policy.log_probs,
                entropy=policy.entropy,
                values=policy.values,
                reference=reference,
            )
            for place, (prompt, answer, text, score, (policy, reference)) in enumerate(
                zip(prompts, answers, texts, scores.total, seen, strict=True)
            )
        ]

    def _answers(self, prompts: Sequence[list[int]], chance: Tensor) -> list[Generation]:
        size = self.method.rollout.sampling_batch_size or 8 * self.micro_batch_size
        answers: list[Generation] = []
        began = time.monotonic()
        with self.speaking():
            for first in range(0, len(prompts), size):
                with self.computing():
                    answers += sample(
                        self.model.policy,
                        prompts[first : first + size],
                        chance[first : first + size],
                        temperature=self.method.rollout.temperature,
                        end_ids=self.end_ids,
                        pad_id=self.end_ids[0],
                    )
        self.sampling_seconds = time.monotonic() - began
        return answers

    def _look(
        self, prompts: Sequence[list[int]], answers: Sequence[list[int]]
    ) -> list[tuple[PolicyOutputs, Tensor]]:
        """Return what policy, critic and reference make of each answer, on the CPU.

        Computed as in training, rather than kept from sampling: there, a cache and the padding on
        the left change the last bits. Answers of like length are computed together.
        """
        device = next(self.model.parameters()).device
        lengths = [len(p) + len(a) for p, a in zip(prompts, answers, strict=True)]
        order = sorted(range(len(prompts)), key=lambda place: (-lengths[place], place))
        found: dict[int, tuple[PolicyOutputs, Tensor]] = {}
        for first in range(0, len(order), self.micro_batch_size):
            part = order[first : first + self.micro_batch_size]
            laid_out = layout([prompts[i] for i in part], [answers[i] for i in part])
            batch = {k: v.to(device) for k, v in laid_out.items()}
            with self.computing():
                seen = self.model(**batch)
                reference = self.reference.log_probs(**batch)
            sizes = [len(answers[place]) for place in part]
            columns = [column.float().cpu().split(sizes) for column in (*seen, reference)]
            for place, log_probs, entropy, values, other in zip(part, *columns, strict=True):
                found[place] = PolicyOutputs(log_probs, entropy, values), other
        return [found[place] for place in range(len(prompts))]

"""Sampler of one process: answers prompts, scores the answers, and evaluates all models on them.

Nothing here communicates with other processes, except that ZeRO 3 gathers weights.
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

_DEFAULT_BATCH_FACTOR = 8
"""Prompts sampled at once, in micro-batches: sampling stores no activations."""


@dataclass
class RolloutSampler:
    """Sampler of answers from the current policy.

    Attributes:
        method: Section of the job.
        model: Policy and critic.
        reference: Initial policy.
        rewards: Rewards of the answers.
        tokenizer: Tokenizer that decodes answers.
        end_ids: Tokens that end an answer.
        micro_batch_size: Answers per forward pass.
        gathered_weights: Context in which sharded weights are gathered for sampling.
        autocast: Context of a forward pass, with the precision of training.
        sampling_seconds: Duration of the latest sampling.
    """

    method: Ppo
    model: ActorCritic
    reference: ReferencePolicy
    rewards: CompositeReward
    tokenizer: PreTrainedTokenizerBase
    end_ids: list[int]
    micro_batch_size: int
    gathered_weights: Callable[[], AbstractContextManager[Any]]
    autocast: Callable[[], AbstractContextManager[Any]]
    sampling_seconds: float = 0.0

    def sample_transitions(
        self, prompts: Sequence[list[int]], rows: Sequence[PromptRow], draws: Tensor
    ) -> list[Transition]:
        """Return a scored answer to each prompt.

        Args:
            prompts: Token ids of each prompt.
            rows: Row of each prompt.
            draws: Uniform random numbers that determine the sampled tokens, [prompts, new tokens].

        Raises:
            GuardError: A reward is NaN or infinite.
        """
        was_training = self.model.training
        self.model.eval()
        with torch.no_grad():
            answers = self._sample(prompts, draws)
            outputs = self._evaluate(prompts, [answer.ids for answer in answers])
        self.model.train(was_training)
        texts = [self.tokenizer.decode(a.ids, skip_special_tokens=True) for a in answers]
        scores = self.rewards.score([row.prompt for row in rows], texts, rows)
        penalty = self.method.rollout.truncated_penalty
        return [
            Transition(
                prompt=rows[index].prompt,
                prompt_ids=list(prompt),
                answer_ids=answer.ids,
                ended=answer.ended,
                text=text,
                score=score - (0.0 if answer.ended else penalty),
                rewards={name: values[index] for name, values in scores.each.items()},
                old_log_probs=policy.log_probs,
                entropy=policy.entropy,
                values=policy.values,
                reference_log_probs=reference_log_probs,
            )
            for index, (prompt, answer, text, score, (policy, reference_log_probs)) in enumerate(
                zip(prompts, answers, texts, scores.total, outputs, strict=True)
            )
        ]

    def _sample(self, prompts: Sequence[list[int]], draws: Tensor) -> list[Generation]:
        size = (
            self.method.rollout.sampling_batch_size or _DEFAULT_BATCH_FACTOR * self.micro_batch_size
        )
        answers: list[Generation] = []
        began = time.monotonic()
        with self.gathered_weights():
            for first in range(0, len(prompts), size):
                with self.autocast():
                    answers += sample(
                        self.model.policy,
                        prompts[first : first + size],
                        draws[first : first + size],
                        temperature=self.method.rollout.temperature,
                        end_ids=self.end_ids,
                        pad_id=self.end_ids[0],
                    )
        self.sampling_seconds = time.monotonic() - began
        return answers

    def _evaluate(
        self, prompts: Sequence[list[int]], answers: Sequence[list[int]]
    ) -> list[tuple[PolicyOutputs, Tensor]]:
        """Return the outputs of policy, critic and reference for each answer, on the CPU.

        Log-probabilities are computed again, by the same forward pass as in training. Those from
        sampling differ in the last bits, because of the KV cache and of padding on the left, and
        the probability ratio of the first update would not be 1.
        """
        device = next(self.model.parameters()).device
        lengths = [len(p) + len(a) for p, a in zip(prompts, answers, strict=True)]
        # Batches of similar lengths need little padding.
        order = sorted(range(len(prompts)), key=lambda index: (-lengths[index], index))
        outputs: dict[int, tuple[PolicyOutputs, Tensor]] = {}
        for first in range(0, len(order), self.micro_batch_size):
            indices = order[first : first + self.micro_batch_size]
            padded = layout([prompts[i] for i in indices], [answers[i] for i in indices])
            batch = {name: tensor.to(device) for name, tensor in padded.items()}
            with self.autocast():
                policy = self.model(**batch)
                reference = self.reference.log_probs(**batch)
            sizes = [len(answers[index]) for index in indices]
            columns = [column.float().cpu().split(sizes) for column in (*policy, reference)]
            for index, log_probs, entropy, values, other in zip(indices, *columns, strict=True):
                outputs[index] = PolicyOutputs(log_probs, entropy, values), other
        return [outputs[index] for index in range(len(prompts))]

"""Reward that is the score of a reward model.

Answers are passed as text and formatted as in the reward model's own training, so that its
tokenizer and chat template may differ from those of the policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import AutoTokenizer

from training.config.rewards import ModelReward
from training.data.schema.rows import PromptRow, UnpairedRow
from training.data.tokenization.row_tokenizer import RowTokenizer
from training.errors import ModelError
from training.models.locate import explain_missing
from training.rewards.base import Prompt, Reward
from training.rewards.context import RewardContext
from training.rewards.model_scorer import Scorer, StandaloneScorer
from training.rewards.shared_backbone import SharedBackboneScorer, why_not_shareable


class _ModelReward:
    def __init__(self, section: ModelReward, context: RewardContext):
        self._section = section
        self._scorer = _scorer(section, context)
        try:
            tokenizer = AutoTokenizer.from_pretrained(section.source)
        except Exception as error:
            raise ModelError(
                explain_missing("tokenizer of the reward model", section.source, error)
            ) from error
        if self._scorer.pad_id is None:
            pad_id = tokenizer.pad_token_id
            self._scorer.pad_id = tokenizer.eos_token_id if pad_id is None else pad_id
        self._tokenize_rows = RowTokenizer.from_tokenizer(
            tokenizer,
            chat_template=section.chat_template,
            want="unpaired",
            max_length=section.max_length,
        )

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], rows: Sequence[PromptRow]
    ) -> list[float]:
        ids = [self._ids(p, c, r.id) for p, c, r in zip(prompts, completions, rows, strict=True)]
        # Batches of similar lengths need little padding; scores return to the input order.
        order = sorted(range(len(ids)), key=lambda index: -len(ids[index]))
        scores = [0.0] * len(ids)
        size = self._section.batch_size
        for first in range(0, len(order), size):
            batch = order[first : first + size]
            values = self._scorer.scores([ids[index] for index in batch])
            for index, value in zip(batch, values, strict=True):
                scores[index] = value
        return scores

    def _ids(self, prompt: Prompt, answer: str, row_id: str) -> list[int]:
        completion: Any = answer
        if not isinstance(prompt, str):
            completion = [{"role": "assistant", "content": answer}]
        (outcome,) = self._tokenize_rows([UnpairedRow(row_id, prompt, completion, True)])
        if isinstance(outcome, list):
            return [int(token) for token in outcome[0].input_ids]
        # The row is invalid because the answer is empty or the prompt takes all of max_length;
        # the prompt alone is scored.
        return self._tokenize_rows.prompt_ids(prompt)[: self._section.max_length]


def _scorer(section: ModelReward, context: RewardContext) -> Scorer:
    if section.backbone != "own":
        obstacle = why_not_shareable(context.policy, section.source)
        quantized = getattr(context.policy, "is_quantized", False)
        # A standalone model would not be quantized, so its scores differ: `auto` does not share.
        if obstacle is None and (section.backbone == "shared" or not quantized):
            return SharedBackboneScorer(context.policy, section.source)
        if section.backbone == "shared":
            raise ModelError(
                f"the reward model {section.source} cannot share the backbone of the policy: "
                f"{obstacle}. Train both as LoRA on the same base, or write backbone: own"
            )
    return StandaloneScorer(section.source, context.device)


def build(section: ModelReward, context: RewardContext) -> Reward:
    """Return the reward.

    Raises:
        ModelError: The model does not exist or is not a reward model.
        DeviceError: It does not fit into memory together with the policy.
    """
    return _ModelReward(section, context)

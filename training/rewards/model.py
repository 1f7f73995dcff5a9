"""A reward model's score of an answer, read as it was trained to read.

It may have another tokenizer than the model that is trained: answers come to it as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import AutoTokenizer

from training.config.rewards import ModelReward
from training.data import templates
from training.data.schema.rows import PromptRow, UnpairedRow
from training.data.tokenization.encoder import Encoder
from training.data.tokenization.row_tokenizer import RowTokenizer
from training.errors import ModelError
from training.models.locate import explain_missing
from training.rewards.base import Prompt, Reward, RewardContext
from training.rewards.model_scorer import Scorer, StandaloneScorer
from training.rewards.shared_backbone import SharedBackboneScorer, why_not_shareable


class _ModelReward:
    def __init__(self, section: ModelReward, place: RewardContext):
        self._section = section
        self._scorer = _scorer(section, place)
        try:
            tokenizer = AutoTokenizer.from_pretrained(section.source)
        except Exception as error:
            raise ModelError(
                explain_missing("tokenizer of the reward model", section.source, error)
            ) from error
        if self._scorer.pad_id is None:
            pad_id = tokenizer.pad_token_id
            self._scorer.pad_id = tokenizer.eos_token_id if pad_id is None else pad_id
        encoder = Encoder(tokenizer)
        template = templates.resolve(section.chat_template, tokenizer, encoder)
        self._tokenize = RowTokenizer(
            encoder, template, "unpaired", "assistant", section.max_length
        )

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], rows: Sequence[PromptRow]
    ) -> list[float]:
        ids = [self._ids(p, c, r.id) for p, c, r in zip(prompts, completions, rows, strict=True)]
        # Those of like length together, and back into their order.
        order = sorted(range(len(ids)), key=lambda index: -len(ids[index]))
        scores = [0.0] * len(ids)
        size = self._section.batch_size
        for first in range(0, len(order), size):
            here = order[first : first + size]
            for index, value in zip(here, self._scorer.scores([ids[i] for i in here]), strict=True):
                scores[index] = value
        return scores

    def _ids(self, prompt: Prompt, answer: str, name: str) -> list[int]:
        said: Any = answer
        if not isinstance(prompt, str):
            said = [{"role": "assistant", "content": answer}]
        (outcome,) = self._tokenize([UnpairedRow(name, prompt, said, True)])
        if isinstance(outcome, list):
            return [int(token) for token in outcome[0].input_ids]
        # An answer that says nothing, or a prompt that fills everything: the prompt is scored.
        return self._tokenize.prompt_ids(prompt)[: self._section.max_length]


def _scorer(section: ModelReward, place: RewardContext) -> Scorer:
    if section.backbone != "own":
        apart = why_not_shareable(place.policy, section.source)
        quantized = getattr(place.policy, "is_quantized", False)
        if apart is None and (section.backbone == "shared" or not quantized):
            return SharedBackboneScorer(place.policy, section.source)
        if section.backbone == "shared":
            raise ModelError(
                f"the reward model {section.source} cannot share the backbone of what is trained: "
                f"{apart}. Train both as LoRA on the same base, or write backbone: own"
            )
    return StandaloneScorer(section.source, place.device)


def build(section: ModelReward, place: RewardContext) -> Reward:
    """Return the reward.

    Raises:
        ModelError: It is not there, or no reward model.
        DeviceError: It does not fit beside the model that is trained.
    """
    return _ModelReward(section, place)

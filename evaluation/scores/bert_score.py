"""BERTScore (Zhang et al. 2020, arXiv:1904.09675), without baseline rescaling and idf weights.

As in the package bert-score, special tokens can be the best match of a token, but are not averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from evaluation.config.scores import BertScore
from evaluation.metric import mean_metric
from evaluation.scores.base import AnsweredItem, ScoreContext, ScoreOutcome, metric_name
from training.errors import ModelError
from training.models.locate import explain_missing


class BertScoreScore:
    """Best cosine similarity of tokens between an answer and its targets.

    Args:
        section: Section of the score.
        context: Gives the device.

    Raises:
        ModelError: The model cannot be read.
    """

    def __init__(self, section: BertScore, context: ScoreContext):
        self._section = section
        self._device = context.device
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(section.model)
            model = AutoModel.from_pretrained(section.model, dtype=torch.float32)
        except Exception as error:
            raise ModelError(explain_missing("model", section.model, error)) from error
        self._model: Any = model.to(context.device).eval().requires_grad_(False)

    def score(self, items: Sequence[AnsweredItem]) -> ScoreOutcome:
        """Return `bert_score_precision`, `bert_score_recall` and `bert_score_f1`."""
        texts = sorted({t for item in items for t in (*item.answers, *item.targets)}, key=len)
        states = self._states(texts)
        values = np.array([self._best(item, states) for item in items]).reshape(-1, 3)
        names = ("bert_score_precision", "bert_score_recall", "bert_score_f1")
        return ScoreOutcome(
            tuple(
                mean_metric(metric_name(self._section, name), values[:, column])
                for column, name in enumerate(names)
            )
        )

    def _states(self, texts: list[str]) -> dict[str, TokenStates]:
        """Return the normalized hidden states of each text's tokens."""
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token or self._tokenizer.unk_token
        states: dict[str, TokenStates] = {}
        for start in range(0, len(texts), self._section.batch_size):
            batch = texts[start : start + self._section.batch_size]
            tokens = self._tokenizer(
                batch,
                padding=True,
                truncation=True,
                max_length=self._model.config.max_position_embeddings,
                return_special_tokens_mask=True,
                return_tensors="pt",
            )
            special = tokens.pop("special_tokens_mask").bool()
            present = tokens["attention_mask"].bool()
            with torch.inference_mode():
                output = self._model(**tokens.to(self._device), output_hidden_states=True)
            layer = -1 if self._section.layer is None else self._section.layer
            hidden = torch.nn.functional.normalize(output.hidden_states[layer].float(), dim=-1)
            for text, rows, mask, skip in zip(batch, hidden.cpu(), present, special, strict=True):
                states[text] = TokenStates(rows[mask], ~skip[mask])
        return states

    @staticmethod
    def _best(item: AnsweredItem, states: dict[str, TokenStates]) -> list[float]:
        """Return the values of an item: the best F1 over targets, averaged over answers."""
        rows = [
            max((similarity(states[a], states[t]) for t in item.targets), key=lambda v: v[2])
            for a in item.answers
        ]
        return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


@dataclass(frozen=True)
class TokenStates:
    """Tokens of a text.

    Attributes:
        hidden: Normalized hidden states, of shape (tokens, hidden).
        counted: True for tokens that are not special, of shape (tokens,).
    """

    hidden: torch.Tensor
    counted: torch.Tensor


def similarity(answer: TokenStates, target: TokenStates) -> tuple[float, float, float]:
    """Return precision, recall and F1 of two texts; 0 if either has no token that counts."""
    if not answer.counted.any() or not target.counted.any():
        return 0.0, 0.0, 0.0
    cosines = answer.hidden @ target.hidden.T
    precision = float(cosines.max(dim=1).values[answer.counted].mean())
    recall = float(cosines.max(dim=0).values[target.counted].mean())
    total = precision + recall
    return precision, recall, 2 * precision * recall / total if total else 0.0

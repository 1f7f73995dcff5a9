"""Log-likelihood of rows under a causal language model, rendered as training renders them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from evaluation.models.load import default_device, model_folder
from evaluation.models.windows import text_windows
from training.config.method_base import RowKind
from training.config.model import Model
from training.data.schema.rows import Row
from training.data.tokenization.row_tokenizer import RowTokenizer
from training.data.tokenization.token_rows import IGNORE, TokenRow
from training.models.inference import load_for_inference

_BATCH_TOKENS = 2048
_TEXT_CHARS = 2000
"""Characters of a text that are scored, so that a sample has many texts."""
_MOST_OF_CONTEXT = 0.9
"""Quantile of the rows that must fit the context after the examples."""


@dataclass(frozen=True)
class LabelledTokens:
    """Tokens of a sequence, and those of them that are scored (`IGNORE` elsewhere)."""

    ids: list[int]
    labels: list[int]


@dataclass(frozen=True)
class RowScore:
    """Negative log-likelihood of a row's learned tokens, and their number."""

    nats: float
    tokens: int


class RowScorer:
    """Scorer of rows by a loaded model.

    Args:
        model: Causal language model, maybe with an adapter.
        tokenizer: Its tokenizer.
        rows: Row tokenizer, as training uses it.
    """

    def __init__(self, model: Any, tokenizer: Any, rows: RowTokenizer):
        self.model, self.tokenizer, self.rows = model, tokenizer, rows

    @classmethod
    def load(
        cls,
        model: Model,
        context: int,
        chat_template: str | None,
        *,
        want: RowKind = "dialogue",
    ) -> RowScorer:
        """Return the scorer of a model's base, on this machine's accelerator if it has one.

        Args:
            model: The model.
            context: Longest row, in tokens.
            chat_template: Chat template of conversations.
            want: Kind of the rows.

        Raises:
            ModelError: The model cannot be read.
        """
        loaded, tokenizer = load_for_inference(
            model.source, model_folder(model.source), default_device()
        )
        rows = RowTokenizer.from_tokenizer(
            tokenizer, chat_template=chat_template, want=want, max_length=context
        )
        return cls(loaded, tokenizer, rows)

    def with_length(self, length: int) -> RowScorer:
        """Return the same scorer for rows of another maximum length."""
        return RowScorer(self.model, self.tokenizer, replace(self.rows, max_length=length))

    def encode(self, rows: Sequence[Row]) -> list[LabelledTokens]:
        """Return the tokens of the rows that have something to learn within the context."""
        outcomes = self.rows(rows)
        parts = [part for outcome in outcomes if isinstance(outcome, list) for part in outcome]
        return [_labelled(part) for part in parts]

    def score_texts(self, texts: Sequence[str], budget: int) -> tuple[list[RowScore], int]:
        """Return the scores of texts, each cut to its beginning, and the bytes that they have.

        Args:
            texts: The texts.
            budget: Tokens to compute.
        """
        sequences, size, tokens = [], 0, 0
        for text in texts:
            if tokens >= budget:
                break
            beginning = text[:_TEXT_CHARS]
            size += len(beginning.encode())
            for window in text_windows(self.tokenizer, beginning, self.rows.max_length):
                ids = [*window.context, *window.continuation]
                labels = [IGNORE] * len(window.context) + window.continuation
                sequences.append(LabelledTokens(ids, labels))
                tokens += len(window.continuation)
        return score_sequences(self.model, sequences), size

    def score(
        self,
        rows: Sequence[LabelledTokens],
        budget: int,
        examples: Sequence[Sequence[int]] = (),
    ) -> list[RowScore]:
        """Return the scores of the first rows, as many as a number of tokens allows.

        Args:
            rows: The rows.
            budget: Tokens to compute; at least one row is.
            examples: Tokens of examples that precede each row.
        """
        before = [token for example in examples for token in example]
        sequences: list[LabelledTokens] = []
        tokens = 0
        for row in rows:
            if tokens >= budget:
                break
            sequence = self._after(before, row) if before else row
            if len(sequence.ids) > self.rows.max_length and before:
                break
            sequences.append(sequence)
            tokens += len(sequence.ids)
        return score_sequences(self.model, sequences)

    def examples(
        self, candidates: Sequence[LabelledTokens], asked: Sequence[LabelledTokens]
    ) -> list[list[int]]:
        """Return as many examples as fit the context before most rows, as they stand in a prompt.

        Args:
            candidates: Rows that may be examples.
            asked: Rows that follow them.
        """
        if not asked:
            return []
        lengths = sorted(len(row.ids) for row in asked)
        room = self.rows.max_length - lengths[int(_MOST_OF_CONTEXT * (len(lengths) - 1))]
        chosen: list[list[int]] = []
        for row in candidates:
            example = self._as_example(row.ids)
            room -= len(example)
            if room < 1:
                break
            chosen.append(example)
        return chosen

    def _as_example(self, ids: Sequence[int]) -> list[int]:
        """Return the tokens of a row without those that begin and end a text."""
        encoder = self.rows.encoder
        if self.rows.template is not None:
            return [token for token in ids if token != encoder.bos_id]
        inner = [token for token in ids if token not in (encoder.bos_id, encoder.eos_id)]
        separator = self.tokenizer("\n\n", add_special_tokens=False)["input_ids"]
        return [*inner, *separator]

    def _after(self, before: Sequence[int], row: LabelledTokens) -> LabelledTokens:
        bos = self.rows.encoder.bos_id
        head = row.ids[:1] if bos is not None and row.ids[0] == bos else []
        rest = len(head)
        return LabelledTokens(
            [*head, *before, *row.ids[rest:]],
            [IGNORE] * (rest + len(before)) + row.labels[rest:],
        )


def _labelled(row: TokenRow) -> LabelledTokens:
    return LabelledTokens(row.input_ids.tolist(), row.labels.tolist())


def score_sequences(model: Any, sequences: Sequence[LabelledTokens]) -> list[RowScore]:
    """Return the score of each sequence, in their order.

    Args:
        model: Causal language model. Virtual tokens of an adapter may precede the input.
        sequences: The sequences.
    """
    scores: dict[int, RowScore] = {}
    for numbers in _batches(sequences):
        rows = [sequences[number] for number in numbers]
        width = max(len(row.ids) for row in rows)
        device = model.device
        ids = torch.tensor([row.ids + [0] * (width - len(row.ids)) for row in rows], device=device)
        labels = torch.tensor(
            [row.labels + [IGNORE] * (width - len(row.labels)) for row in rows], device=device
        )
        # No mask is needed: padding is on the right, and attention is causal.
        with torch.inference_mode():
            logits = model(input_ids=ids, use_cache=False).logits[:, -width:]
        losses = torch.nn.functional.cross_entropy(
            logits[:, :-1].float().transpose(1, 2),
            labels[:, 1:],
            ignore_index=IGNORE,
            reduction="none",
        ).sum(-1)
        counts = (labels[:, 1:] != IGNORE).sum(-1)
        for number, nats, count in zip(numbers, losses.tolist(), counts.tolist(), strict=True):
            scores[number] = RowScore(nats, count)
    return [scores[number] for number in range(len(sequences))]


def _batches(sequences: Sequence[LabelledTokens]) -> Iterator[list[int]]:
    """Yield the numbers of sequences of about the same length, of a bounded number of tokens."""
    batch: list[int] = []
    for number in sorted(range(len(sequences)), key=lambda index: len(sequences[index].ids)):
        if batch and len(sequences[number].ids) * (len(batch) + 1) > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch

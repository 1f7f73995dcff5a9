"""Base of the collators of judged answers: padding, labels and rows that only complete a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from training.config.static_shapes import StaticShapes
from training.data.tokenization.token_rows import IGNORE

if TYPE_CHECKING:
    import torch


class AnswerCollator:
    """Collator of rows that hold one or more answers, each padded to a sequence of its own.

    Padding rows are left out of a batch; a batch of padding rows only keeps one of them, so that
    it has a shape.

    Args:
        pad_id: Id of padding tokens. Padding is masked by length, so it may equal EOS.
        shapes: Lengths that batches are padded to; None to pad to the longest answer of each.

    Attributes:
        answers_per_row: Sequences of a row.
    """

    answers_per_row = 1

    def __init__(self, pad_id: int, shapes: StaticShapes | None = None):
        self._pad_id = pad_id
        self._shapes = shapes

    def padding_example(self) -> dict[str, Any]:
        """Return a row without tokens, which adds nothing to the loss."""
        lengths = [0] * self.answers_per_row
        return {"input_ids": [], "labels": [], "seq_lengths": lengths, "ids": [], "about": ""}

    def max_length_example(self, length: int) -> dict[str, Any]:
        """Return a row whose sequences have `length` tokens each."""
        tokens = [1] * self.answers_per_row * length
        lengths = [length] * self.answers_per_row
        return {"input_ids": tokens, "labels": tokens, "seq_lengths": lengths, "ids": [0]}


def real_rows(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows of a batch that are not padding rows."""
    return [row for row in rows if row["ids"]]


def pad_sequences(
    sequences: Sequence[tuple[list[int], list[int]]],
    pad_id: int,
    shapes: StaticShapes | None = None,
) -> dict[str, torch.Tensor]:
    """Return sequences of ids and labels as a batch, padded on the right.

    Args:
        sequences: Ids and labels of each sequence.
        pad_id: Id of padding tokens.
        shapes: Lengths that the batch is padded to; None to pad to the longest sequence.

    Returns:
        `input_ids`, `attention_mask`, `completion_mask` (1 at supervised tokens) and `labels`, each
        of shape [sequences, length].
    """
    import torch

    length = max(2, *(len(ids) for ids, _ in sequences))
    length = shapes.pad_to(length) if shapes else length
    shape = (len(sequences), length)
    input_ids = torch.full(shape, pad_id, dtype=torch.long)
    labels = torch.full(shape, IGNORE, dtype=torch.long)
    attention_mask = torch.zeros(shape, dtype=torch.long)
    for index, (ids, targets) in enumerate(sequences):
        input_ids[index, : len(ids)] = torch.as_tensor(ids, dtype=torch.long)
        labels[index, : len(ids)] = torch.as_tensor(targets, dtype=torch.long)
        attention_mask[index, : len(ids)] = 1
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "completion_mask": (labels != IGNORE).long(),
        "labels": labels,
    }

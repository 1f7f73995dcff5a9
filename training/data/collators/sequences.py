"""Rows to a batch: padded on the right, masked by length, documents kept apart by their positions.

There is no attention mask. Positions restart at each packed document, which attention without a
mask (and without a cache) reads as a boundary. A row of one document needs no boundary: attention
is causal, so nothing looks at the padding behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from training.data.tokenization.row_tokenizer import IGNORE

if TYPE_CHECKING:
    import torch


class SequenceCollator:
    """Makes a batch of rows.

    Args:
        pad_id: Id written behind a row. Nothing is ever recognised by it: it may equal EOS.
        packed: Whether rows hold several documents; they are then padded to `max_length`, so that
            every batch has one shape.
        max_length: Tokens of a packed row.
        pad_to_multiple_of: Round the batch's length up to a multiple of this.
    """

    def __init__(
        self,
        pad_id: int,
        *,
        packed: bool = False,
        max_length: int | None = None,
        pad_to_multiple_of: int = 1,
    ):
        self._pad_id = pad_id
        self._packed = packed
        self._length = max_length if packed else None
        self._multiple = pad_to_multiple_of

    def padding_example(self) -> dict[str, Any]:
        """Return a row of padding alone, to complete a batch; it teaches nothing."""
        return {"input_ids": [], "labels": [], "seq_lengths": [], "ids": []}

    def max_length_example(self, length: int) -> dict[str, Any]:
        """Return a row of `length` tokens, as long as rows get."""
        tokens = [1] * length
        return {"input_ids": tokens, "labels": tokens, "seq_lengths": [length], "ids": []}

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return `input_ids`, `labels` and `position_ids`, each of shape [batch, length].

        `row_index` ([batch]) is there when the rows carry their `row_index`.
        """
        import torch

        length = self._length or max(1, *(len(row["input_ids"]) for row in rows))
        length += -length % self._multiple
        shape = (len(rows), length)
        input_ids = torch.full(shape, self._pad_id, dtype=torch.long)
        labels = torch.full(shape, IGNORE, dtype=torch.long)
        position_ids = torch.arange(length).repeat(len(rows), 1)
        for index, row in enumerate(rows):
            size = len(row["input_ids"])
            input_ids[index, :size] = torch.as_tensor(row["input_ids"], dtype=torch.long)
            labels[index, :size] = torch.as_tensor(row["labels"], dtype=torch.long)
            if self._packed:
                start = 0
                for step in [*row["seq_lengths"], length - size]:
                    labels[index, start : start + 1] = IGNORE
                    position_ids[index, start : start + step] = torch.arange(step)
                    start += step
        batch = {"input_ids": input_ids, "labels": labels, "position_ids": position_ids}
        if all("row_index" in row for row in rows):
            batch["row_index"] = torch.tensor([row["row_index"] for row in rows])
        return batch

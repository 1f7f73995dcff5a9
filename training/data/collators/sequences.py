"""Collator of texts and conversations: right-padded rows, with positions that separate documents.

Batches carry no attention mask. Positions restart at each packed document, and Transformers infers
document boundaries from such positions if there is neither a mask nor a cache. A row of a single
document needs no boundary: attention is causal, so no token attends to the padding after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from training.config.static_shapes import StaticShapes
from training.data.tokenization.token_rows import IGNORE

if TYPE_CHECKING:
    import torch


class SequenceCollator:
    """Collator of rows that are trained on as language-model sequences.

    Args:
        pad_id: Id of padding tokens. Padding is masked by length, so it may equal EOS.
        packed: Whether rows hold several documents. They are padded to `max_length`, so that every
            batch has the same shape.
        max_length: Tokens of a packed row.
        shapes: Lengths that batches are padded to; None to pad to the longest row of each.
    """

    def __init__(
        self,
        pad_id: int,
        *,
        packed: bool = False,
        max_length: int | None = None,
        shapes: StaticShapes | None = None,
    ):
        self._pad_id = pad_id
        self._packed = packed
        self._length = max_length if packed else None
        self._shapes = shapes

    def padding_example(self) -> dict[str, Any]:
        """Return a row without tokens, which adds nothing to the loss."""
        return {"input_ids": [], "labels": [], "seq_lengths": [], "ids": []}

    def max_length_example(self, length: int) -> dict[str, Any]:
        """Return a row of `length` tokens."""
        tokens = [1] * length
        return {"input_ids": tokens, "labels": tokens, "seq_lengths": [length], "ids": []}

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return `input_ids`, `labels` and `position_ids`, each of shape [batch, length].

        `row_index` ([batch]) is added if the rows carry it.
        """
        import torch

        length = self._length or max(1, *(len(row["input_ids"]) for row in rows))
        length = self._shapes.pad_to(length) if self._shapes else length
        shape = (len(rows), length)
        input_ids = torch.full(shape, self._pad_id, dtype=torch.long)
        labels = torch.full(shape, IGNORE, dtype=torch.long)
        position_ids = torch.arange(length).repeat(len(rows), 1)
        for index, row in enumerate(rows):
            size = len(row["input_ids"])
            input_ids[index, :size] = torch.as_tensor(row["input_ids"], dtype=torch.long)
            labels[index, :size] = torch.as_tensor(row["labels"], dtype=torch.long)
            if self._packed:
                # The padding at the end counts as one more document.
                start = 0
                for step in [*row["seq_lengths"], length - size]:
                    # The last token of one document must not predict the first of the next.
                    labels[index, start : start + 1] = IGNORE
                    position_ids[index, start : start + step] = torch.arange(step)
                    start += step
        batch = {"input_ids": input_ids, "labels": labels, "position_ids": position_ids}
        if all("row_index" in row for row in rows):
            batch["row_index"] = torch.tensor([row["row_index"] for row in rows])
        return batch

"""Answers known to be good or bad to a batch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from training.data.collators.pairs import padded


class UnpairedCollator:
    """Makes a batch of answers with their labels.

    Rows that only fill a batch up are left out of it; a batch of nothing else holds one of them.

    Args:
        pad_id: Id written behind a sequence; what is padding is decided by length.
    """

    def __init__(self, pad_id: int):
        self._pad_id = pad_id

    def padding_example(self) -> dict[str, Any]:
        """Return a row without a token; it teaches nothing."""
        return {"input_ids": [], "labels": [], "seq_lengths": [0], "ids": [], "about": ""}

    def max_length_example(self, length: int) -> dict[str, Any]:
        """Return a row of `length` tokens, as long as rows get."""
        tokens = [1] * length
        return {"input_ids": tokens, "labels": tokens, "seq_lengths": [length], "ids": [0]}

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return `input_ids`, `attention_mask`, `completion_mask` and `labels` ([B, length]).

        Also `label` (bool, [B]): whether the answer is a good one; and `num_rows`, the rows that
        are no filling (an int).
        """
        import torch

        real = [row for row in rows if row["ids"]]
        used = real or rows[:1]
        batch: dict[str, Any] = padded([(r["input_ids"], r["labels"]) for r in used], self._pad_id)
        good = [json.loads(row.get("about") or "{}").get("label", True) for row in used]
        batch["label"] = torch.tensor(good, dtype=torch.bool)
        batch["num_rows"] = len(real)
        return batch

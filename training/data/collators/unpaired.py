"""Collator of unpaired answers: each answer with a label, good or bad."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from training.data.collators.answers import AnswerCollator, pad_sequences, real_rows


class UnpairedCollator(AnswerCollator):
    """Collator of unpaired answers."""

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return `input_ids`, `attention_mask`, `completion_mask` and `labels`, each [B, length].

        Also `label` (bool, [B]), True for a good answer, and `num_rows` (an int), the number of
        rows that are not padding rows.
        """
        import torch

        real = real_rows(rows)
        used = real or rows[:1]
        sequences = [(row["input_ids"], row["labels"]) for row in used]
        batch: dict[str, Any] = pad_sequences(sequences, self._pad_id, self._shapes)
        good = [json.loads(row.get("about") or "{}").get("label", True) for row in used]
        batch["label"] = torch.tensor(good, dtype=torch.bool)
        batch["num_rows"] = len(real)
        return batch

"""Collator of preference pairs: every chosen sequence first, then every rejected one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from training.data.collators.answers import AnswerCollator, pad_sequences, real_rows


class PairCollator(AnswerCollator):
    """Collator of preference pairs."""

    answers_per_row = 2

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return a batch of B pairs as 2B sequences.

        It holds `input_ids`, `attention_mask`, `completion_mask` and `labels` (each [2B, length]),
        `num_rows` (pairs without padding rows, an int), and, if the rows have them, `margin` [B],
        `weight` [B] (of a pair of a ranking) and reference log-probabilities `ref_chosen_logps`
        and `ref_rejected_logps` [B].
        """
        import torch

        real = real_rows(rows)
        used = real or rows[:1]
        # Chosen and rejected halves, as TRL expects: it splits the batch in the middle.
        sequences = [_sequence(row, number) for number in (0, 1) for row in used]
        batch: dict[str, Any] = pad_sequences(sequences, self._pad_id, self._shapes)
        batch["num_rows"] = len(real)
        about = [json.loads(row.get("about") or "{}") for row in used]
        if any("margin" in values for values in about):
            batch["margin"] = torch.tensor([float(values.get("margin", 0.0)) for values in about])
        if real and any("weight" in values for values in about):
            batch["weight"] = torch.tensor([float(values.get("weight", 1.0)) for values in about])
        for name in ("ref_chosen_logps", "ref_rejected_logps"):
            if name in real[0] if real else False:
                batch[name] = torch.tensor([row[name] for row in used], dtype=torch.float32)
        return batch


def _sequence(row: Mapping[str, Any], number: int) -> tuple[list[int], list[int]]:
    split = row["seq_lengths"][0]
    part = slice(None, split) if number == 0 else slice(split, None)
    return row["input_ids"][part], row["labels"][part]

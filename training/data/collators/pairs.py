"""Pairs of answers to a batch: every chosen sequence first, then every rejected one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from training.data.tokenization.row_tokenizer import IGNORE

if TYPE_CHECKING:
    import torch


class PairCollator:
    """Makes a batch of pairs.

    Rows that only fill a batch up are left out of it; a batch of nothing else holds one of them.

    Args:
        pad_id: Id written behind a sequence; what is padding is decided by length.
    """

    def __init__(self, pad_id: int):
        self._pad_id = pad_id

    def padding_example(self) -> dict[str, Any]:
        """Return a pair without a token; it teaches nothing."""
        return {"input_ids": [], "labels": [], "seq_lengths": [0, 0], "ids": [], "about": ""}

    def max_length_example(self, length: int) -> dict[str, Any]:
        """Return a pair of two sequences of `length` tokens."""
        tokens = [1] * 2 * length
        lengths = [length, length]
        return {"input_ids": tokens, "labels": tokens, "seq_lengths": lengths, "ids": [0]}

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return a batch of B pairs as 2B sequences.

        It holds `input_ids`, `attention_mask`, `completion_mask` and `labels` (each [2B, length]),
        `num_rows` (pairs that are no filling, an int), and, where the rows have them, `margin` [B]
        and reference log-probabilities `ref_chosen_logps` and `ref_rejected_logps` [B].
        """
        import torch

        real = [row for row in rows if row["ids"]]
        used = real or rows[:1]
        sides = [side for number in (0, 1) for side in (_side(row, number) for row in used)]
        batch: dict[str, Any] = padded(sides, self._pad_id)
        batch["num_rows"] = len(real)
        about = [json.loads(row.get("about") or "{}") for row in used]
        if any("margin" in note for note in about):
            batch["margin"] = torch.tensor([float(note.get("margin", 0.0)) for note in about])
        for name in ("ref_chosen_logps", "ref_rejected_logps"):
            if name in real[0] if real else False:
                batch[name] = torch.tensor([row[name] for row in used], dtype=torch.float32)
        return batch


def padded(sides: Sequence[tuple[list[int], list[int]]], pad_id: int) -> dict[str, torch.Tensor]:
    """Return sequences of ids and labels as a batch, padded on the right.

    Returns:
        `input_ids`, `attention_mask`, `completion_mask` (where something is learned) and `labels`,
        each of shape [sequences, length].
    """
    import torch

    length = max(2, *(len(ids) for ids, _ in sides))
    shape = (len(sides), length)
    input_ids = torch.full(shape, pad_id, dtype=torch.long)
    labels = torch.full(shape, IGNORE, dtype=torch.long)
    attention_mask = torch.zeros(shape, dtype=torch.long)
    for index, (ids, learned) in enumerate(sides):
        input_ids[index, : len(ids)] = torch.as_tensor(ids, dtype=torch.long)
        labels[index, : len(ids)] = torch.as_tensor(learned, dtype=torch.long)
        attention_mask[index, : len(ids)] = 1
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "completion_mask": (labels != IGNORE).long(),
        "labels": labels,
    }


def _side(row: Mapping[str, Any], number: int) -> tuple[list[int], list[int]]:
    split = row["seq_lengths"][0]
    part = slice(None, split) if number == 0 else slice(split, None)
    return row["input_ids"][part], row["labels"][part]

"""Data set and collate function of the DataLoader: rows by index, padding rows, ids and counts."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import Dataset

from training.trainer.context import CollateFunction, TableDataset
from training.trainer.sample_order import PADDING_INDEX


class RowDataset(Dataset[dict[str, Any]]):
    """Table of rows as a torch data set that also serves the padding row."""

    def __init__(self, table: TableDataset, padding_example: dict[str, Any]):
        self.table = table
        self.padding_example = padding_example

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.padding_example if index == PADDING_INDEX else self.table[index]


class CollatedBatch:
    """Collate function that adds the row ids and the number of tokens without padding."""

    def __init__(self, collate: CollateFunction):
        self.collate = collate

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the batch with `row_ids` and `num_tokens`.

        Rows without an attention mask get `sequence_lengths`, the tokens of each without padding.
        """
        batch: dict[str, Any] = dict(self.collate(rows))
        batch["row_ids"] = [name for row in rows for name in row["ids"]]
        batch["num_tokens"] = sum(len(row["input_ids"]) for row in rows)
        if "input_ids" in batch and "attention_mask" not in batch:
            batch["sequence_lengths"] = torch.tensor([len(row["input_ids"]) for row in rows])
        return batch


def to_device(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Return a batch whose tensors are on `device`.

    The host does not wait for copies from pinned memory, as it does in Transformers' own transfer:
    with gradient accumulation it prepares a micro-batch while the device works on the one before.
    """
    return {
        name: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
        for name, value in batch.items()
    }

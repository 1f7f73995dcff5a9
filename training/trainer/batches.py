"""Micro-batches as a DataLoader takes them: rows by index, fillers, ids and token counts."""

from __future__ import annotations

from typing import Any

from torch.utils.data import Dataset

from training.trainer.context import CollateFunction, TableDataset
from training.trainer.sample_order import PADDING_INDEX


class RowDataset(Dataset[dict[str, Any]]):
    """The table as a torch data set that also knows the filler row."""

    def __init__(self, table: TableDataset, filler: dict[str, Any]):
        self.table = table
        self.padding_example = filler

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.padding_example if index == PADDING_INDEX else self.table[index]


class CollatedBatch:
    """Collates, and carries the ids and the count of real tokens along."""

    def __init__(self, collate: CollateFunction):
        self.collate = collate

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the batch with `row_ids` and `num_tokens`."""
        batch: dict[str, Any] = dict(self.collate(rows))
        batch["row_ids"] = [name for row in rows for name in row["ids"]]
        batch["num_tokens"] = sum(len(row["input_ids"]) for row in rows)
        return batch

"""Micro-batches as a DataLoader takes them: rows by index, fillers, ids and token counts."""

from __future__ import annotations

from typing import Any

from torch.utils.data import Dataset

from training.engine.order import FILLER
from training.engine.setup import Collate, Table


class Rows(Dataset[dict[str, Any]]):
    """The table as a torch data set that also knows the filler row."""

    def __init__(self, table: Table, filler: dict[str, Any]):
        self.table = table
        self.filler = filler

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.filler if index == FILLER else self.table[index]


class Collated:
    """Collates, and carries the ids and the count of real tokens along."""

    def __init__(self, collate: Collate):
        self.collate = collate

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the batch with `row_ids` and `num_tokens`."""
        batch: dict[str, Any] = dict(self.collate(rows))
        batch["row_ids"] = [name for row in rows for name in row["ids"]]
        batch["num_tokens"] = sum(len(row["input_ids"]) for row in rows)
        return batch

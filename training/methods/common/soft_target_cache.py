"""A teacher's likeliest tokens at every supervised place, written to the cache once.

The key holds everything they depend on: the teacher's weights, the rows, K, the temperature and the
precision. Runs that share it share the entry, and none but the first loads the teacher.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training.config import Job
from training.config.methods import Distill
from training.data.storage.cache import Cache, cache_key
from training.data.storage.table import RowTable
from training.methods.common.divergence import TopKTargets, likeliest
from training.models.safetensors_io import source_digest
from training.trainer.context import CollateFunction

COLUMN = "soft_targets"
_IDS, _LOG_PROBS, _ENDS = "ids.npy", "log_probs.npy", "ends.npy"

Ask = Callable[[dict[str, Any]], TopKTargets]
"""Returns a teacher's distributions for a batch."""


class SoftTargets(Sequence[Any]):
    """What was written, memory-mapped: for each row its places' likeliest tokens."""

    def __init__(self, folder: Path):
        self._ids = np.load(folder / _IDS, mmap_mode="r")
        self._log_probs = np.load(folder / _LOG_PROBS, mmap_mode="r")
        self._ends = np.load(folder / _ENDS)

    @property
    def top_k(self) -> int:
        """Tokens kept at each place."""
        return int(self._ids.shape[1])

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: Any) -> tuple[Any, Any]:
        """Return ids of a row, [supervised tokens, K], and log-probabilities, one more each."""
        places = slice(int(self._ends[index - 1]) if index else 0, int(self._ends[index]))
        return self._ids[places], self._log_probs[places]


class WithSoftTargets:
    """Collates, and puts the rows' soft targets one behind the other.

    Args:
        collate: Makes the rest of the batch.
        top_k: Likeliest tokens kept.
    """

    def __init__(self, collate: CollateFunction, top_k: int):
        self._collate = collate
        self._nothing = (np.zeros((0, top_k), np.int32), np.zeros((0, top_k + 1), np.float16))

    def padding_example(self) -> dict[str, Any]:
        """Return a row without tokens."""
        return self._collate.padding_example()

    def max_length_example(self, length: int) -> dict[str, Any]:
        """Return a row as long as rows get."""
        return self._collate.max_length_example(length)

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return the batch, with `soft_ids`, [supervised tokens, K], and `soft_log_probs`."""
        batch = self._collate(list(rows))  # type: ignore[arg-type]  # a row is a mapping
        found = [row.get(COLUMN, self._nothing) for row in rows]
        batch["soft_ids"] = torch.from_numpy(np.concatenate([ids for ids, _ in found]))
        batch["soft_log_probs"] = torch.from_numpy(np.concatenate([known for _, known in found]))
        return batch


def soft_targets(
    job: Job,
    method: Distill,
    table: RowTable,
    collate: CollateFunction,
    cache: Cache,
    ask: Callable[[], Ask],
    words: int,
) -> SoftTargets:
    """Return the teacher's likeliest tokens for every row, asked for where nobody has yet.

    Args:
        job: The run.
        method: Names the teacher and K.
        table: The rows.
        collate: Makes batches of them, as training does.
        cache: Where they are kept.
        ask: Loads the teacher, and returns what asks it.
        words: Rows of the student's vocabulary.
    """
    assert method.top_k is not None
    teacher = source_digest(method.teacher, method.teacher_revision)
    key = cache_key(
        "soft targets", teacher, table.digest, method.top_k, method.temperature,
        method.teacher_4bit, method.calibrate, job.precision, job.data.packing, job.data.max_length,
        words,
    )  # fmt: skip
    size = max(1, 8192 // job.data.max_length)

    def build(folder: Path) -> None:
        _write(folder, table, collate, ask(), (method.top_k or 1, words), size)

    return SoftTargets(cache.entry(key, build))


def _write(
    folder: Path,
    table: RowTable,
    collate: CollateFunction,
    ask: Ask,
    kept: tuple[int, int],
    batch_size: int,
) -> None:
    ids, log_probs, ends = [], [], []
    total = 0
    for first in range(0, len(table), batch_size):
        rows = [table[index] for index in range(first, min(first + batch_size, len(table)))]
        batch = collate(rows)
        known = likeliest(ask(dict(batch)).log_probs, *kept)
        assert known.ids is not None
        ids.append(known.ids.int().cpu().numpy())
        log_probs.append(known.log_probs.half().cpu().numpy())
        counts = (batch["labels"][:, 1:] != -100).sum(1)
        ends.append(total + np.cumsum(counts.numpy()))
        total = int(ends[-1][-1])
    np.save(folder / _IDS, np.concatenate(ids))
    np.save(folder / _LOG_PROBS, np.concatenate(log_probs))
    np.save(folder / _ENDS, np.concatenate(ends))

"""Cache of a teacher's K most likely tokens at every supervised position.

The cache key covers everything that the entry depends on: the teacher's weights, the rows, K, the
temperature and the precision. Only the first run that needs an entry loads the teacher.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training.config import Job
from training.config.distill import Distill
from training.data.storage.cache import Cache, cache_key
from training.data.storage.table import RowTable
from training.methods.common.divergence import TopKTargets, keep_top_k
from training.models.fused_log_probs import IGNORE
from training.models.safetensors_io import source_digest
from training.trainer.context import CollateFunction

COLUMN = "soft_targets"
_IDS, _LOG_PROBS, _ENDS = "ids.npy", "log_probs.npy", "ends.npy"
_TOKENS_PER_BATCH = 8192

TeacherFunction = Callable[[dict[str, Any]], TopKTargets]
"""Returns the teacher's distributions at the supervised positions of a batch."""


class SoftTargets(Sequence[Any]):
    """Memory-mapped cache entry: the teacher's most likely tokens of each row.

    The rows' positions are stored one after the other; `ends` holds the end of each row.

    Args:
        folder: Folder of the cache entry.
    """

    def __init__(self, folder: Path):
        self._ids = np.load(folder / _IDS, mmap_mode="r")
        self._log_probs = np.load(folder / _LOG_PROBS, mmap_mode="r")
        self._ends = np.load(folder / _ENDS)

    @property
    def top_k(self) -> int:
        """Number of tokens per position."""
        return int(self._ids.shape[1])

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: Any) -> tuple[Any, Any]:
        """Return the ids, [supervised tokens, K], and log-probabilities, [tokens, K + 1]."""
        row = slice(int(self._ends[index - 1]) if index else 0, int(self._ends[index]))
        return self._ids[row], self._log_probs[row]


class SoftTargetCollator:
    """Collator that concatenates the soft targets of the rows in a batch.

    Args:
        collate: Collates the other columns.
        top_k: Number of tokens per position.
        all_positions: Whether unsupervised positions have targets too, of no meaning, so that the
            shapes do not depend on the labels.
    """

    def __init__(self, collate: CollateFunction, top_k: int, *, all_positions: bool = False):
        self._collate = collate
        self._all_positions = all_positions
        self._empty = (np.zeros((0, top_k), np.int32), np.zeros((0, top_k + 1), np.float16))

    def padding_example(self) -> dict[str, Any]:
        """Return a row without supervised tokens."""
        return self._collate.padding_example()

    def max_length_example(self, length: int) -> dict[str, Any]:
        """Return a row of the maximal length."""
        return self._collate.max_length_example(length)

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return the batch with `soft_ids`, [supervised tokens, K], and `soft_log_probs`."""
        batch = self._collate(list(rows))  # type: ignore[arg-type]  # a row is a mapping
        targets = [row.get(COLUMN, self._empty) for row in rows]
        soft_ids = torch.from_numpy(np.concatenate([ids for ids, _ in targets]))
        log_probs = torch.from_numpy(np.concatenate([values for _, values in targets]))
        if self._all_positions:
            mask = (batch["labels"][:, 1:] != IGNORE).flatten()
            soft_ids, log_probs = _at(mask, soft_ids), _at(mask, log_probs)
        batch["soft_ids"], batch["soft_log_probs"] = soft_ids, log_probs
        return batch


def _at(mask: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return `values`, [supervised tokens, width], at the positions of a mask, and 0 elsewhere."""
    spread = values.new_zeros(len(mask), values.shape[1])
    spread[mask] = values
    return spread


def cached_soft_targets(
    job: Job,
    table: RowTable,
    collate: CollateFunction,
    cache: Cache,
    load_teacher: Callable[[], TeacherFunction],
    vocabulary_size: int,
    static_rows: int | None = None,
) -> SoftTargets:
    """Return the teacher's most likely tokens for every row, computed on a cache miss.

    Args:
        job: Distillation job; its method names the teacher and K.
        table: Rows of the training data.
        collate: Makes batches of them, as in training.
        cache: Cache that holds the entry.
        load_teacher: Loads the teacher; called on a cache miss only.
        vocabulary_size: Size of the student's vocabulary.
        static_rows: Rows of every batch, for static shapes; None for as many as are fast.
    """
    method = job.method
    assert isinstance(method, Distill) and method.top_k is not None
    top_k = method.top_k
    teacher = source_digest(method.teacher, method.teacher_revision)
    key = cache_key(
        "soft targets", teacher, table.digest, top_k, method.temperature,
        method.teacher_4bit, method.calibrate, job.precision, job.data.packing, job.data.max_length,
        vocabulary_size,
    )  # fmt: skip
    size = static_rows or max(1, _TOKENS_PER_BATCH // job.data.max_length)

    def build(folder: Path) -> None:
        _compute(folder, table, collate, load_teacher(), (top_k, vocabulary_size), size)

    return SoftTargets(cache.entry(key, build))


def _compute(
    folder: Path,
    table: RowTable,
    collate: CollateFunction,
    teacher: TeacherFunction,
    top_k_arguments: tuple[int, int],
    batch_size: int,
) -> None:
    ids, log_probs, ends = [], [], []
    total = 0
    for first in range(0, len(table), batch_size):
        rows = [table[index] for index in range(first, min(first + batch_size, len(table)))]
        batch = collate(rows + [collate.padding_example()] * (batch_size - len(rows)))
        targets = keep_top_k(teacher(dict(batch)).log_probs, *top_k_arguments)
        assert targets.ids is not None
        ids.append(targets.ids.int().cpu().numpy())
        log_probs.append(targets.log_probs.half().cpu().numpy())
        counts = (batch["labels"][: len(rows), 1:] != IGNORE).sum(1)
        ends.append(total + np.cumsum(counts.numpy()))
        total = int(ends[-1][-1])
    np.save(folder / _IDS, np.concatenate(ids))
    np.save(folder / _LOG_PROBS, np.concatenate(log_probs))
    np.save(folder / _ENDS, np.concatenate(ends))

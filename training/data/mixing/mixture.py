"""The rows of a run put together: which, how often, in which order, and which share a row."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.config.job import Job
from training.data.mixing import sampling
from training.data.mixing.duplicates import Repeats
from training.data.mixing.packing import best_fit
from training.data.readers.ingest import Ingested
from training.data.schema.prompt_groups import by_prompt
from training.data.storage.table import token_rows, write_row_table
from training.data.tokenization.row_tokenizer import TokenRow
from training.errors import DataError

TRAIN, VALIDATION, MIXED = "train.arrow", "validation.arrow", "mixed.json"
"""The files of a mixture: two tables, and what is in them."""
JUDGED = ("preference", "unpaired")
"""Rows of which one prompt may have several."""


class Mixture:
    """Which rows, how often, in which order, and which share a row."""

    def __init__(
        self,
        job: Job,
        train: Sequence[Ingested],
        validation: Ingested | None,
        replay: Ingested | None,
    ):
        self._data = job.data
        self._judged = job.method.rows in JUDGED
        self._train = train
        self._validation = validation
        self._replay = replay
        self._rng = np.random.default_rng(job.train.seed)
        self._repeats = Repeats([len(found.store) for found in train])

    def write(self, folder: Path) -> None:
        """Write the tables and what the report says of them."""
        available, held = self._available()
        rows = self._weighted(available)
        replayed = self._drawn(rows)
        stores = [found.store for found in self._train]
        if self._replay is not None:
            stores.append(self._replay.store)
            rows.append(replayed)
        order = [(number, int(i)) for number, indices in enumerate(rows) for i in indices]
        if self._data.shuffle:
            order = [order[i] for i in self._rng.permutation(len(order))]
        lengths = [int(stores[number].lengths[i]) for number, i in order]
        about: dict[str, Any] = {
            "documents": len(order),
            "longest": max(lengths),
            "median": float(np.median(lengths)),
            "trained": self._trained(rows),
            "replay_rounds": self._rounds,
            "train": write_row_table(folder / TRAIN, self._grouped(order, lengths, stores)),
            "validation": self._write_held(folder, held),
        }
        about |= {"repeated": self._repeats.trained_again, "leaked": self._repeats.held_and_trained}
        (folder / MIXED).write_text(json.dumps(about))

    def _trained(self, rows: Sequence[sampling.Indices]) -> dict[str, int]:
        """Return the tokens that come up of each source, by its place among those read."""
        found = {
            str(n): int(self._train[n].store.lengths[rows[n]].sum())
            for n in range(len(self._train))
        }
        if self._replay is not None:
            place = len(self._train) + (self._validation is not None)
            found[str(place)] = int(self._replay.store.lengths[rows[-1]].sum())
        return found

    def _available(self) -> tuple[list[sampling.Indices], list[sampling.Indices]]:
        """Return the rows to train on and the rows held out, of each source, limits applied."""
        documents = [found.store.documents for found in self._train]
        keep = [np.arange(len(rows)) for rows in documents]
        if self._data.limit is not None:
            read = [found.about.rows_read for found in self._train]
            weights = [found.source.weight for found in self._train]
            shares = sampling.allot(self._data.limit, read, weights)
            keep = [
                np.flatnonzero(rows < share) for rows, share in zip(documents, shares, strict=True)
            ]
        split = self._data.validation.split
        if not split:
            return keep, []
        if self._judged:
            documents = [by_prompt(found.store) for found in self._train]
        kept = [rows[indices] for rows, indices in zip(documents, keep, strict=True)]
        train, held = sampling.hold_out(kept, split, self._rng)
        return (
            [indices[part] for indices, part in zip(keep, train, strict=True)],
            [indices[part] for indices, part in zip(keep, held, strict=True)],
        )

    def _weighted(self, available: Sequence[sampling.Indices]) -> list[sampling.Indices]:
        if len(available) == 1 or self._data.limit is not None:
            return list(available)
        rows = [
            sampling.weighted(indices, found.store.documents, found.source.weight, self._rng)
            for indices, found in zip(available, self._train, strict=True)
        ]
        if not any(len(indices) for indices in rows):
            raise DataError("data.train: the weights leave no row to train on. Raise them")
        return rows

    def _drawn(self, rows: Sequence[sampling.Indices]) -> sampling.Indices:
        self._rounds = 0
        if self._replay is None or self._data.replay is None:
            return np.zeros(0, dtype=np.int64)
        if not len(self._replay.store):
            raise DataError(f"data.replay: {self._replay.source.source} holds nothing to replay")
        share = self._data.replay.share
        own = sum(
            int(found.store.lengths[indices].sum())
            for found, indices in zip(self._train, rows, strict=True)
        )
        wanted = round(own * share / (1 - share))
        drawn, self._rounds = sampling.replayed(self._replay.store.lengths, wanted, self._rng)
        return drawn

    def _grouped(
        self, order: Sequence[tuple[int, int]], lengths: Sequence[int], stores: Sequence[Any]
    ) -> Iterator[list[TokenRow]]:
        groups = [[i] for i in range(len(order))]
        if self._data.packing:
            groups = best_fit(lengths, self._data.max_length)
            if self._data.shuffle:
                groups = [groups[i] for i in self._rng.permutation(len(groups))]
            else:
                groups.sort(key=min)
        for group in groups:
            rows = [next(token_rows(stores[order[i][0]], [order[i][1]])) for i in group]
            for i, row in zip(group, rows, strict=True):
                if order[i][0] < len(self._train):
                    self._repeats.add_trained(order[i], row)
            yield rows

    def _write_held(self, folder: Path, held: Sequence[sampling.Indices]) -> dict[str, Any] | None:
        """Write the held-out rows, in their sources' order."""
        packed_to = self._data.max_length if self._data.packing else 0
        if self._validation is not None:
            rows = whole(self._validation)
        elif held:
            rows = [
                row
                for found, indices in zip(self._train, held, strict=True)
                for row in token_rows(found.store, (int(i) for i in indices))
            ]
        else:
            return None
        self._repeats.add_held(rows)
        return write_row_table(folder / VALIDATION, grouped(rows, packed_to))


def grouped(rows: Sequence[TokenRow], packed_to: int) -> Iterator[list[TokenRow]]:
    """Yield rows one by one, or packed into rows of `packed_to` tokens where that is not 0."""
    groups = [[i] for i in range(len(rows))]
    if packed_to:
        groups = sorted(best_fit([len(row.input_ids) for row in rows], packed_to), key=min)
    for group in groups:
        yield [rows[i] for i in group]


def whole(validation: Ingested) -> list[TokenRow]:
    """Return every row of a validation source.

    Raises:
        DataError: There is none.
    """
    if not len(validation.store):
        raise DataError(
            f"data.validation: nothing is left of {validation.source.source} to measure a loss on "
            f"({'; '.join(validation.about.reasons) or 'no row could be read'})"
        )
    return list(token_rows(validation.store, range(len(validation.store))))

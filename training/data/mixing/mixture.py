"""Mixture of a run: selection, weights, order and packing of its rows, written as tables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from training.config.data import Source
from training.config.job import Job
from training.config.model import trains_tokenizer
from training.data.mixing import sampling
from training.data.mixing.duplicates import DuplicateCounter
from training.data.mixing.group_split import (
    GroupCounts,
    count_shared_prompts,
    hold_out_groups,
    read_groups,
)
from training.data.mixing.packing import best_fit
from training.data.mixing.prompt_groups import group_by_prompt
from training.data.mixing.text_split import split_documents
from training.data.readers.ingest import Ingested
from training.data.storage.table import token_rows, write_row_table
from training.data.tokenization.token_rows import TokenRow
from training.errors import DataError

TRAIN, VALIDATION, MIXED = "train.arrow", "validation.arrow", "mixed.json"
"""Files of a mixture: two tables and their statistics."""


def is_grouped(job: Job) -> bool:
    """Return whether rows with the same prompt stay on one side of the held-out split.

    Text has no prompts.
    """
    return job.method.rows != "text"


class Mixture:
    """Mixture of tokenized sources.

    All random decisions use one generator with the job's seed, in a fixed sequence: held-out split,
    weights, replay, shuffle, order of packed rows.

    Args:
        job: The run.
        train: Training sources.
        validation: Validation source.
        replay: Source of general text to replay.
    """

    def __init__(
        self,
        job: Job,
        train: Sequence[Ingested],
        validation: Ingested | None,
        replay: Ingested | None,
    ):
        self._job = job
        self._data = job.data
        self._grouped = is_grouped(job)
        self._train = train
        self._validation = validation
        self._replay = replay
        self._rng = np.random.default_rng(job.train.seed)
        self._duplicates = DuplicateCounter([len(source.store) for source in train])
        self._group_counts: GroupCounts | None = None

    def write(self, folder: Path) -> None:
        """Write the tables, and the statistics that the report needs."""
        available, held = self._select_rows()
        rows = self._apply_weights(available)
        replayed = self._draw_replay(rows)
        stores = [source.store for source in self._train]
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
            "trained": self._tokens_by_source(rows),
            "replay_rounds": self._rounds,
            "train": write_row_table(folder / TRAIN, self._packed_rows(order, lengths, stores)),
            "validation": self._write_held_out(folder, held),
        }
        about |= {
            "repeated": self._duplicates.repeated_rows,
            "leaked": self._duplicates.leaked_rows,
        }
        if self._group_counts is not None:
            about["groups"] = asdict(self._group_counts)
        (folder / MIXED).write_text(json.dumps(about))

    def _tokens_by_source(self, rows: Sequence[sampling.Indices]) -> dict[str, int]:
        """Return the training tokens of each source, by its index among the sources read."""
        tokens = {
            str(n): int(self._train[n].store.lengths[rows[n]].sum())
            for n in range(len(self._train))
        }
        if self._replay is not None:
            place = len(self._train) + (self._validation is not None)
            tokens[str(place)] = int(self._replay.store.lengths[rows[-1]].sum())
        return tokens

    def _select_rows(self) -> tuple[list[sampling.Indices], list[sampling.Indices]]:
        """Return the training rows and the held-out rows of each source, after limits."""
        documents = [source.store.documents for source in self._train]
        keep = [np.arange(len(rows)) for rows in documents]
        if self._data.limit is not None:
            read = [source.stats.rows_read for source in self._train]
            weights = [source.source.weight for source in self._train]
            shares = sampling.allocate_rows(self._data.limit, read, weights)
            keep = [
                np.flatnonzero(rows < share) for rows, share in zip(documents, shares, strict=True)
            ]
        split = self._data.validation.split
        if not split:
            return keep, []
        if self._data.validation.group_column:
            return self._select_groups(keep, split, self._data.validation.group_column)
        if trains_tokenizer(self._job.model):
            # The tokenizer has seen the training documents, which must stay on their side.
            sides = split_documents(self._job, self._rng, grouped=self._grouped)
            train, held = (
                [
                    np.flatnonzero(np.isin(rows, numbers))
                    for rows, numbers in zip(documents, side, strict=True)
                ]
                for side in sides
            )
            return train, held
        kept = [rows[indices] for rows, indices in zip(documents, keep, strict=True)]
        if self._grouped:
            prompts = [s.store.prompts[rows] for s, rows in zip(self._train, keep, strict=True)]
            groups = group_by_prompt(prompts, kept)
            train, held = sampling.split_groups(groups, split, self._rng)
        else:
            train, held = sampling.split_held_out(kept, split, self._rng)
        return (
            [indices[part] for indices, part in zip(keep, train, strict=True)],
            [indices[part] for indices, part in zip(keep, held, strict=True)],
        )

    def _select_groups(
        self, keep: Sequence[sampling.Indices], split: float, column: str
    ) -> tuple[list[sampling.Indices], list[sampling.Indices]]:
        """Return the training rows and the held-out rows of each source, split by group."""
        groups = [
            read_groups(s.source, column, seed=self._job.train.seed, limit=self._limit_of(s.source))
            for s in self._train
        ]
        stores = [source.store for source in self._train]
        kept = [store.documents[rows] for store, rows in zip(stores, keep, strict=True)]
        train, held, counts = hold_out_groups(groups, kept, split, column)
        if self._grouped:
            prompts = [store.prompts[rows] for store, rows in zip(stores, keep, strict=True)]
            shared = count_shared_prompts(prompts, kept, train, held)
            counts = replace(counts, prompts_shared=shared)
        self._group_counts = counts
        return (
            [indices[part] for indices, part in zip(keep, train, strict=True)],
            [indices[part] for indices, part in zip(keep, held, strict=True)],
        )

    def _limit_of(self, source: Source) -> int | None:
        return min([n for n in (self._data.limit, source.limit) if n], default=None)

    def _apply_weights(self, available: Sequence[sampling.Indices]) -> list[sampling.Indices]:
        if len(available) == 1 or self._data.limit is not None:
            return list(available)
        rows = [
            sampling.apply_weight(indices, source.store.documents, source.source.weight, self._rng)
            for indices, source in zip(available, self._train, strict=True)
        ]
        if not any(len(indices) for indices in rows):
            raise DataError("data.train: the weights leave no row to train on. Raise them")
        return rows

    def _draw_replay(self, rows: Sequence[sampling.Indices]) -> sampling.Indices:
        self._rounds = 0
        if self._replay is None or self._data.replay is None:
            return np.zeros(0, dtype=np.int64)
        if not len(self._replay.store):
            raise DataError(f"data.replay: {self._replay.source.source} holds nothing to replay")
        share = self._data.replay.share
        own = sum(
            int(source.store.lengths[indices].sum())
            for source, indices in zip(self._train, rows, strict=True)
        )
        wanted = round(own * share / (1 - share))
        drawn, self._rounds = sampling.draw_replay(self._replay.store.lengths, wanted, self._rng)
        return drawn

    def _packed_rows(
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
                    self._duplicates.add_trained(order[i], row)
            yield rows

    def _write_held_out(
        self, folder: Path, held: Sequence[sampling.Indices]
    ) -> dict[str, Any] | None:
        """Write the held-out rows in the order of their sources."""
        packed_to = self._data.max_length if self._data.packing else 0
        if self._validation is not None:
            rows = all_rows(self._validation)
        elif held:
            rows = [
                row
                for source, indices in zip(self._train, held, strict=True)
                for row in token_rows(source.store, (int(i) for i in indices))
            ]
        else:
            return None
        self._duplicates.add_held(rows)
        return write_row_table(folder / VALIDATION, pack_in_order(rows, packed_to))


def pack_in_order(rows: Sequence[TokenRow], packed_to: int) -> Iterator[list[TokenRow]]:
    """Yield rows one by one, or packed into rows of `packed_to` tokens unless that is 0."""
    groups = [[i] for i in range(len(rows))]
    if packed_to:
        groups = sorted(best_fit([len(row.input_ids) for row in rows], packed_to), key=min)
    for group in groups:
        yield [rows[i] for i in group]


def all_rows(validation: Ingested) -> list[TokenRow]:
    """Return all rows of a validation source.

    Raises:
        DataError: The source has no row.
    """
    if not len(validation.store):
        raise DataError(
            f"data.validation: nothing is left of {validation.source.source} to measure a loss on "
            f"({'; '.join(validation.stats.reasons) or 'no row could be read'})"
        )
    return list(token_rows(validation.store, range(len(validation.store))))

"""Held-out split by group: rows with the same value of a column stay on one side.

The side of a group depends on the seed and its value only: adding rows moves no group, and two
sources that share a value agree. The rule is the one of `temper prepare`, with BLAKE2b of the
standard library in place of xxHash.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from training.config.data import Source
from training.data.mixing.prompt_groups import group_by_prompt
from training.data.mixing.sampling import Indices
from training.data.readers.records import BadRecord
from training.data.readers.sources import locate
from training.errors import DataError

Digests: TypeAlias = npt.NDArray[np.uint64]
_RANGE = 2**64
_LARGE_SHARE = 0.5
"""Share of the rows in one group from which the split says little."""
_LISTED_COLUMNS = 12


@dataclass(frozen=True)
class GroupCounts:
    """Counts of a split by group, after limits and without dropped rows.

    Attributes:
        column: Column whose value is the group.
        groups_train: Groups to train on.
        groups_held: Groups held out.
        rows_train: Source rows to train on.
        rows_held: Source rows held out.
        rows_without: Source rows without a value, each a group by its content.
        sources_without: Sources of which no row has the column.
        largest_share: Share of all rows that are in the largest group.
        prompts_shared: Held-out rows whose prompt is trained on in another group.
    """

    column: str
    groups_train: int
    groups_held: int
    rows_train: int
    rows_held: int
    rows_without: int
    sources_without: tuple[str, ...]
    largest_share: float
    prompts_shared: int = 0

    def line(self) -> str:
        """Return the line to print when a run starts."""
        return (
            f"      split by {self.column}: {self.groups_train:,} groups ({self.rows_train:,} "
            f"source rows) to train on, {self.groups_held:,} groups ({self.rows_held:,} source "
            "rows) held out"
        )

    def warnings(self) -> list[str]:
        """Return what weakens the split, to read before training."""
        warnings = [
            f"{source}: no row has the column {self.column} of data.validation; each of its rows "
            "is a group of its own"
            for source in self.sources_without
        ]
        if self.rows_without and not self.sources_without:
            warnings.append(
                f"{self.rows_without:,} rows have no value in {self.column}, the column of "
                "data.validation; each is a group of its own"
            )
        if self.largest_share > _LARGE_SHARE:
            warnings.append(
                f"{self.largest_share:.0%} of the rows are in one group of {self.column}: the "
                "held-out rows differ in kind from most of the training rows. Choose a column "
                "with more values for data.validation.column"
            )
        if self.prompts_shared:
            warnings.append(
                f"{self.prompts_shared:,} of the held-out rows have a prompt that is trained on "
                f"too, in another group of {self.column}. Remove repeated prompts, or leave out "
                "data.validation.by: without it, rows with one prompt stay on one side"
            )
        return warnings


@dataclass(frozen=True)
class SourceGroups:
    """Groups of the rows of one source.

    Attributes:
        source: Source as the job names it.
        digests: Digest of the group of each row read, whose numeric order decides its side.
        has_value: Whether each row has a value in the column.
        columns: Columns of the rows read, in the order in which they appear.
    """

    source: str
    digests: Digests
    has_value: npt.NDArray[np.bool_]
    columns: tuple[str, ...]


def read_groups(source: Source, column: str, *, seed: int, limit: int | None) -> SourceGroups:
    """Return the group of each row of a source; an unreadable row is numbered like any other.

    Args:
        source: Source as the job names it.
        column: Column whose value is the group.
        seed: Seed of the split.
        limit: Maximum number of rows.
    """
    digests: list[int] = []
    has_value: list[bool] = []
    columns: dict[str, None] = {}
    for _, record in islice(locate(source).records(), limit):
        if isinstance(record, BadRecord):
            digests.append(0)
            has_value.append(False)
            continue
        columns |= dict.fromkeys(record.values)
        value = _group_value(record.values, column)
        has_value.append(value is not None)
        digests.append(
            _digest(seed, "row " + _canonical(record.values) if value is None else value)
        )
    return SourceGroups(
        source.source,
        np.array(digests, dtype=np.uint64),
        np.array(has_value, dtype=np.bool_),
        tuple(columns),
    )


def _group_value(values: Mapping[str, Any], column: str) -> str | None:
    """Return the key of a record's group; None if the column is missing, null or empty."""
    value = values.get(column)
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    # CSV files hold numbers as text: 7 and "7" are one group.
    return f"group {value if isinstance(value, str) else _canonical(value)}"


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)


def _digest(seed: int, key: str) -> int:
    data = f"{seed}\0{key}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")


def hold_out_groups(
    sources: Sequence[SourceGroups], documents: Sequence[Indices], share: float, column: str
) -> tuple[list[Indices], list[Indices], GroupCounts]:
    """Split rows into training rows and held-out rows by their group.

    Args:
        sources: Groups of the rows of each source.
        documents: For each source, the source row of each of its rows.
        share: Share of the groups to hold out.
        column: Column whose value is the group.

    Returns:
        For each source the indices of its training rows, and of its held-out rows; the counts.

    Raises:
        DataError: No row has the column, or one side would be empty.
    """
    if not any(source.has_value.any() for source in sources):
        listed = list(dict.fromkeys(name for source in sources for name in source.columns))
        more = f" and {len(listed) - _LISTED_COLUMNS} more" if len(listed) > _LISTED_COLUMNS else ""
        raise DataError(
            f"data.validation.column: no row has a value in {column!r}. "
            f"Columns found: {', '.join(listed[:_LISTED_COLUMNS])}{more}"
        )
    threshold = np.uint64(int(share * _RANGE))
    digests = [source.digests[rows] for source, rows in zip(sources, documents, strict=True)]
    sides = [rows < threshold for rows in digests]
    counts = _count(sources, documents, threshold, column)
    _check_sides(np.concatenate(digests), counts, share)
    return (
        [np.flatnonzero(~out) for out in sides],
        [np.flatnonzero(out) for out in sides],
        counts,
    )


def _count(
    sources: Sequence[SourceGroups], documents: Sequence[Indices], threshold: np.uint64, column: str
) -> GroupCounts:
    used = [np.unique(rows) for rows in documents]
    rows = np.concatenate([s.digests[n] for s, n in zip(sources, used, strict=True)])
    groups, sizes = np.unique(rows, return_counts=True)
    valued = [s.has_value[n] for s, n in zip(sources, used, strict=True)]
    return GroupCounts(
        column=column,
        groups_train=int((groups >= threshold).sum()),
        groups_held=int((groups < threshold).sum()),
        rows_train=int((rows >= threshold).sum()),
        rows_held=int((rows < threshold).sum()),
        rows_without=int(sum((~has).sum() for has in valued)),
        sources_without=tuple(
            s.source for s in sources if len(s.has_value) and not s.has_value.any()
        ),
        largest_share=float(sizes.max() / len(rows)) if len(rows) else 0.0,
    )


def _check_sides(digests: Digests, counts: GroupCounts, share: float) -> None:
    """Raise if a side has no group, or more rows are held out than trained on by one large group.

    Raises:
        DataError: The split is of no use.
    """
    column, total = counts.column, counts.groups_train + counts.groups_held
    if total < 2:
        raise DataError(
            f"data.validation.column: all rows have the same value in {column!r}, so a split by "
            "group leaves one side empty. Name a column with more values, or leave out "
            "data.validation.by"
        )
    if not counts.groups_held:
        needed = math.ceil(int(digests.min()) / _RANGE * 1000 + 1) / 10
        fix = f"Raise it to {needed:.1f}%" if needed < 50 else "Change train.seed"
        raise DataError(
            f"data.validation.split {share:.3g} holds out none of the {total:,} groups of "
            f"{column!r}: a group's side depends on its value and train.seed. {fix}, or name a "
            "column with more values"
        )
    large = counts.largest_share > _LARGE_SHARE and counts.rows_held > counts.rows_train
    if not counts.groups_train or (large and share < _LARGE_SHARE):
        rows = counts.rows_train + counts.rows_held
        raise DataError(
            f"data.validation.split {share:.3g} holds out {counts.rows_held:,} of {rows:,} rows, "
            f"because {counts.largest_share:.0%} of them are in one group of {column!r}. Name a "
            "column with more values, or change train.seed"
        )


def count_shared_prompts(
    prompts: Sequence[Indices],
    documents: Sequence[Indices],
    train: Sequence[Indices],
    held: Sequence[Indices],
) -> int:
    """Return the number of held-out rows whose prompt is trained on.

    Args:
        prompts: Digest of the prompt of each row; 0 if it has none.
        documents: Document of each row, numbered in each source on its own.
        train: For each source, the indices of its training rows.
        held: For each source, the indices of its held-out rows.
    """
    groups = group_by_prompt(prompts, documents)
    trained, out = (
        np.concatenate([rows[part] for rows, part in zip(groups, side, strict=True)])
        for side in (train, held)
    )
    return int(np.isin(out, trained).sum())

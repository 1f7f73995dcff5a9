"""Streaming of data that is too large to tokenize in advance, shuffled and packed in windows.

A window holds some thousand documents. Its content, order and packing depend only on the seed and
the source positions at which it begins. A run therefore resumes exactly by opening the sources at
the beginning of a window, without reading what precedes it. While the run trains on a window, a
background thread reads the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from training.data.mixing.packing import best_fit
from training.data.mixing.sampling import allocate_rows
from training.data.readers.ingest import DROPPED, SKIPPED, raise_unless_skipped
from training.data.readers.records import BadRecord
from training.data.readers.sources import ResolvedSource
from training.data.schema.rows import Row
from training.data.storage.cache import cache_key, write_jsonl
from training.data.storage.source_stream import SourceStream
from training.data.tokenization.outcome_counts import OutcomeCounts
from training.data.tokenization.row_tokenizer import RowTokenizer
from training.data.tokenization.token_rows import Dropped, SplitRow, TokenRow
from training.data.tokenization.workers import characters_of
from training.errors import DataError

WINDOW = 2_048
"""Documents per window."""
_WINDOW_CHARACTERS = 16_000_000
_BATCH = 256
_KEPT_POSITIONS = 16
"""Window positions in a state: the DataLoader fetches rows before they are trained on."""


_Drawn = tuple[int, Row | BadRecord]
"""Row of a window, with the number of its source; the replay source comes last."""


@dataclass(frozen=True)
class StreamSettings:
    """Settings of a stream.

    Attributes:
        packing: Whether documents share rows.
        shuffle: Whether documents are shuffled within a window.
        seed: Seed of the shuffles.
        on_error: Whether an unreadable row stops the run or is skipped.
        replay_share: Share of the tokens that comes from the replay source.
    """

    packing: bool
    shuffle: bool
    seed: int
    on_error: Literal["stop", "skip"]
    replay_share: float = 0.0


@dataclass(frozen=True)
class _Window:
    """Window of a stream.

    Attributes:
        begin: State at its beginning: its number, the number of its first row, the replay tokens
            that are due, and the position of each source.
        rows: Rows in order.
        dropped: Rows without anything to train on.
        skipped: Rows that could not be read.
        counts: What became of the rows of each source.
    """

    begin: dict[str, Any]
    rows: list[dict[str, Any]]
    dropped: list[Dropped]
    skipped: list[BadRecord]
    counts: list[OutcomeCounts]


class StreamTable:
    """Endless table of rows, read in increasing order.

    Attributes:
        digest: Digest of the names and sizes of the sources' files, not of their content.
        num_dropped: Rows so far without anything to train on.
        num_skipped: Rows so far that could not be read.
        counts: What became of the rows so far, by training source, then of the replay source.

    Args:
        streams: Training sources.
        weights: Relative frequency of each source.
        replay: Source of general text to replay.
        rows: Row tokenizer; a background thread uses it, so it must not share its tokenizer.
        settings: Order and packing of the rows.
        log_folder: Folder for the lists of dropped and skipped rows; None for no lists.
    """

    def __init__(
        self,
        streams: Sequence[SourceStream],
        weights: Sequence[float],
        replay: SourceStream | None,
        rows: RowTokenizer,
        settings: StreamSettings,
        log_folder: Path | None = None,
    ):
        self._streams = streams
        self._replay = replay
        self._rows = rows
        self._settings = settings
        self._log_folder = log_folder
        self._logged_window = -1
        self._source_order = _interleave(weights)
        self._first = 0
        self._window: list[dict[str, Any]] = []
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="stream")
        self._next_window: Future[_Window] | None = None
        self._positions: list[dict[str, Any]] = []
        self._replay_due = 0.0
        self._number = -1
        self.num_dropped = self.num_skipped = 0
        self.counts = [OutcomeCounts() for _ in self._all_streams()]
        self.digest = cache_key(
            "stream", *(_identity(stream.located) for stream in self._all_streams())
        )

    def _all_streams(self) -> list[SourceStream]:
        return [*self._streams, *([self._replay] if self._replay else [])]

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return row `index`, as `RowTable` does.

        Raises:
            IndexError: The row precedes the windows whose positions are kept.
            DataError: The data cannot be read, or a window has nothing to train on.
        """
        if index < self._first:
            self._rewind(index)
        while index >= self._first + len(self._window):
            self._advance()
        return self._window[index - self._first]

    def window(self) -> list[dict[str, Any]]:
        """Return the rows of the current window."""
        return self._window

    def state_dict(self) -> dict[str, Any]:
        """Return the state that `load_state_dict` needs to serve the same rows.

        It holds the positions of the last windows, not only of the current one: the DataLoader has
        fetched rows that were not trained on yet, and a resumed run reads them again.
        """
        return {"version": 1, "digest": self.digest, "windows": list(self._positions)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state.

        Raises:
            DataError: The sources have changed since.
        """
        if state["digest"] != self.digest:
            raise DataError(
                "the streamed data is not what the checkpoint was reading: a source has another "
                "name or size. Put it back, or start over"
            )
        self._positions = list(state["windows"])
        self._window, self._first = [], 0
        if self._positions:
            self._open(self._positions[-1])

    def _rewind(self, index: int) -> None:
        earlier = [begin for begin in self._positions if begin["first"] <= index]
        if not earlier:
            raise IndexError(f"row {index} of a stream that has moved on to row {self._first}")
        self._positions = earlier
        self._open(earlier[-1])

    def _open(self, begin: dict[str, Any]) -> None:
        self._discard_read_ahead()
        for stream, position in zip(self._all_streams(), begin["sources"], strict=True):
            stream.seek(position)
        self._replay_due, self._number = begin["replay_due"], begin["window"] - 1
        self._first, self._window = begin["first"], []
        self._positions = [
            earlier for earlier in self._positions if earlier["window"] < begin["window"]
        ]

    def _discard_read_ahead(self) -> None:
        """Wait for the background thread and discard its window, so that sources can be moved."""
        if self._next_window is not None and not self._next_window.cancel():
            with suppress(DataError):
                self._next_window.result()
        self._next_window = None

    def _advance(self) -> None:
        number, first = self._number + 1, self._first + len(self._window)
        future, self._next_window = self._next_window, None
        window = future.result() if future else self._read_window(number, first)
        self._number, self._first, self._window = number, first, window.rows
        self._positions = [*self._positions[1 - _KEPT_POSITIONS :], window.begin]
        self._log(window)
        self._next_window = self._reader.submit(
            self._read_window, number + 1, first + len(window.rows)
        )

    def _read_window(self, number: int, first: int) -> _Window:
        """Read the next window from the sources.

        Raises:
            DataError: A row cannot be read, or no row can be trained on.
        """
        begin = {
            "window": number,
            "first": first,
            "replay_due": self._replay_due,
            "sources": [stream.position() for stream in self._all_streams()],
        }
        window = _Window(begin, [], [], [], [OutcomeCounts() for _ in self._all_streams()])
        drawn = self._draw()
        documents = self._tokenize(drawn, window)
        if not documents:
            raise DataError(
                f"none of the {len(drawn):,} rows from {_id(drawn[0][1])} on has anything to learn "
                f"within data.max_length {self._rows.max_length}. Raise it, or fix the data"
            )
        documents += self._draw_replay(sum(len(row.input_ids) for row in documents), window)
        rng = np.random.default_rng([self._settings.seed, number])
        if self._settings.shuffle:
            documents = [documents[i] for i in rng.permutation(len(documents))]
        groups = [[i] for i in range(len(documents))]
        if self._settings.packing:
            groups = best_fit([len(row.input_ids) for row in documents], self._rows.max_length)
            groups.sort(key=min)
            if self._settings.shuffle:
                groups = [groups[i] for i in rng.permutation(len(groups))]
        window.rows.extend(_as_row([documents[i] for i in group]) for group in groups)
        return window

    def _draw(self) -> list[_Drawn]:
        """Return the rows of a window, each with the number of its source."""
        drawn: list[_Drawn] = []
        characters = 0
        while len(drawn) < WINDOW and characters < _WINDOW_CHARACTERS:
            source = self._source_order[len(drawn) % len(self._source_order)]
            row = self._streams[source].next_row()
            characters += characters_of(row)
            drawn.append((source, row))
        return drawn

    def _tokenize(self, drawn: Sequence[_Drawn], window: _Window) -> list[TokenRow]:
        """Return the token rows of `drawn`, and record dropped and skipped rows in the window."""
        documents: list[TokenRow] = []
        skipped: list[BadRecord] = []
        rows: list[tuple[int, Row]] = []
        for source, row in drawn:
            if isinstance(row, BadRecord):
                skipped.append(row)
                window.counts[source].add(row)
            else:
                rows.append((source, row))
        for start in range(0, len(rows), _BATCH):
            batch = rows[start : start + _BATCH]
            outcomes = self._rows([row for _, row in batch])
            for (source, _), outcome in zip(batch, outcomes, strict=True):
                window.counts[source].add(outcome)
                if isinstance(outcome, Dropped):
                    window.dropped.append(outcome)
                elif isinstance(outcome, BadRecord):
                    skipped.append(outcome)
                elif isinstance(outcome, SplitRow):
                    window.dropped.extend(outcome.dropped)
                    documents += outcome.rows
                else:
                    documents += outcome
        for bad in skipped:
            raise_unless_skipped(bad, self._settings.on_error)
        window.skipped.extend(skipped)
        return documents

    def _log(self, window: _Window) -> None:
        """Count and list dropped and skipped rows, once per window even if it is read again."""
        if self._number <= self._logged_window:
            return
        self._logged_window = self._number
        self.num_dropped += len(window.dropped)
        self.num_skipped += len(window.skipped)
        for counts, more in zip(self.counts, window.counts, strict=True):
            counts.merge(more)
        if self._log_folder is not None:
            lost = ({"id": row.id, "reason": row.reason} for row in window.dropped)
            bad = ({"id": row.origin, "reason": row.reason} for row in window.skipped)
            write_jsonl(self._log_folder / DROPPED, lost, append=True)
            write_jsonl(self._log_folder / SKIPPED, bad, append=True)

    def _draw_replay(self, tokens: int, window: _Window) -> list[TokenRow]:
        """Draw general text until its share is reached; an excess is deducted from the next window.

        Raises:
            DataError: The replay source holds no text.
        """
        share = self._settings.replay_share
        if self._replay is None or not share:
            return []
        self._replay_due += tokens * share / (1 - share)
        documents: list[TokenRow] = []
        without_text = 0
        while self._replay_due > 0:
            replayed = self._tokenize([(len(self._streams), self._replay.next_row())], window)
            without_text = 0 if replayed else without_text + 1
            if without_text > WINDOW:
                raise DataError(f"data.replay: {self._replay.located.source.source} holds no text")
            documents += replayed
            self._replay_due -= sum(len(row.input_ids) for row in replayed)
        return documents


def _interleave(weights: Sequence[float]) -> list[int]:
    """Return the source of each row of a cycle, evenly spread by weight."""
    size = 1 if len(weights) == 1 else 256
    counts = allocate_rows(size, [size] * len(weights), weights)
    slots = [(place / count, i) for i, count in enumerate(counts) for place in range(count)]
    return [i for _, i in sorted(slots)]


def _identity(located: ResolvedSource) -> tuple[object, ...]:
    if not located.files:
        return (located.source.source, located.source.subset, located.source.split)
    return tuple((label, path.stat().st_size) for path, label in located.files)


def _id(row: Row | BadRecord) -> str:
    return row.origin if isinstance(row, BadRecord) else row.id


def _as_row(documents: Sequence[TokenRow]) -> dict[str, Any]:
    return {
        "input_ids": np.concatenate([row.input_ids for row in documents]).tolist(),
        "labels": np.concatenate([row.labels for row in documents]).tolist(),
        "seq_lengths": [length for row in documents for length in row.lengths],
        "ids": [row.id for row in documents],
        "about": "".join(row.about for row in documents),
    }

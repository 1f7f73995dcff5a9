"""Rows for data larger than memory, read while training, shuffled and packed in windows.

A window is some thousand documents. What stands in it, its order and its packing depend on the seed
and on where in the sources it begins, on nothing else; so a run goes on after an interruption by
opening the sources at a window's beginning, without reading what came before. While a window is
trained on, the next one is read in the background.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from training.data.mixing.packing import best_fit
from training.data.mixing.sampling import allot
from training.data.readers.ingest import DROPPED, SKIPPED, stop_at
from training.data.readers.records import BadRecord, SourcePosition
from training.data.readers.sources import ReadCursor, ResolvedSource
from training.data.schema.detection import SchemaReader
from training.data.schema.rows import Row, RowError
from training.data.storage.cache import cache_key, write_jsonl
from training.data.tokenization.row_tokenizer import Dropped, RowTokenizer, TokenRow
from training.data.tokenization.workers import characters_of
from training.errors import DataError

WINDOW = 2_048
"""Documents of a window."""
_WINDOW_CHARACTERS = 16_000_000
_BATCH = 256
_REMEMBERED = 16
"""Window beginnings kept in a state: enough for rows that were fetched and not yet trained on."""


@dataclass(frozen=True)
class StreamSettings:
    """How a stream is turned into rows.

    Attributes:
        packing: Whether documents share rows.
        shuffle: Whether the order inside a window is drawn.
        seed: Decides the order.
        on_error: What to do with a row that cannot be read.
        replay_share: Share of the tokens that comes from the replayed source.
    """

    packing: bool
    shuffle: bool
    seed: int
    on_error: Literal["stop", "skip"]
    replay_share: float = 0.0


class SourceStream:
    """Draws the rows of one source, and begins it anew when it ends.

    Args:
        located: The source.
        reader: Reads its records.
        limit: Rows of it to use.
    """

    def __init__(self, located: ResolvedSource, reader: SchemaReader, limit: int | None):
        self.located = located
        self.reader = reader
        self._limit = limit
        self.open({"file": 0, "offset": 0, "number": 0, "count": 0, "epoch": 0})

    def open(self, state: dict[str, int]) -> None:
        """Go to a place that `state` returned."""
        self._count, self._epoch = state["count"], state["epoch"]
        self._begin(ReadCursor(state["file"], SourcePosition(state["offset"], state["number"])))

    def _begin(self, cursor: ReadCursor) -> None:
        self._records = self.located.records(cursor)
        self._next = next(self._records, None)

    def state(self) -> dict[str, int]:
        """Return the place of the next row."""
        self._renew()
        assert self._next is not None
        cursor, _ = self._next
        place = {"file": cursor.file, **asdict(cursor.position)}
        return {**place, "count": self._count, "epoch": self._epoch}

    def _renew(self) -> None:
        if self._next is not None and (self._limit is None or self._count < self._limit):
            return
        if not self._count:
            raise DataError(f"{self.located.source.source}: there are no rows in it")
        self._count, self._epoch = 0, self._epoch + 1
        self._begin(ReadCursor())

    def draw(self) -> Row | BadRecord:
        """Return the next row."""
        self._renew()
        assert self._next is not None
        _, record = self._next
        self._next = next(self._records, None)
        self._count += 1
        if isinstance(record, BadRecord):
            return record
        try:
            return self.reader.read(record)
        except RowError as fault:
            return BadRecord(record.origin, str(fault))


@dataclass(frozen=True)
class _Window:
    """Some thousand documents, read.

    Attributes:
        begin: Where it begins: its number, its first row's, the debt, and the place of each source.
        rows: Its rows, in order.
        dropped: What it holds that has nothing to learn.
        skipped: What could not be read.
    """

    begin: dict[str, Any]
    rows: list[dict[str, Any]]
    dropped: list[Dropped]
    skipped: list[BadRecord]


class StreamTable:
    """Rows by number, in increasing order; the stream has no end.

    Attributes:
        digest: Names the sources by their files' names and sizes (content is not read through).
        num_dropped: Rows met so far that have nothing to learn.
        num_skipped: Rows met so far that could not be read.

    Args:
        taps: The sources.
        weights: How often rows of each come up, relative to the others.
        replay: General text to mix in.
        rows: Turns rows into tokens; used beside the training, so its tokenizer must be its own.
        settings: How rows are ordered and packed.
        notes: Folder that gets the lists of dropped and skipped rows; None for no lists.
    """

    def __init__(
        self,
        taps: Sequence[SourceStream],
        weights: Sequence[float],
        replay: SourceStream | None,
        rows: RowTokenizer,
        settings: StreamSettings,
        notes: Path | None = None,
    ):
        self._taps = taps
        self._replay = replay
        self._rows = rows
        self._settings = settings
        self._notes = notes
        self._noted = -1
        self._order = _turns(weights)
        self._first = 0
        self._window: list[dict[str, Any]] = []
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="stream")
        self._ahead: Future[_Window] | None = None
        self._begins: list[dict[str, Any]] = []
        self._debt = 0.0
        self._number = -1
        self.num_dropped = self.num_skipped = 0
        self.digest = cache_key("stream", *(_about(tap.located) for tap in self._all_taps()))

    def _all_taps(self) -> list[SourceStream]:
        return [*self._taps, *([self._replay] if self._replay else [])]

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return row `index`, as `RowTable` does.

        Raises:
            IndexError: The row lies before what is still remembered.
            DataError: The data cannot be read, or a whole window teaches nothing.
        """
        if index < self._first:
            self._rewind(index)
        while index >= self._first + len(self._window):
            self._advance()
        return self._window[index - self._first]

    def window(self) -> list[dict[str, Any]]:
        """Return the rows of the window that was read last."""
        return self._window

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to give the same rows from here on.

        Any row since the last few windows can be asked for afterwards, so rows that were fetched
        ahead and not yet trained on are not lost.
        """
        return {"version": 1, "digest": self.digest, "begins": list(self._begins)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where `state_dict` was taken.

        Raises:
            DataError: The sources are not the ones it was taken from.
        """
        if state["digest"] != self.digest:
            raise DataError(
                "the streamed data is not what the checkpoint was reading: a source has another "
                "name or size. Put it back, or start over"
            )
        self._begins = list(state["begins"])
        self._window, self._first = [], 0
        if self._begins:
            self._open(self._begins[-1])

    def _rewind(self, index: int) -> None:
        earlier = [begin for begin in self._begins if begin["first"] <= index]
        if not earlier:
            raise IndexError(f"row {index} of a stream that has moved on to row {self._first}")
        self._begins = earlier
        self._open(earlier[-1])

    def _open(self, begin: dict[str, Any]) -> None:
        self._forget_ahead()
        for tap, place in zip(self._all_taps(), begin["taps"], strict=True):
            tap.open(place)
        self._debt, self._number = begin["debt"], begin["window"] - 1
        self._first, self._window = begin["first"], []
        self._begins = [known for known in self._begins if known["window"] < begin["window"]]

    def _forget_ahead(self) -> None:
        """Leave the sources to nobody: what was read of the next window does not count."""
        if self._ahead is not None and not self._ahead.cancel():
            with suppress(DataError):
                self._ahead.result()
        self._ahead = None

    def _advance(self) -> None:
        number, first = self._number + 1, self._first + len(self._window)
        ahead, self._ahead = self._ahead, None
        window = ahead.result() if ahead else self._read(number, first)
        self._number, self._first, self._window = number, first, window.rows
        self._begins = [*self._begins[1 - _REMEMBERED :], window.begin]
        self._note(window.dropped, window.skipped)
        self._ahead = self._reader.submit(self._read, number + 1, first + len(window.rows))

    def _read(self, number: int, first: int) -> _Window:
        """Read the window that comes next in the sources."""
        begin = {
            "window": number,
            "first": first,
            "debt": self._debt,
            "taps": [tap.state() for tap in self._all_taps()],
        }
        window = _Window(begin, [], [], [])
        drawn = self._drawn()
        documents = self._tokenized(drawn, window)
        if not documents:
            raise DataError(
                f"none of the {len(drawn):,} rows from {_id(drawn[0])} on has anything to learn "
                f"within data.max_length {self._rows.max_length}. Raise it, or mend the data"
            )
        documents += self._replayed(sum(len(row.input_ids) for row in documents), window)
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

    def _drawn(self) -> list[Row | BadRecord]:
        drawn: list[Row | BadRecord] = []
        characters = 0
        while len(drawn) < WINDOW and characters < _WINDOW_CHARACTERS:
            tap = self._taps[self._order[len(drawn) % len(self._order)]]
            row = tap.draw()
            characters += characters_of(row)
            drawn.append(row)
        return drawn

    def _tokenized(self, drawn: Sequence[Row | BadRecord], window: _Window) -> list[TokenRow]:
        """Return what is to be learned, and note in the window what is not."""
        documents: list[TokenRow] = []
        skipped = [row for row in drawn if isinstance(row, BadRecord)]
        rows = [row for row in drawn if not isinstance(row, BadRecord)]
        for start in range(0, len(rows), _BATCH):
            for outcome in self._rows(rows[start : start + _BATCH]):
                if isinstance(outcome, Dropped):
                    window.dropped.append(outcome)
                elif isinstance(outcome, BadRecord):
                    skipped.append(outcome)
                else:
                    documents += outcome
        for bad in skipped:
            stop_at(bad, self._settings.on_error)
        window.skipped.extend(skipped)
        return documents

    def _note(self, dropped: Sequence[Dropped], skipped: Sequence[BadRecord]) -> None:
        """Count and list what is left out, each window once."""
        if self._number <= self._noted:
            return
        self._noted = self._number
        self.num_dropped += len(dropped)
        self.num_skipped += len(skipped)
        if self._notes is not None:
            lost = ({"id": row.id, "reason": row.reason} for row in dropped)
            bad = ({"id": row.origin, "reason": row.reason} for row in skipped)
            write_jsonl(self._notes / DROPPED, lost, append=True)
            write_jsonl(self._notes / SKIPPED, bad, append=True)

    def _replayed(self, tokens: int, window: _Window) -> list[TokenRow]:
        """Draw general text until its share is reached; what is too much is owed to the next."""
        share = self._settings.replay_share
        if self._replay is None or not share:
            return []
        self._debt += tokens * share / (1 - share)
        documents: list[TokenRow] = []
        fruitless = 0
        while self._debt > 0:
            found = self._tokenized([self._replay.draw()], window)
            fruitless = 0 if found else fruitless + 1
            if fruitless > WINDOW:
                raise DataError(f"data.replay: {self._replay.located.source.source} holds no text")
            documents += found
            self._debt -= sum(len(row.input_ids) for row in found)
        return documents


def _turns(weights: Sequence[float]) -> list[int]:
    """Return which source each row of a round is drawn from, evenly spread."""
    size = 1 if len(weights) == 1 else 256
    counts = allot(size, [size] * len(weights), weights)
    turns = [(place / count, i) for i, count in enumerate(counts) for place in range(count)]
    return [i for _, i in sorted(turns)]


def _about(located: ResolvedSource) -> tuple[object, ...]:
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

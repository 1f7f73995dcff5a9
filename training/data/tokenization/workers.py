"""Tokenize rows in several processes, where there is enough to do to be worth starting them."""

from __future__ import annotations

import functools
import multiprocessing
import os
import pickle
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory

from training.data.readers.records import BadRecord
from training.data.schema.rows import CompletionRow, Row, TextRow
from training.data.tokenization.row_tokenizer import Outcome, RowTokenizer

_PARALLEL = "TOKENIZERS_PARALLELISM"
_BATCH = 256
_WORTH_ROWS = 20_000
_WORTH_CHARACTERS = 20_000_000
"""Beyond either, other processes are started: that alone takes each of them two seconds."""


def tokenized(
    rows: Iterator[Row | BadRecord], tokenizer: RowTokenizer, workers: int
) -> Iterator[Outcome]:
    """Yield what becomes of each row, in order.

    Args:
        rows: Rows, and those that could not be read.
        tokenizer: Turns rows into tokens.
        workers: Processes to use when there is much to do.
    """
    batches = _batches(rows)
    if workers > 1:
        head, many = _head(batches)
        batches = chain(head, batches)
        if many:
            yield from _in_processes(batches, tokenizer, workers)
            return
    for batch in batches:
        with _threads():
            outcomes = _tokenize(batch, tokenizer)
        yield from outcomes


@contextmanager
def _threads() -> Iterator[None]:
    """Let the tokenizer use threads for as long as this lasts.

    It reads this variable at each call. Left on, it would warn and stall in processes forked later.
    """
    before = os.environ.get(_PARALLEL)
    os.environ[_PARALLEL] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_PARALLEL]
        else:
            os.environ[_PARALLEL] = before


def _batches(rows: Iterator[Row | BadRecord]) -> Iterator[list[Row | BadRecord]]:
    while batch := list(islice(rows, _BATCH)):
        yield batch


def _head(batches: Iterator[list[Row | BadRecord]]) -> tuple[list[list[Row | BadRecord]], bool]:
    """Read on until there is clearly much to do, or nothing more."""
    head = []
    count = characters = 0
    for batch in batches:
        head.append(batch)
        count += len(batch)
        characters += sum(map(characters_of, batch))
        if count >= _WORTH_ROWS or characters >= _WORTH_CHARACTERS:
            return head, True
    return head, False


def characters_of(row: Row | BadRecord) -> int:
    """Return how much text a row holds; other kinds of row are small."""
    if isinstance(row, TextRow):
        return len(row.text)
    if isinstance(row, CompletionRow):
        return len(row.prompt) + len(row.completion)
    messages = getattr(row, "messages", ())
    return sum(len(message["content"]) for message in messages)


def _tokenize(batch: list[Row | BadRecord], tokenizer: RowTokenizer) -> list[Outcome]:
    outcomes = iter(tokenizer([row for row in batch if not isinstance(row, BadRecord)]))
    return [row if isinstance(row, BadRecord) else next(outcomes) for row in batch]


def _in_processes(
    batches: Iterator[list[Row | BadRecord]], tokenizer: RowTokenizer, workers: int
) -> Iterator[Outcome]:
    # Spawned, not forked: a fork of a process that runs threads may never come back.
    context = multiprocessing.get_context("spawn")
    with TemporaryDirectory() as folder, ProcessPoolExecutor(workers, context) as pool:
        path = Path(folder) / "tokenizer"
        path.write_bytes(pickle.dumps(tokenizer))
        waiting: deque[Future[list[Outcome]]] = deque()
        try:
            for batch in batches:
                waiting.append(pool.submit(_work, path, batch))
                if len(waiting) > 4 * workers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


@functools.lru_cache(maxsize=1)
def _load(path: Path) -> RowTokenizer:
    os.environ[_PARALLEL] = "false"
    tokenizer: RowTokenizer = pickle.loads(path.read_bytes())
    return tokenizer


def _work(path: Path, batch: list[Row | BadRecord]) -> list[Outcome]:
    return _tokenize(batch, _load(path))

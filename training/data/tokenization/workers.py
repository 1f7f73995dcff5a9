"""Tokenization in several processes, for sources that are large enough to justify starting them."""

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
from training.data.tokenization.row_tokenizer import RowTokenizer
from training.data.tokenization.token_rows import Outcome
from training.environment_variables import environment_variables

_PARALLELISM = "TOKENIZERS_PARALLELISM"
_BATCH = 256
_PARALLEL_ROWS = 20_000
_PARALLEL_CHARACTERS = 20_000_000
"""Sizes beyond which worker processes are started, which takes each of them two seconds."""


def tokenize_rows(
    rows: Iterator[Row | BadRecord], tokenizer: RowTokenizer, workers: int
) -> Iterator[Outcome]:
    """Yield the result of each row, in order.

    Args:
        rows: Rows, including those that could not be read.
        tokenizer: Row tokenizer.
        workers: Processes to use for a large source.
    """
    batches = _batches(rows)
    if workers > 1:
        head, is_large = _read_ahead(batches)
        batches = chain(head, batches)
        if is_large:
            yield from _in_processes(batches, tokenizer, workers)
            return
    for batch in batches:
        with _tokenizer_threads():
            outcomes = _tokenize(batch, tokenizer)
        yield from outcomes


@contextmanager
def _tokenizer_threads() -> Iterator[None]:
    """Let the tokenizer use threads inside the context.

    `tokenizers` reads the variable at each call. If it stayed set, `tokenizers` would warn and
    could deadlock in processes that are forked later.
    """
    with environment_variables({_PARALLELISM: "true"}):
        yield


def _batches(rows: Iterator[Row | BadRecord]) -> Iterator[list[Row | BadRecord]]:
    while batch := list(islice(rows, _BATCH)):
        yield batch


def _read_ahead(
    batches: Iterator[list[Row | BadRecord]],
) -> tuple[list[list[Row | BadRecord]], bool]:
    """Return the first batches, and whether the source is large enough for worker processes."""
    head = []
    count = characters = 0
    for batch in batches:
        head.append(batch)
        count += len(batch)
        characters += sum(map(characters_of, batch))
        if count >= _PARALLEL_ROWS or characters >= _PARALLEL_CHARACTERS:
            return head, True
    return head, False


def characters_of(row: Row | BadRecord) -> int:
    """Return the number of characters of a row; kinds without text or messages count as 0."""
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
    # Spawned, not forked: forking a process with threads may deadlock.
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
    os.environ[_PARALLELISM] = "false"
    tokenizer: RowTokenizer = pickle.loads(path.read_bytes())
    return tokenizer


def _work(path: Path, batch: list[Row | BadRecord]) -> list[Outcome]:
    return _tokenize(batch, _load(path))

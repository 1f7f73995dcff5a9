"""Tables of token rows in Arrow files: written once, then memory-mapped by every process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from training.data.tokenization.encoder import Tokens
from training.data.tokenization.token_rows import IGNORE, TokenRow

if TYPE_CHECKING:
    import datasets

_BATCH = 1024
_INTS = pa.list_(pa.int32())
TOKEN_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("document", pa.int64()),
        ("input_ids", _INTS),
        ("labels", _INTS),
        ("split", pa.int32()),
        ("about", pa.string()),
        ("prompt", pa.int64()),
    ]
)
"""Schema of a tokenized source; `document` is the index of the source row."""
ROW_SCHEMA = pa.schema(
    [
        ("input_ids", _INTS),
        ("labels", _INTS),
        ("seq_lengths", _INTS),
        ("ids", pa.list_(pa.string())),
        ("about", pa.string()),
    ]
)
"""Schema of training rows: one document, several (packed), or both sides of a pair."""


class RowWriter:
    """Writer of rows to an Arrow stream, in batches."""

    def __init__(self, path: Path, schema: pa.Schema):
        self._schema = schema
        self._stream = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_stream(self._stream, schema)
        self._rows: list[tuple[Any, ...]] = []

    def add(self, *values: Any) -> None:
        """Append a row, its columns in the schema's order."""
        self._rows.append(values)
        if len(self._rows) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [
                _column(list(column), field.type)
                for column, field in zip(columns, self._schema, strict=True)
            ]
            self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))
            self._rows = []

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._flush()
        self._writer.close()
        self._stream.close()


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    if kind != _INTS:
        return pa.array(values, type=kind)
    offsets = np.zeros(len(values) + 1, dtype=np.int32)
    np.cumsum([len(value) for value in values], out=offsets[1:])
    flat = np.concatenate([np.asarray(value, dtype=np.int32) for value in values])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat))


class TokenStore:
    """Tokenized rows of one source, memory-mapped.

    Attributes:
        lengths: Tokens of each row.
        supervised: Supervised tokens of each row.
        documents: Index of the source row of each row, from 0.
        prompts: Digest of the prompt of each row; 0 if it has none.
    """

    def __init__(self, path: Path):
        table = pa.ipc.open_stream(pa.memory_map(str(path))).read_all()
        self._ids = table.column("id")
        self._splits = table.column("split").to_numpy()
        self._about = table.column("about")
        self._chunks = [
            (_flat(ids), _flat(labels))
            for ids, labels in zip(
                table.column("input_ids").chunks, table.column("labels").chunks, strict=True
            )
        ]
        sizes = [len(offsets) - 1 for (offsets, _), _ in self._chunks]
        self._starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        self.documents = table.column("document").to_numpy()
        self.prompts = table.column("prompt").to_numpy()
        self.lengths = _concatenated([np.diff(offsets) for (offsets, _), _ in self._chunks])
        self.supervised = _concatenated([_supervised_counts(*labels) for _, labels in self._chunks])

    def __len__(self) -> int:
        return len(self.documents)

    def id(self, index: int) -> str:
        """Return the id of a row."""
        return str(self._ids[index].as_py())

    def row(self, index: int) -> TokenRow:
        """Return a row as it was written."""
        ids, labels = self._tokens(index)
        about = str(self._about[index].as_py())
        return TokenRow(self.id(index), ids, labels, split=int(self._splits[index]), about=about)

    def _tokens(self, index: int) -> tuple[Tokens, Tokens]:
        chunk = int(np.searchsorted(self._starts, index, side="right")) - 1
        at = index - int(self._starts[chunk])
        (offsets, ids), (_, labels) = self._chunks[chunk]
        return ids[offsets[at] : offsets[at + 1]], labels[offsets[at] : offsets[at + 1]]


def _flat(array: Any) -> tuple[Any, Any]:
    return array.offsets.to_numpy(), array.values.to_numpy(zero_copy_only=False)


def _concatenated(parts: list[Any]) -> Any:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def _supervised_counts(offsets: Any, labels: Any) -> Any:
    running = np.concatenate([[0], np.cumsum(labels != IGNORE)])
    return running[offsets[1:]] - running[offsets[:-1]]


class RowTable:
    """Training rows: map-style and memory-mapped.

    Attributes:
        dataset: Columns `input_ids`, `labels` (-100 at unsupervised tokens), `seq_lengths` (tokens
            of each sequence of the row), `ids` (source rows) and `about` (metadata as JSON).
        num_tokens: Tokens of all rows.
        num_supervised: Supervised tokens of all rows.
        digest: Digest of the content and its order.
    """

    def __init__(
        self, dataset: datasets.Dataset, num_tokens: int, num_supervised: int, digest: str
    ):
        self.dataset = dataset
        self.num_tokens = num_tokens
        self.num_supervised = num_supervised
        self.digest = digest
        self._columns: dict[str, Sequence[Any]] = {}

    def add_column(self, name: str, values: Sequence[Any]) -> None:
        """Add a column in memory, such as the log-probabilities of a reference model."""
        assert len(values) == len(self), (len(values), len(self))
        self._columns[name] = values

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        import pyarrow.compute as pc

        lengths: list[int] = pc.list_value_length(self.dataset.data.column("input_ids")).to_pylist()
        return lengths

    @property
    def metadata_values(self) -> list[str]:
        """Distinct metadata values of the rows, as JSON."""
        values: list[str] = self.dataset.data.column("about").unique().to_pylist()
        return values

    def __getitem__(self, index: int) -> dict[str, Any]:
        row: dict[str, Any] = self.dataset[int(index)]
        return row | {name: values[index] for name, values in self._columns.items()}


def write_row_table(path: Path, rows: Iterable[Sequence[TokenRow]]) -> dict[str, Any]:
    """Write rows of one or several documents each, and return statistics for `load_row_table`."""
    digest = hashlib.sha256()
    tokens = supervised = count = 0
    longest = 0
    with RowWriter(path, ROW_SCHEMA) as writer:
        for documents in rows:
            ids = np.concatenate([document.input_ids for document in documents])
            labels = np.concatenate([document.labels for document in documents])
            parts = [length for document in documents for length in document.lengths]
            lengths = np.array(parts, dtype=np.int32)
            about = "".join(document.about for document in documents)
            for part in (ids, labels, lengths):
                digest.update(part.tobytes())
            digest.update(about.encode())
            writer.add(ids, labels, lengths, [document.id for document in documents], about)
            tokens += len(ids)
            supervised += int(np.count_nonzero(labels != IGNORE))
            longest = max(longest, len(ids))
            count += 1
    return {
        "rows": count,
        "num_tokens": tokens,
        "num_supervised": supervised,
        "longest": longest,
        "digest": digest.hexdigest(),
    }


def load_row_table(path: Path, about: dict[str, Any]) -> RowTable:
    """Return a table, memory-mapped, with the statistics that `write_row_table` returned."""
    import datasets

    dataset = datasets.Dataset.from_file(str(path))
    return RowTable(dataset, about["num_tokens"], about["num_supervised"], about["digest"])


def token_rows(store: TokenStore, indices: Iterable[int]) -> Iterator[TokenRow]:
    """Yield rows of a store by index."""
    for index in indices:
        yield store.row(index)

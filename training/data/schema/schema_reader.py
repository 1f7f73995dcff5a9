"""Reader of the records of one source, which detects their shape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from training.config.data import ShapeName, Source
from training.data.readers.records import SourceRecord
from training.data.schema.answer_readers import read_ranks
from training.data.schema.column_names import SPELLINGS, column_key, match_spellings
from training.data.schema.detection import (
    SETTLING_PARTS,
    WantedRows,
    detect_shape,
    has_text,
    needed_parts,
    preferred_shape,
    unread_columns,
    value_kind,
    with_conversation_as_prompt,
)
from training.data.schema.messages import unread_keys
from training.data.schema.preference_requests import with_request_as_prompt
from training.data.schema.row_readers import ROW_READERS
from training.data.schema.rows import RankingRow, Row, RowError, as_prompt
from training.data.schema.shape_errors import (
    list_columns,
    reject_labelled,
    reject_media,
    reject_unsuitable,
    unknown_shape_message,
)
from training.errors import DataError

_Signature: TypeAlias = tuple[tuple[str, ...], tuple[str, ...]]
"""Columns of a record, and the kinds of value in those that settle its shape."""


class SchemaReader:
    """Reader that converts the records of one source into the kind of row a method needs.

    The shape is detected once per set of columns and kinds of value in those that settle it: a
    null in the first row must not decide for labels in later ones.

    Args:
        source: Source as the job names it.
        want: Kind of row that the method trains on, or `any`.

    Attributes:
        unused_rows: Rows in which a column, or a key of messages, holds something and was not read.
    """

    def __init__(self, source: Source, want: WantedRows):
        self._source = source
        self._want = want
        self._detected: dict[_Signature, tuple[ShapeName, dict[str, str]]] = {}
        self._settling: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._unread: dict[_Signature, set[str]] = {}
        self.unused_rows: Counter[str] = Counter()

    @property
    def unused(self) -> set[str]:
        """Columns, and keys of messages, that hold something and were not read."""
        return set(self.unused_rows)

    @property
    def shapes(self) -> tuple[str, ...]:
        """Shapes detected so far."""
        # Copied first: the background thread of a stream may add to it.
        return tuple(sorted({shape for shape, _ in tuple(self._detected.values())}))

    def columns_of(self, record: SourceRecord) -> dict[str, str]:
        """Return the column of each part of a record that was read."""
        return self._detected[self._signature(record.values)][1]

    def read(self, record: SourceRecord) -> Row:
        """Return the typed row of a record.

        Raises:
            DataError: The columns fit no shape, or one that this method cannot train on.
            RowError: The shape is known, but the content of this record is invalid.
        """
        given = self._source.columns.values()
        record = replace(record, values=with_request_as_prompt(record.values, given))
        signature = self._signature(record.values)
        detected = self._detected.get(signature) or self._detected_without_nulls(signature)
        if detected is None:
            detected = self._resolve_or_reject(record)
        if signature not in self._detected:
            self._detected[signature] = detected
            self._unread[signature] = unread_columns(record, *detected)
        shape, columns = detected
        self._note_unread(record, signature, columns)
        if shape != "text" and self._want != "text":
            reject_media(record)
        row = ROW_READERS[shape](record.origin, record.values, columns)
        if self._want == "prompt":
            return as_prompt(row)
        if isinstance(row, RankingRow):
            column = columns["ranks"]
            return read_ranks(row, record.values[column], column, self._source.dimensions)
        return row

    def _signature(self, values: Mapping[str, Any]) -> _Signature:
        """Return a record's columns and the kinds of value in those that settle its shape."""
        names = tuple(values)
        if names not in self._settling:
            spellings = {spelling for part in SETTLING_PARTS for spelling in SPELLINGS[part]}
            given = {self._source.columns.get(part) for part in SETTLING_PARTS}
            self._settling[names] = tuple(
                name for name in names if column_key(name) in spellings or name in given
            )
        kinds = tuple(value_kind(values[name]) for name in self._settling[names])
        if self._want == "text" and kinds:
            # A conversation next to a text is learned in rows whose text is empty.
            columns = {**match_spellings(values), **self._source.columns}
            kinds = (*kinds, "text" if has_text(columns, values) else "no text")
        return names, kinds

    def _detected_without_nulls(
        self, signature: _Signature
    ) -> tuple[ShapeName, dict[str, str]] | None:
        """Return what an earlier record with the same columns settled, where this one has nulls."""
        names, kinds = signature
        if "null" not in kinds:
            return None
        for (other, others), detected in tuple(self._detected.items()):
            if other == names and all(
                kind in ("null", settled) for kind, settled in zip(kinds, others, strict=True)
            ):
                return detected
        return None

    def _note_unread(
        self, record: SourceRecord, signature: _Signature, columns: Mapping[str, str]
    ) -> None:
        """Note the columns, and keys of messages, that hold something and are not read."""
        unread = [
            name
            for name in self._unread[signature]
            if record.values[name] not in (None, "", [], {})
        ]
        self.unused_rows.update(unread)
        for name in set(columns.values()):
            value = record.values[name]
            if isinstance(value, list | dict | str):
                self.unused_rows.update(f"{name}[].{key}" for key in unread_keys(value))

    def _resolve_or_reject(self, record: SourceRecord) -> tuple[ShapeName, dict[str, str]]:
        """Resolve the shape of a record.

        An unknown shape of the first record means that the source as a whole is unusable; later it
        is an error of that record alone, which may be skipped.

        Raises:
            DataError: The shape of the first record is unknown.
            RowError: The shape of a later record is unknown.
        """
        if not self._detected:
            return self._resolve(record)
        try:
            return self._resolve(record)
        except DataError as error:
            raise RowError(str(error).removeprefix(f"{record.origin}: ")) from None

    def _resolve(self, record: SourceRecord) -> tuple[ShapeName, dict[str, str]]:
        columns = with_conversation_as_prompt(self._columns(record), record.values, self._want)
        shape = self._source.shape or preferred_shape(columns, self._want)
        shape = shape or detect_shape(columns, record.values, self._want)
        if shape is None:
            raise DataError(unknown_shape_message(record, columns))
        missing = [name for name in needed_parts(shape, columns) if name not in columns]
        if missing:
            raise DataError(
                f"{record.origin}: shape {shape} needs a column for {' and '.join(missing)}. "
                f"Columns found: {list_columns(record)}. "
                f"Name it: data.train.columns: {{{missing[0]}: YOUR_COLUMN}}"
            )
        reject_unsuitable(shape, self._want, record.origin)
        if self._source.dimensions and shape != "ranking":
            raise DataError(
                f"{record.origin}: data.train.dimensions weighs the ranks of answers, and this is "
                f"{shape}. Remove dimensions, or name columns for answers and ranks"
            )
        if shape in ("messages", "sharegpt") and self._source.shape is None:
            reject_labelled(shape, columns, record, self._want)
        return shape, columns

    def _columns(self, record: SourceRecord) -> dict[str, str]:
        """Return the column of each part of a shape.

        Raises:
            DataError: The job names a column or a part that does not exist.
        """
        matched = match_spellings(record.values)
        for part, column in self._source.columns.items():
            if column not in record.values:
                raise DataError(
                    f"{record.origin}: data.train.columns names {column!r}, which is not among the "
                    f"columns found: {list_columns(record)}"
                )
            if part not in SPELLINGS:
                raise DataError(
                    f"data.train.columns: {part!r} is not a part of any shape. "
                    f"Parts: {', '.join(SPELLINGS)}"
                )
            for other in [other for other, name in matched.items() if name == column]:
                del matched[other]
            matched[part] = column
        return matched

"""Detection of a record's shape by its columns.

The order of `_detect` is the order of precedence, which `docs/data.md` documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import replace
from typing import Any, TypeAlias

from training.config.data import ShapeName, Source
from training.config.method_base import RowKind
from training.data.readers.records import SourceRecord, abbreviate
from training.data.schema.columns import ROW_READERS, column_key, parse_bool, read_ranks
from training.data.schema.messages import unread_keys
from training.data.schema.preference_requests import with_request_as_prompt
from training.data.schema.rows import RankingRow, Row, RowError, as_prompt
from training.errors import DataError

# Spellings of a column, most specific first. Case, spaces, hyphens and underscores do not matter.
_NAMES: dict[str, tuple[str, ...]] = {
    "text": ("text", "content", "document", "body", "article", "passage", "code", "markdown"),
    "prompt": (
        "prompt", "question", "instruction", "query", "request", "user", "human", "input",
        "problem", "user_prompt", "input_text", "source_text",
    ),
    "completion": (
        "completion", "expected_completion", "response", "expected_response", "answer",
        "expected_answer", "best_answer", "correct_answer", "output", "expected_output", "target",
        "reply", "assistant", "solution", "canonical_solution", "expected", "output_text",
        "target_text",
    ),
    "context": ("context", "input"),
    "messages": ("messages", "message_list", "dialogue", "dialog", "chat"),
    "conversations": ("conversations", "conversation"),
    "chosen": ("chosen", "preferred", "accepted", "better"),
    "rejected": ("rejected", "dispreferred", "worse"),
    "answers": ("answers", "responses", "completions", "candidates"),
    "ranks": ("ranks", "ranking", "rank"),
    "label": ("label", "is_good", "desirable", "good"),
    "margin": ("margin",),
    "system": ("system", "system_prompt"),
    "tools": ("tools", "functions"),
    "history": ("history",),
    "reference": ("reference", "reference_answer", "ground_truth", "answer", "solution", "target"),
}  # fmt: skip

_Signature: TypeAlias = tuple[tuple[str, ...], tuple[str, ...]]
"""Columns of a record, and the kinds of value in those that settle its shape."""
_MEDIA = frozenset({"image", "images", "audio", "audios", "video", "videos"})
_LISTED = 12
"""Maximum number of columns that an error message lists."""

KNOWN_SHAPES = (
    "text: text",
    "prompt and completion: prompt | question | instruction | input, and "
    "completion | expected completion | response | answer | output | target",
    "Alpaca: instruction, input, output",
    "messages: messages (a list of role and content), tools",
    "ShareGPT: conversations (a list of from and value), tools",
    "preferences: chosen, rejected, prompt (or messages, conversations)",
    "ranking: prompt, answers (a list), ranks (a list, or one for each dimension; 1 is the best)",
    "good or bad: prompt, completion (or messages), label (true or false)",
    "prompts: prompt, and maybe a reference answer",
)
"""Shapes as an error message lists them."""

_NEEDS: dict[ShapeName, tuple[str, ...]] = {
    "text": ("text",),
    "prompt_completion": ("prompt", "completion"),
    "alpaca": ("prompt", "completion"),
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "preference": ("chosen", "rejected"),
    "ranking": ("prompt", "answers", "ranks"),
    "unpaired": ("prompt", "completion", "label"),
    "prompt": ("prompt",),
}

_READ: dict[ShapeName, tuple[str, ...]] = {
    "text": ("text",),
    "prompt_completion": ("prompt", "completion", "context", "system", "history", "tools"),
    "alpaca": ("prompt", "completion", "context", "system", "history", "tools"),
    "messages": ("messages", "system", "tools"),
    "sharegpt": ("conversations", "system", "tools"),
    "preference": (
        "prompt", "chosen", "rejected", "context", "system", "history", "tools", "margin",
    ),
    "ranking": ("prompt", "answers", "ranks", "context", "system", "history", "tools"),
    "unpaired": ("prompt", "completion", "label", "context", "system", "history", "tools"),
}  # fmt: skip
"""Parts that each shape reads; `prompt` reads every column, because rewards may."""
_SETTLING = ("label", "messages", "conversations")
"""Parts whose values, and not only their names, settle the shape of a record."""

_JUDGED: tuple[ShapeName, ...] = ("preference", "unpaired")
"""Shapes that take precedence over a conversation in the same record, if the method needs them."""


class SchemaReader:
    """Reader that converts the records of one source into the kind of row a method needs.

    The shape is detected once per set of columns and kinds of value in those that settle it: a
    null in the first row must not decide for labels in later ones.

    Args:
        source: Source as the job names it.
        want: Kind of row that the method trains on.
    """

    def __init__(self, source: Source, want: RowKind):
        self._source = source
        self._want = want
        self._detected: dict[_Signature, tuple[ShapeName, dict[str, str]]] = {}
        self._settling: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._unread: dict[_Signature, set[str]] = {}
        self.unused: set[str] = set()

    @property
    def shapes(self) -> tuple[str, ...]:
        """Shapes detected so far."""
        # Copied first: the background thread of a stream may add to it.
        return tuple(sorted({shape for shape, _ in tuple(self._detected.values())}))

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
            self._unread[signature] = _unread(record, *detected)
        shape, columns = detected
        self._note_unread(record, signature, columns)
        if shape != "text" and self._want != "text":
            _reject_media(record)
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
            spellings = {spelling for part in _SETTLING for spelling in _NAMES[part]}
            given = {self._source.columns.get(part) for part in _SETTLING}
            self._settling[names] = tuple(
                name for name in names if column_key(name) in spellings or name in given
            )
        return names, tuple(_kind(values[name]) for name in self._settling[names])

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
        pending = self._unread[signature]
        for name in tuple(pending):
            if record.values[name] not in (None, "", [], {}):
                self.unused.add(name)
                pending.discard(name)
        for name in set(columns.values()) - self.unused:
            value = record.values[name]
            if isinstance(value, list | dict | str):
                self.unused |= {f"{name}[].{key}" for key in unread_keys(value)}

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
        columns = _with_conversation_as_prompt(self._columns(record), record.values, self._want)
        shape = self._source.shape or _preferred_shape(columns, self._want)
        shape = shape or _detect(columns, record.values, self._want)
        if shape is None:
            raise DataError(_unknown(record, columns))
        missing = [name for name in _needed(shape, columns) if name not in columns]
        if missing:
            raise DataError(
                f"{record.origin}: shape {shape} needs a column for {' and '.join(missing)}. "
                f"Columns found: {_listed(record)}. "
                f"Name it: data.train.columns: {{{missing[0]}: YOUR_COLUMN}}"
            )
        _reject(shape, self._want, record.origin)
        if self._source.dimensions and shape != "ranking":
            raise DataError(
                f"{record.origin}: data.train.dimensions weighs the ranks of answers, and this is "
                f"{shape}. Remove dimensions, or name columns for answers and ranks"
            )
        if shape in ("messages", "sharegpt") and self._source.shape is None:
            _reject_labelled(shape, columns, record, self._want)
        return shape, columns

    def _columns(self, record: SourceRecord) -> dict[str, str]:
        """Return the column of each part of a shape.

        Raises:
            DataError: The job names a column or a part that does not exist.
        """
        matched = _match_spellings(record.values)
        for part, column in self._source.columns.items():
            if column not in record.values:
                raise DataError(
                    f"{record.origin}: data.train.columns names {column!r}, which is not among the "
                    f"columns found: {_listed(record)}"
                )
            if part not in _NAMES:
                raise DataError(
                    f"data.train.columns: {part!r} is not a part of any shape. "
                    f"Parts: {', '.join(_NAMES)}"
                )
            for other in [other for other, name in matched.items() if name == column]:
                del matched[other]
            matched[part] = column
        return matched


def _match_spellings(values: Mapping[str, Any]) -> dict[str, str]:
    present = {column_key(name): name for name in reversed(list(values))}
    matched = {}
    for part, spellings in _NAMES.items():
        for spelling in spellings:
            if spelling in present:
                matched[part] = present[spelling]
                break
    if matched.get("context") == matched.get("prompt"):
        matched.pop("context", None)
    return matched


def _with_conversation_as_prompt(
    columns: dict[str, str], values: Mapping[str, Any], want: RowKind
) -> dict[str, str]:
    """Return the columns, with a conversation as the prompt of a pair or as the labelled text."""
    conversations = [columns[name] for name in ("messages", "conversations") if name in columns]
    conversation = next(
        (column for column in conversations if _holds_messages(values[column])), None
    )
    if conversation is None:
        return columns
    matched = dict(columns)
    if want == "preference" and "prompt" not in matched and "chosen" in matched:
        side = values[matched["chosen"]]
        # If the chosen column holds complete conversations, this one is not a prompt.
        if not (isinstance(side, list) and len(side) > 1):
            matched["prompt"] = conversation
    if want == "unpaired" and "completion" not in matched:
        matched["completion"] = conversation
        matched.pop("prompt", None)
    return matched


def _needed(shape: ShapeName, columns: Mapping[str, str]) -> list[str]:
    """Return the required parts of a shape; a conversation contains its own prompt."""
    whole = columns.get("completion") in (columns.get("messages"), columns.get("conversations"))
    return [name for name in _NEEDS[shape] if not (whole and name == "prompt")]


def _preferred_shape(columns: Mapping[str, str], want: RowKind) -> ShapeName | None:
    fits = (s for s in _JUDGED if s == want and {*_NEEDS[s]} - {"prompt"} <= columns.keys())
    return next(fits, None)


def _detect(
    columns: Mapping[str, str], values: Mapping[str, Any], want: RowKind
) -> ShapeName | None:
    has = columns.keys()
    if want == "preference" and {"chosen", "rejected"} <= has:
        return "preference"
    if "messages" in has and _holds_messages(values[columns["messages"]]):
        return "messages"
    if "conversations" in has and _holds_messages(values[columns["conversations"]]):
        return "sharegpt"
    if {"chosen", "rejected"} <= has:
        return "preference"
    if {"prompt", "completion", "label"} <= has and _is_judgment(values[columns["label"]], want):
        return "unpaired"
    if want == "text" and "text" in has and isinstance(values[columns["text"]], str):
        return "text"
    if {"prompt", "completion"} <= has and want != "prompt":
        return "alpaca" if "context" in has else "prompt_completion"
    if "text" in has and want != "prompt" and isinstance(values[columns["text"]], str):
        return "text"
    return _shape_of_prompts(has, want) if "prompt" in has else None


def _shape_of_prompts(has: Set[str], want: RowKind) -> ShapeName:
    ranked = {"answers", "ranks"} <= has and want != "prompt"
    return "ranking" if ranked else "prompt"


def _is_judgment(value: Any, want: RowKind) -> bool:
    """Return whether a label says good or bad; for fine-tuning 0 and 1 do too."""
    return parse_bool(value) is not None or (
        want == "dialogue" and str(value).strip() in ("0", "1", "0.0", "1.0")
    )


def _kind(value: Any) -> str:
    """Return the kind of a value, as far as it matters to the shape of a record."""
    if value is None:
        return "null"
    if isinstance(value, list):
        return "list"
    if _is_judgment(value, "dialogue"):
        return "judgment"
    return "json" if isinstance(value, str) and value.lstrip().startswith("[") else "other"


def _unread(record: SourceRecord, shape: ShapeName, columns: Mapping[str, str]) -> set[str]:
    """Return the columns of a record that its shape does not read."""
    if shape not in _READ:
        return set()
    return set(record.values) - {columns[part] for part in _READ[shape] if part in columns}


def _holds_messages(value: Any) -> bool:
    return (isinstance(value, list) and all(isinstance(item, dict) for item in value)) or (
        isinstance(value, str) and value.lstrip().startswith("[")
    )


def _reject(shape: ShapeName, want: RowKind, origin: str) -> None:
    """Raise if the method should not train on rows of this shape.

    Raises:
        DataError: The shape does not suit the method.
    """
    if want not in ("text", "dialogue"):
        fits = {"preference": ("preference", "ranking"), "unpaired": ("unpaired",)}.get(want)
        if fits and shape not in fits:
            chosen = "temper feedback DATA makes pairs of labels that choose between two answers. "
            raise DataError(
                f"{origin}: this method learns from {' or '.join(fits)} rows, found {shape}. "
                f"{chosen if want == 'preference' else ''}Known shapes:\n  "
                + "\n  ".join(KNOWN_SHAPES)
            )
        return
    if shape == "preference":
        raise DataError(
            f"{origin}: this is a set of preferences (chosen and rejected). Use a method that "
            "learns from them (dpo, reward), or train on the chosen answers alone: "
            "data.train.columns: {prompt: prompt, completion: chosen} (columns: {text: chosen} "
            "with shape: text when each holds a whole transcript)"
        )
    if shape == "ranking":
        raise DataError(
            f"{origin}: this is a set of ranked answers (answers and ranks). Train a reward model "
            "on it (method: {kind: reward}), or name a column of answers to learn"
        )
    if shape == "unpaired":
        raise DataError(
            f"{origin}: this is a set of good and bad answers (label true or false); trained on as "
            "it is, the model would learn the bad ones too. Use a method that learns from it (kto),"
            " or keep the good rows (or all, if the label means something else) and set "
            "data.train.shape: prompt_completion"
        )
    if shape == "prompt":
        raise DataError(
            f"{origin}: there are prompts but no answers to train on. "
            "Name the column that holds them: data.train.columns: {completion: YOUR_COLUMN}"
        )


def _reject_labelled(
    shape: ShapeName, columns: Mapping[str, str], record: SourceRecord, want: RowKind
) -> None:
    """Raise if conversations have good and bad labels and all of them would be trained on.

    Raises:
        DataError: The conversations are labelled.
    """
    label = columns.get("label")
    if want == "dialogue" and label and _is_judgment(record.values[label], want):
        raise DataError(
            f"{record.origin}: these conversations are labelled good or bad ({label}: "
            f"{abbreviate(record.values[label])}); trained on as they are, the model would learn "
            f"the bad ones too. Keep the good ones (or all, if the label means something else) and "
            f"set data.train.shape: {shape}"
        )


def _reject_media(record: SourceRecord) -> None:
    """Raise for a row with an image, audio or video, without which its answer has no basis.

    Raises:
        RowError: The row refers to media.
    """
    for name, value in record.values.items():
        if value and column_key(name) in _MEDIA:
            raise RowError(
                f"column {name} is not text ({abbreviate(value)}), and only text is trained on. "
                "Remove the row, or the column if the answer can be given without it"
            )


def _listed(record: SourceRecord) -> str:
    names = [abbreviate(name) for name in record.values]
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return (", ".join(names[:_LISTED]) or "(none)") + more


def _unknown(record: SourceRecord, columns: Mapping[str, str]) -> str:
    example = next((name for name in record.values if name not in columns.values()), "YOUR_COLUMN")
    return (
        f"{record.origin}: the columns fit no known shape. Columns found: "
        f"{_listed(record)}. Known shapes:\n  "
        + "\n  ".join(KNOWN_SHAPES)
        + f"\nSay which column is which: data.train.columns: {{prompt: {example}, completion: …}} "
        f"or {{text: {example}}}"
    )

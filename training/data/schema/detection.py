"""Recognise the shape of a record by its columns, and read it into a typed row.

The order of `_recognise` is the order of precedence; `docs/data.md` shows it to the user.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.config.data import ShapeName, Source
from training.config.method_base import RowKind
from training.data.readers.records import SourceRecord, shown
from training.data.schema.columns import READ, column_key, truth
from training.data.schema.rows import Row, RowError, as_prompt
from training.errors import DataError

# Spellings of a column, most telling first. Case, spaces, hyphens and underscores do not matter.
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
    "label": ("label", "is_good", "desirable", "good"),
    "margin": ("margin",),
    "system": ("system", "system_prompt"),
    "tools": ("tools", "functions"),
    "history": ("history",),
    "reference": ("reference", "reference_answer", "ground_truth", "answer", "solution", "target"),
}  # fmt: skip

_MEDIA = frozenset({"image", "images", "audio", "audios", "video", "videos"})
_LISTED = 12
"""Columns that an error names."""

KNOWN = (
    "text: text",
    "prompt and completion: prompt | question | instruction | input, and "
    "completion | expected completion | response | answer | output | target",
    "Alpaca: instruction, input, output",
    "messages: messages (a list of role and content), tools",
    "ShareGPT: conversations (a list of from and value), tools",
    "preferences: chosen, rejected, prompt (or messages, conversations)",
    "good or bad: prompt, completion (or messages), label (true or false)",
    "prompts: prompt, and maybe a reference answer",
)
"""The shapes as an error message lists them."""

_NEEDS: dict[ShapeName, tuple[str, ...]] = {
    "text": ("text",),
    "prompt_completion": ("prompt", "completion"),
    "alpaca": ("prompt", "completion"),
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "preference": ("chosen", "rejected"),
    "unpaired": ("prompt", "completion", "label"),
    "prompt": ("prompt",),
}

_JUDGED: tuple[ShapeName, ...] = ("preference", "unpaired")
"""Shapes that a method wants as they are, whatever conversation stands beside."""


class SchemaReader:
    """Reads the records of one source into rows of the kind a method learns from.

    Args:
        source: As the job names it.
        want: The kind of row the method learns from.
    """

    def __init__(self, source: Source, want: RowKind):
        self._source = source
        self._want = want
        self._known: dict[tuple[str, ...], tuple[ShapeName, dict[str, str]]] = {}
        self.unused: set[str] = set()

    @property
    def shapes(self) -> tuple[str, ...]:
        """The shapes met so far."""
        # Copied first: a stream may be reading its next window meanwhile.
        return tuple(sorted({shape for shape, _ in tuple(self._known.values())}))

    def read(self, record: SourceRecord) -> Row:
        """Return the row a record holds.

        Raises:
            DataError: Its columns fit no shape, or a shape this method cannot learn from.
            RowError: The shape is known and this record's content is not usable.
        """
        signature = tuple(record.values)
        known = self._known.get(signature)
        if known is None:
            known = self._known[signature] = self._settle_or_fault(record)
        shape, columns = known
        if shape != "text" and self._want != "text":
            _refuse_media(record)
        row = READ[shape](record.origin, record.values, columns)
        return as_prompt(row) if self._want == "prompt" else row

    def _settle_or_fault(self, record: SourceRecord) -> tuple[ShapeName, dict[str, str]]:
        """Settle a shape; once others were, a record unlike them is its own fault."""
        if not self._known:
            return self._settle(record)
        try:
            return self._settle(record)
        except DataError as error:
            raise RowError(str(error).removeprefix(f"{record.origin}: ")) from None

    def _settle(self, record: SourceRecord) -> tuple[ShapeName, dict[str, str]]:
        columns = _with_talks(self._columns(record), record.values, self._want)
        shape = self._source.shape or _wanted(columns, self._want)
        shape = shape or _recognise(columns, record.values, self._want)
        if shape is None:
            raise DataError(_unknown(record, columns))
        missing = [name for name in _needed(shape, columns) if name not in columns]
        if missing:
            raise DataError(
                f"{record.origin}: shape {shape} needs a column for {' and '.join(missing)}. "
                f"Columns found: {_listed(record)}. "
                f"Name it: data.train.columns: {{{missing[0]}: YOUR_COLUMN}}"
            )
        _refuse(shape, self._want, record.origin)
        if shape in ("messages", "sharegpt") and self._source.shape is None:
            _refuse_judged(shape, columns, record, self._want)
        if shape == "text":
            self.unused |= set(record.values) - {columns["text"]}
        return shape, columns

    def _columns(self, record: SourceRecord) -> dict[str, str]:
        """Return which column of the record plays which part."""
        found = _spelled(record.values)
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
            for other in [other for other, name in found.items() if name == column]:
                del found[other]
            found[part] = column
        return found


def _spelled(values: Mapping[str, Any]) -> dict[str, str]:
    present = {column_key(name): name for name in reversed(list(values))}
    found = {}
    for part, spellings in _NAMES.items():
        for spelling in spellings:
            if spelling in present:
                found[part] = present[spelling]
                break
    if found.get("context") == found.get("prompt"):
        found.pop("context", None)
    return found


def _with_talks(
    columns: dict[str, str], values: Mapping[str, Any], want: RowKind
) -> dict[str, str]:
    """Return the columns, with a conversation as the prompt of a pair, or as what a label is of."""
    talks = [columns[name] for name in ("messages", "conversations") if name in columns]
    talk = next((column for column in talks if _holds_messages(values[column])), None)
    if talk is None:
        return columns
    found = dict(columns)
    if want == "preference" and "prompt" not in found and "chosen" in found:
        side = values[found["chosen"]]
        # Beside whole conversations it is one of them, or what they begin with.
        if not (isinstance(side, list) and len(side) > 1):
            found["prompt"] = talk
    if want == "unpaired" and "completion" not in found:
        found["completion"] = talk
        found.pop("prompt", None)
    return found


def _needed(shape: ShapeName, columns: Mapping[str, str]) -> list[str]:
    """Return the parts of a shape; the prompt of a conversation is in it."""
    whole = columns.get("completion") in (columns.get("messages"), columns.get("conversations"))
    return [name for name in _NEEDS[shape] if not (whole and name == "prompt")]


def _wanted(columns: Mapping[str, str], want: RowKind) -> ShapeName | None:
    fits = (s for s in _JUDGED if s == want and {*_NEEDS[s]} - {"prompt"} <= columns.keys())
    return next(fits, None)


def _recognise(
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
    if {"prompt", "completion", "label"} <= has and truth(values[columns["label"]]) is not None:
        return "unpaired"
    if want == "text" and "text" in has and isinstance(values[columns["text"]], str):
        return "text"
    if {"prompt", "completion"} <= has and want != "prompt":
        return "alpaca" if "context" in has else "prompt_completion"
    if "text" in has and want != "prompt" and isinstance(values[columns["text"]], str):
        return "text"
    if "prompt" in has:
        return "prompt"
    return None


def _holds_messages(value: Any) -> bool:
    return (isinstance(value, list) and all(isinstance(item, dict) for item in value)) or (
        isinstance(value, str) and value.lstrip().startswith("[")
    )


def _refuse(shape: ShapeName, want: RowKind, origin: str) -> None:
    """Stop where rows of this shape would teach something else than the method is meant to."""
    if want not in ("text", "dialogue"):
        fits = {"preference": ("preference",), "unpaired": ("unpaired",)}.get(want)
        if fits and shape not in fits:
            chosen = "make feedback DATA=… makes pairs of labels that choose between two answers. "
            raise DataError(
                f"{origin}: this method learns from {fits[0]} rows, found {shape}. "
                f"{chosen if want == 'preference' else ''}Known shapes:\n  " + "\n  ".join(KNOWN)
            )
        return
    if shape == "preference":
        raise DataError(
            f"{origin}: this is a set of preferences (chosen and rejected). Use a method that "
            "learns from them (dpo, reward), or train on the chosen answers alone: "
            "data.train.columns: {prompt: prompt, completion: chosen} (columns: {text: chosen} "
            "with shape: text when each holds a whole transcript)"
        )
    if shape == "unpaired":
        raise DataError(
            f"{origin}: this is a set of good and bad answers (label true or false); trained on as "
            "it is, the model would learn the bad ones too. Use a method that learns from it (kto),"
            " or keep the good rows and set shape: prompt_completion"
        )
    if shape == "prompt":
        raise DataError(
            f"{origin}: there are prompts here and no answers to learn. "
            "Name the column that holds them: data.train.columns: {completion: YOUR_COLUMN}"
        )


def _refuse_judged(
    shape: ShapeName, columns: Mapping[str, str], record: SourceRecord, want: RowKind
) -> None:
    """Stop where conversations are labelled good or bad, and all of them would be learned."""
    label = columns.get("label")
    if want == "dialogue" and label and truth(record.values[label]) is not None:
        raise DataError(
            f"{record.origin}: these conversations are labelled good or bad ({label}: "
            f"{shown(record.values[label])}); trained on as they are, the model would learn the bad"
            f" ones too. Keep the good ones and set data.train.shape: {shape}"
        )


def _refuse_media(record: SourceRecord) -> None:
    """Raise for a row about an image, a sound or a film: without it, its answer is made up."""
    for name, value in record.values.items():
        if value and column_key(name) in _MEDIA:
            raise RowError(
                f"column {name} holds what is not text ({shown(value)}), and only text is learned "
                "here. Remove the row, or the column if the answer can be given without it"
            )


def _listed(record: SourceRecord) -> str:
    names = [shown(name) for name in record.values]
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return (", ".join(names[:_LISTED]) or "(none)") + more


def _unknown(record: SourceRecord, columns: Mapping[str, str]) -> str:
    example = next((name for name in record.values if name not in columns.values()), "YOUR_COLUMN")
    return (
        f"{record.origin}: the columns fit no known shape. Columns found: "
        f"{_listed(record)}. Known shapes:\n  "
        + "\n  ".join(KNOWN)
        + f"\nSay which column is which: data.train.columns: {{prompt: {example}, completion: …}} "
        f"or {{text: {example}}}"
    )

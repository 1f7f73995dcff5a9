"""Recognise the shape of a record by its columns, and read it into a typed row.

The order of `_recognise` is the order of precedence; `docs/data.md` shows it to the user.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from training.config.data import ShapeName, Source
from training.config.methods import RowKind
from training.data.messages import (
    is_transcript,
    read_messages,
    read_tools,
    split_transcripts,
)
from training.data.records import Record, shown
from training.data.rows import (
    CompletionRow,
    DialogueRow,
    Message,
    PreferenceRow,
    PromptRow,
    Row,
    RowError,
    TextRow,
    UnpairedRow,
    as_prompt,
)
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
    "reference": ("reference", "reference_answer", "ground_truth", "answer", "solution", "target"),
}  # fmt: skip

KNOWN = (
    "text: text",
    "prompt and completion: prompt | question | instruction | input, and "
    "completion | expected completion | response | answer | output | target",
    "Alpaca: instruction, input, output",
    "messages: messages (a list of role and content), tools",
    "ShareGPT: conversations (a list of from and value), tools",
    "preferences: chosen, rejected, prompt",
    "good or bad: prompt, completion, label (true or false)",
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


class Reader:
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
        return tuple(sorted({shape for shape, _ in self._known.values()}))

    def read(self, record: Record) -> Row:
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
        row = _READ[shape](record.origin, record.values, columns)
        return as_prompt(row) if self._want == "prompt" else row

    def _settle_or_fault(self, record: Record) -> tuple[ShapeName, dict[str, str]]:
        """Settle a shape; once others were, a record unlike them is its own fault."""
        if not self._known:
            return self._settle(record)
        try:
            return self._settle(record)
        except DataError as error:
            raise RowError(str(error).removeprefix(f"{record.origin}: ")) from None

    def _settle(self, record: Record) -> tuple[ShapeName, dict[str, str]]:
        columns = self._columns(record)
        shape = self._source.shape or _recognise(columns, record.values, self._want)
        if shape is None:
            raise DataError(_unknown(record, columns))
        missing = [name for name in _NEEDS[shape] if name not in columns]
        if missing:
            raise DataError(
                f"{record.origin}: shape {shape} needs a column for {' and '.join(missing)}. "
                f"Columns found: {', '.join(map(shown, record.values))}. "
                f"Name it: data.train.columns: {{{missing[0]}: YOUR_COLUMN}}"
            )
        _refuse(shape, self._want, record.origin)
        if shape == "text":
            self.unused |= set(record.values) - {columns["text"]}
        return shape, columns

    def _columns(self, record: Record) -> dict[str, str]:
        """Return which column of the record plays which part."""
        found = _spelled(record.values)
        for part, column in self._source.columns.items():
            if column not in record.values:
                raise DataError(
                    f"{record.origin}: data.train.columns names {column!r}, which is not among the "
                    f"columns found: {', '.join(map(shown, record.values))}"
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


def _key(name: str) -> str:
    return re.sub(r"[\s_\-]+", "_", name.strip().lower())


def _spelled(values: Mapping[str, Any]) -> dict[str, str]:
    present = {_key(name): name for name in reversed(list(values))}
    found = {}
    for part, spellings in _NAMES.items():
        for spelling in spellings:
            if spelling in present:
                found[part] = present[spelling]
                break
    if found.get("context") == found.get("prompt"):
        found.pop("context", None)
    return found


def _recognise(
    columns: Mapping[str, str], values: Mapping[str, Any], want: RowKind
) -> ShapeName | None:
    has = columns.keys()
    if "messages" in has and _holds_messages(values[columns["messages"]]):
        return "messages"
    if "conversations" in has and _holds_messages(values[columns["conversations"]]):
        return "sharegpt"
    if {"chosen", "rejected"} <= has:
        return "preference"
    if {"prompt", "completion", "label"} <= has and _truth(values[columns["label"]]) is not None:
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
            raise DataError(
                f"{origin}: this method learns from {fits[0]} rows, found {shape}. "
                f"Known shapes:\n  " + "\n  ".join(KNOWN)
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


def _unknown(record: Record, columns: Mapping[str, str]) -> str:
    example = next((name for name in record.values if name not in columns.values()), "YOUR_COLUMN")
    return (
        f"{record.origin}: the columns fit no known shape. Columns found: "
        f"{', '.join(map(shown, record.values)) or '(none)'}. Known shapes:\n  "
        + "\n  ".join(KNOWN)
        + f"\nSay which column is which: data.train.columns: {{prompt: {example}, completion: …}} "
        f"or {{text: {example}}}"
    )


def _string(values: Mapping[str, Any], column: str, part: str, *, empty: bool = False) -> str:
    """Return a column as text; numbers are written out."""
    value = values[column]
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if value is None and empty:
        return ""
    if not isinstance(value, str):
        raise RowError(f"{column} is not text: {shown(value)}")
    if not value.strip() and not empty:
        raise RowError(f"the {part} is empty (column {column}). Fill it, or remove the row")
    return value


def _side(value: Any, column: str, part: str, role: str) -> str | list[Message]:
    """Return a side of a pair: text, or messages; a single message is a list of one."""
    if isinstance(value, dict):
        value = [value]
    if isinstance(value, list):
        return read_messages(value, column) if value else []
    return _string({column: value}, column, part)


def _read_text(origin: str, values: Mapping[str, Any], columns: Mapping[str, str]) -> Row:
    return TextRow(origin, _string(values, columns["text"], "text", empty=True))


def _read_completion(origin: str, values: Mapping[str, Any], columns: Mapping[str, str]) -> Row:
    prompt_column, column = columns["prompt"], columns["completion"]
    completion = _side(values[column], column, "completion", "assistant")
    prompt = values[prompt_column]
    if isinstance(prompt, str | int | float) and isinstance(completion, str):
        text = _string(values, prompt_column, "prompt", empty=True)
        context = ""
        if "context" in columns:
            context = _string(values, columns["context"], "context", empty=True).strip()
        if context:
            # A question comes after what it asks about, an instruction before its input.
            parts = (context, text) if _key(prompt_column) == "question" else (text, context)
            text = "\n\n".join(parts)
        return CompletionRow(origin, text, completion, _system(values, columns))
    messages = _as_messages(_side(prompt, prompt_column, "prompt", "user"), "user")
    answer = _as_messages(completion, "assistant")
    return DialogueRow(origin, messages + answer, _tools(values, columns), len(messages))


def _system(values: Mapping[str, Any], columns: Mapping[str, str]) -> str:
    if "system" not in columns:
        return ""
    return _string(values, columns["system"], "system", empty=True)


def _as_messages(side: str | list[Message], role: str) -> list[Message]:
    return [{"role": role, "content": side}] if isinstance(side, str) else side


def _tools(values: Mapping[str, Any], columns: Mapping[str, str]) -> list[dict[str, Any]] | None:
    return read_tools(values[columns["tools"]]) if "tools" in columns else None


def _read_dialogue(origin: str, values: Mapping[str, Any], column: str, columns: Any) -> Row:
    messages = read_messages(values[column], column)
    system = _system(values, columns)
    if system and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system})
    said = [m for m in messages if m["role"] == "assistant"]
    if said and not any(m["content"].strip() or m.get("tool_calls") for m in said):
        raise RowError("the assistant's answers are empty. Fill them, or remove the row")
    return DialogueRow(origin, messages, _tools(values, columns))


def _read_messages(origin: str, values: Mapping[str, Any], columns: Mapping[str, str]) -> Row:
    return _read_dialogue(origin, values, columns["messages"], columns)


def _read_sharegpt(origin: str, values: Mapping[str, Any], columns: Mapping[str, str]) -> Row:
    return _read_dialogue(origin, values, columns["conversations"], columns)


def _read_preference(origin: str, values: Mapping[str, Any], columns: Mapping[str, str]) -> Row:
    chosen = _side(values[columns["chosen"]], columns["chosen"], "chosen answer", "assistant")
    rejected = _side(
        values[columns["rejected"]], columns["rejected"], "rejected answer", "assistant"
    )
    if chosen == rejected:
        raise RowError("chosen and rejected are the same. Remove the row")
    prompt: str | list[Message]
    if "prompt" in columns:
        prompt = _side(values[columns["prompt"]], columns["prompt"], "prompt", "user")
    elif isinstance(chosen, str) and isinstance(rejected, str):
        if not (is_transcript(chosen) and is_transcript(rejected)):
            return PreferenceRow(origin, "", chosen, rejected)
        prompt, chosen, rejected = split_transcripts(chosen, rejected)
    else:
        prompt, chosen, rejected = _shared_prompt(chosen, rejected)
    if not chosen or not rejected:
        side = "chosen" if not chosen else "rejected"
        raise RowError(f"the {side} answer is empty (column {columns[side]}). Remove the row")
    if len({isinstance(side, str) for side in (prompt, chosen, rejected)}) > 1:
        prompt = _as_messages(prompt, "user")
        chosen, rejected = _as_messages(chosen, "assistant"), _as_messages(rejected, "assistant")
    return PreferenceRow(origin, prompt, chosen, rejected, _margin(values, columns))


def _margin(values: Mapping[str, Any], columns: Mapping[str, str]) -> float | None:
    if "margin" not in columns or values[columns["margin"]] is None:
        return None
    value = values[columns["margin"]]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RowError(f"{columns['margin']} is not a number: {shown(value)}")
    return float(value)


def _shared_prompt(
    chosen: str | list[Message], rejected: str | list[Message]
) -> tuple[list[Message], list[Message], list[Message]]:
    left, right = _as_messages(chosen, "assistant"), _as_messages(rejected, "assistant")
    shared = 0
    while shared < min(len(left), len(right)) - 1 and left[shared] == right[shared]:
        shared += 1
    if not shared and any(m["role"] != "assistant" for m in (*left, *right)):
        raise RowError(f"chosen and rejected begin with different prompts: {shown(left[0])}")
    return left[:shared], left[shared:], right[shared:]


def _truth(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    words = {"true": True, "false": False, "good": True, "bad": False, "yes": True, "no": False}
    return words.get(value.strip().lower()) if isinstance(value, str) else None


def _read_unpaired(origin: str, values: Mapping[str, Any], columns: Mapping[str, str]) -> Row:
    label = _truth(values[columns["label"]])
    if label is None:
        raise RowError(
            f"{columns['label']} is not true or false: {shown(values[columns['label']])}"
        )
    prompt = _side(values[columns["prompt"]], columns["prompt"], "prompt", "user")
    answer = _side(values[columns["completion"]], columns["completion"], "completion", "assistant")
    if isinstance(prompt, str) is not isinstance(answer, str):
        prompt, answer = _as_messages(prompt, "user"), _as_messages(answer, "assistant")
    return UnpairedRow(origin, prompt, answer, label)


def _read_prompt(origin: str, values: Mapping[str, Any], columns: Mapping[str, str]) -> Row:
    prompt = _side(values[columns["prompt"]], columns["prompt"], "prompt", "user")
    column = columns.get("reference", columns.get("completion"))
    reference = None
    if column is not None and isinstance(values[column], str | int | float):
        reference = _string(values, column, "reference", empty=True) or None
    others = {name: value for name, value in values.items() if name != columns["prompt"]}
    return PromptRow(origin, prompt, reference, others)


_READ: dict[ShapeName, Callable[[str, Mapping[str, Any], Mapping[str, str]], Row]] = {
    "text": _read_text,
    "prompt_completion": _read_completion,
    "alpaca": _read_completion,
    "messages": _read_messages,
    "sharegpt": _read_sharegpt,
    "preference": _read_preference,
    "unpaired": _read_unpaired,
    "prompt": _read_prompt,
}

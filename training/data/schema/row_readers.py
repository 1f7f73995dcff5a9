"""Conversion of a record of known shape into a typed row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from training.config.data import ShapeName
from training.data.schema.answer_readers import read_preference, read_ranking, read_unpaired
from training.data.schema.column_values import (
    read_side,
    read_string,
    read_system,
    read_tools_column,
)
from training.data.schema.messages import read_messages
from training.data.schema.prompts import (
    after_history,
    as_messages,
    prompt_with_context,
    with_system,
)
from training.data.schema.rows import (
    CompletionRow,
    DialogueRow,
    Message,
    PromptRow,
    Row,
    RowError,
    TextRow,
    prepend_system,
)


def _read_text(origin: str, values: Mapping[str, Any], columns: Mapping[str, str]) -> Row:
    return TextRow(origin, read_string(values, columns["text"], "text", empty=True))


def _read_completion(origin: str, values: Mapping[str, Any], columns: Mapping[str, str]) -> Row:
    column = columns["completion"]
    completion = read_side(values[column], column, "completion")
    given = prompt_with_context(values, columns, empty=True)
    prompt = after_history(given, values, columns)
    system, tools = read_system(values, columns), read_tools_column(values, columns)
    if isinstance(prompt, str) and isinstance(completion, str):
        return CompletionRow(origin, prompt, completion, system, tools)
    messages, _ = with_system(as_messages(prompt, "user"), system)
    assert isinstance(messages, list), "messages stay messages"
    # The answers in the history of a text prompt are learned, those in a prompt are context.
    answers_from = 0 if isinstance(given, str) and isinstance(completion, str) else len(messages)
    return DialogueRow(origin, messages + as_messages(completion, "assistant"), tools, answers_from)


def _read_dialogue(origin: str, values: Mapping[str, Any], column: str, columns: Any) -> Row:
    messages = read_messages(values[column], column)
    system = read_system(values, columns)
    if system and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system})
    answers = [m for m in messages if m["role"] == "assistant"]
    empty = [message for message in answers if not _says_anything(message)]
    if answers and len(empty) == len(answers):
        raise RowError("the assistant's answers are empty. Fill them, or remove the row")
    for message in answers:
        if message in empty:
            # Training on an empty answer would teach the model to end immediately.
            message["learned"] = False
    return DialogueRow(origin, messages, read_tools_column(values, columns))


def _says_anything(message: Message) -> bool:
    keys = ("tool_calls", "reasoning_content")
    return bool(message["content"].strip()) or any(message.get(key) for key in keys)


def _read_messages(origin: str, values: Mapping[str, Any], columns: Mapping[str, str]) -> Row:
    return _read_dialogue(origin, values, columns["messages"], columns)


def _read_sharegpt(origin: str, values: Mapping[str, Any], columns: Mapping[str, str]) -> Row:
    return _read_dialogue(origin, values, columns["conversations"], columns)


def _read_prompt(origin: str, values: Mapping[str, Any], columns: Mapping[str, str]) -> Row:
    prompt = after_history(prompt_with_context(values, columns), values, columns)
    prompt, system = with_system(prompt, read_system(values, columns))
    if isinstance(prompt, str):
        prompt = prepend_system(system, prompt)
    column = columns.get("reference", columns.get("completion"))
    reference = None
    if column is not None:
        reference = _read_reference(values, column)
    others = {name: value for name, value in values.items() if name != columns["prompt"]}
    return PromptRow(origin, prompt, reference, others, read_tools_column(values, columns))


def _read_reference(values: Mapping[str, Any], column: str) -> str | None:
    """Return the right answer of a prompt; None if the column holds none that is text or a number.

    A list of one answer is that answer. Of several, it is not known whether one of them is enough.
    """
    value = values[column]
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str | int | float):
        return None
    return read_string({column: value}, column, "reference", empty=True) or None


ROW_READERS: dict[ShapeName, Callable[[str, Mapping[str, Any], Mapping[str, str]], Row]] = {
    "text": _read_text,
    "prompt_completion": _read_completion,
    "alpaca": _read_completion,
    "messages": _read_messages,
    "sharegpt": _read_sharegpt,
    "preference": read_preference,
    "ranking": read_ranking,
    "unpaired": read_unpaired,
    "prompt": _read_prompt,
}
"""Reader of each shape; it takes a record's origin, its values and the column of each part."""

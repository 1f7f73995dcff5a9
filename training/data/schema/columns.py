"""Conversion of a record of known shape into a typed row."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any

import orjson

from training.config.data import ShapeName
from training.data.readers.json_values import parse_json
from training.data.readers.records import abbreviate
from training.data.schema.messages import (
    is_transcript,
    read_history,
    read_messages,
    read_tools,
    split_transcripts,
)
from training.data.schema.rankings import parse_rankings, ranked_pairs
from training.data.schema.rows import (
    CompletionRow,
    DialogueRow,
    Message,
    PreferenceRow,
    PromptRow,
    RankingRow,
    Row,
    RowError,
    TextRow,
    UnpairedRow,
    prepend_system,
)


def column_key(name: str) -> str:
    """Return a column's name without case, spaces, hyphens and underscores."""
    return re.sub(r"[\s_\-]+", "_", name.strip().lower())


def _string(values: Mapping[str, Any], column: str, part: str, *, empty: bool = False) -> str:
    """Return a column as text; numbers are converted.

    Raises:
        RowError: The value is not text, or it is empty.
    """
    value = values[column]
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if value is None and empty:
        return ""
    if not isinstance(value, str):
        raise RowError(f"{column} is not text: {abbreviate(value)}")
    if not value.strip() and not empty:
        raise RowError(f"the {part} is empty (column {column}). Fill it, or remove the row")
    return value


def _side(value: Any, column: str, part: str, role: str) -> str | list[Message]:
    """Return a prompt or an answer as text or messages, which may be JSON in a text column.

    A single message becomes a list of one.
    """
    if isinstance(value, str) and value.lstrip().startswith(('[{"', '{"role"')):
        value = _messages_of(value)
    if isinstance(value, dict):
        value = [value]
    if isinstance(value, list):
        return read_messages(value, column) if value else []
    return _string({column: value}, column, part)


def _messages_of(text: str) -> Any:
    """Return the messages that a text encodes in JSON; other text is returned unchanged."""
    try:
        value = parse_json(text)
    except orjson.JSONDecodeError:
        return text
    items = value if isinstance(value, list) else [value]
    are_messages = all(isinstance(item, dict) and {"role", "from"} & item.keys() for item in items)
    return value if are_messages else text


def _read_text(origin: str, values: Mapping[str, Any], columns: Mapping[str, str]) -> Row:
    return TextRow(origin, _string(values, columns["text"], "text", empty=True))


def _read_completion(origin: str, values: Mapping[str, Any], columns: Mapping[str, str]) -> Row:
    column = columns["completion"]
    completion = _side(values[column], column, "completion", "assistant")
    given = _prompt_with_context(values, columns, empty=True)
    prompt = _after_history(given, values, columns)
    system, tools = _system(values, columns), _tools(values, columns)
    if isinstance(prompt, str) and isinstance(completion, str):
        return CompletionRow(origin, prompt, completion, system, tools)
    messages, _ = _with_system(_as_messages(prompt, "user"), system)
    assert isinstance(messages, list), "messages stay messages"
    # The answers in the history of a text prompt are learned, those in a prompt are context.
    answers_from = 0 if isinstance(given, str) and isinstance(completion, str) else len(messages)
    return DialogueRow(
        origin, messages + _as_messages(completion, "assistant"), tools, answers_from
    )


def _with_context(
    prompt: str | list[Message], values: Mapping[str, Any], columns: Mapping[str, str]
) -> str | list[Message]:
    """Return a prompt with its context, if there is a context column.

    In a prompt of messages the context goes to the last message.

    Raises:
        RowError: There is a context, and the last message is not the user's.
    """
    if isinstance(prompt, str):
        return _text_with_context(prompt, values, columns)
    text = _text_with_context("", values, columns).strip()
    if not text:
        return prompt
    if not prompt or prompt[-1]["role"] != "user":
        raise RowError(
            f"the context (column {columns['context']}) has no user message to stand in: the "
            f"prompt ends in {abbreviate(prompt[-1:])}. Put the context into the messages"
        )
    content = _text_with_context(prompt[-1]["content"], values, columns)
    return [*prompt[:-1], {**prompt[-1], "content": content}]


def _text_with_context(text: str, values: Mapping[str, Any], columns: Mapping[str, str]) -> str:
    if "context" not in columns:
        return text
    context = _string(values, columns["context"], "context", empty=True).strip()
    if not context:
        return text
    # A question follows its context, an instruction precedes its input.
    question = column_key(columns["prompt"]) == "question"
    return "\n\n".join((context, text) if question else (text, context))


def _system(values: Mapping[str, Any], columns: Mapping[str, str]) -> str:
    if "system" not in columns:
        return ""
    return _string(values, columns["system"], "system", empty=True)


def _as_messages(side: str | list[Message], role: str) -> list[Message]:
    return [{"role": role, "content": side}] if isinstance(side, str) else side


def _history(values: Mapping[str, Any], columns: Mapping[str, str]) -> list[Message]:
    """Return the turns before a prompt, if there is a history column."""
    column = columns.get("history")
    return [] if column is None else read_history(values[column], column)


def _tools(values: Mapping[str, Any], columns: Mapping[str, str]) -> list[dict[str, Any]] | None:
    return read_tools(values[columns["tools"]]) if "tools" in columns else None


def _read_dialogue(origin: str, values: Mapping[str, Any], column: str, columns: Any) -> Row:
    messages = read_messages(values[column], column)
    system = _system(values, columns)
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
    return DialogueRow(origin, messages, _tools(values, columns))


def _says_anything(message: Message) -> bool:
    keys = ("tool_calls", "reasoning_content")
    return bool(message["content"].strip()) or any(message.get(key) for key in keys)


def _read_messages(origin: str, values: Mapping[str, Any], columns: Mapping[str, str]) -> Row:
    return _read_dialogue(origin, values, columns["messages"], columns)


def _read_sharegpt(origin: str, values: Mapping[str, Any], columns: Mapping[str, str]) -> Row:
    return _read_dialogue(origin, values, columns["conversations"], columns)


def _read_preference(origin: str, values: Mapping[str, Any], columns: Mapping[str, str]) -> Row:
    chosen = _side(values[columns["chosen"]], columns["chosen"], "chosen answer", "assistant")
    rejected = _side(
        values[columns["rejected"]], columns["rejected"], "rejected answer", "assistant"
    )
    if _stripped(chosen) == _stripped(rejected):
        raise RowError("chosen and rejected are the same. Remove the row")
    prompt: str | list[Message]
    if "prompt" in columns:
        prompt = _prompt_with_context(values, columns)
        prompt, (chosen, rejected) = _split_conversations(prompt, [chosen, rejected])
    elif isinstance(chosen, str) and isinstance(rejected, str):
        prompt = ""
        if is_transcript(chosen) and is_transcript(rejected):
            prompt, chosen, rejected = split_transcripts(chosen, rejected)
    else:
        prompt, chosen, rejected = _shared_prompt(chosen, rejected)
    if not chosen or not rejected:
        side = "chosen" if not chosen else "rejected"
        raise RowError(f"the {side} answer is empty (column {columns[side]}). Remove the row")
    prompt = _after_history(prompt, values, columns)
    if len({isinstance(side, str) for side in (prompt, chosen, rejected)}) > 1:
        prompt = _as_messages(prompt, "user")
        chosen, rejected = _as_messages(chosen, "assistant"), _as_messages(rejected, "assistant")
    prompt, system = _with_system(prompt, _system(values, columns))
    margin, tools = _margin(values, columns), _tools(values, columns)
    return PreferenceRow(origin, prompt, chosen, rejected, margin, system, tools)


def _read_ranking(origin: str, values: Mapping[str, Any], columns: Mapping[str, str]) -> Row:
    """Return the answers of a ranking; `read_ranks`, which knows the weights, makes the pairs.

    Raises:
        RowError: The answers cannot be ranked.
    """
    column = columns["answers"]
    listed = _listed_in(values[column], column)
    if len(listed) < 2:
        raise RowError(f"{column} holds {len(listed)} answers; a ranking needs two or more")
    answers = [
        _side(value, f"{column}[{n}]", "answer", "assistant") for n, value in enumerate(listed)
    ]
    for one, other in combinations(range(len(answers)), 2):
        if _stripped(answers[one]) == _stripped(answers[other]):
            raise RowError(f"{column}[{one}] and {column}[{other}] are the same. Remove one")
    prompt, sides = _split_conversations(_prompt_with_context(values, columns), answers)
    if not all(sides):
        raise RowError(f"an answer is empty (column {column}). Remove it with its rank")
    prompt = _after_history(prompt, values, columns)
    if len({isinstance(side, str) for side in (prompt, *sides)}) > 1:
        prompt = _as_messages(prompt, "user")
        sides = [_as_messages(side, "assistant") for side in sides]
    prompt, system = _with_system(prompt, _system(values, columns))
    return RankingRow(origin, prompt, sides, [], system, _tools(values, columns))


def read_ranks(
    row: RankingRow, value: Any, column: str, weights: Mapping[str, float]
) -> RankingRow:
    """Return a row of ranked answers with the pairs that its ranks make.

    Args:
        row: The row.
        value: Its ranks, as in the source.
        column: Column that holds them, for messages.
        weights: Weights of the dimensions; equal if empty.

    Raises:
        RowError: The ranks cannot be used.
    """
    if isinstance(value, str):
        with contextlib.suppress(orjson.JSONDecodeError):
            value = parse_json(value)
    rankings = parse_rankings(value, column, len(row.answers), weights)
    return replace(row, pairs=ranked_pairs(rankings, weights))


def _listed_in(value: Any, column: str) -> list[Any]:
    """Return a column's list, which may be JSON in a text column.

    Raises:
        RowError: It holds no list.
    """
    if isinstance(value, str):
        with contextlib.suppress(orjson.JSONDecodeError):
            value = parse_json(value)
    if not isinstance(value, list):
        raise RowError(f"{column} is not a list of answers: {abbreviate(value)}")
    return value


def _stripped(side: str | list[Message]) -> str | list[Message]:
    return side.strip() if isinstance(side, str) else side


def _prompt_with_context(
    values: Mapping[str, Any], columns: Mapping[str, str], *, empty: bool = False
) -> str | list[Message]:
    """Return the prompt with its context."""
    column = columns["prompt"]
    if (
        empty
        and not isinstance(values[column], list | dict)
        and not str(values[column] or "").strip()
    ):
        return _with_context(_string(values, column, "prompt", empty=True), values, columns)
    return _with_context(_side(values[column], column, "prompt", "user"), values, columns)


def _after_history(
    prompt: str | list[Message], values: Mapping[str, Any], columns: Mapping[str, str]
) -> str | list[Message]:
    """Return a prompt after its earlier turns, if there is a history column."""
    earlier = _history(values, columns)
    return [*earlier, *_as_messages(prompt, "user")] if earlier else prompt


def _split_conversations(
    prompt: str | list[Message], sides: list[str | list[Message]]
) -> tuple[str | list[Message], list[Any]]:
    """Return the prompt and the answers to it.

    The answers may be complete conversations that repeat the prompt, which is removed from them.
    """
    conversations = [side for side in sides if isinstance(side, list) and len(side) > 1]
    if len(conversations) != len(sides):
        return prompt, sides
    turns = _as_messages(prompt, "user")
    # A system message may precede the prompt in the conversations.
    most = min(map(len, conversations)) - len(turns)
    for start in range(max(0, most)):
        stop = start + len(turns)
        if all(side[:stop] == conversations[0][:start] + turns for side in conversations):
            return conversations[0][:stop], [side[stop:] for side in conversations]
    return prompt, sides


def _with_system(prompt: str | list[Message], system: str) -> tuple[str | list[Message], str]:
    """Return a prompt and its system text; a prompt of messages takes the system text in."""
    if isinstance(prompt, str) or not system:
        return prompt, system
    if prompt and prompt[0]["role"] == "system":
        return prompt, ""
    return [{"role": "system", "content": system}, *prompt], ""


def _margin(values: Mapping[str, Any], columns: Mapping[str, str]) -> float | None:
    if "margin" not in columns or values[columns["margin"]] is None:
        return None
    value = values[columns["margin"]]
    if isinstance(value, str):
        if not value.strip():
            return None
        with contextlib.suppress(ValueError):
            value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RowError(f"{columns['margin']} is not a number: {abbreviate(value)}")
    return float(value)


def _shared_prompt(
    chosen: str | list[Message], rejected: str | list[Message]
) -> tuple[list[Message], list[Message], list[Message]]:
    left, right = _as_messages(chosen, "assistant"), _as_messages(rejected, "assistant")
    shared = 0
    while shared < min(len(left), len(right)) - 1 and left[shared] == right[shared]:
        shared += 1
    if not shared and any(m["role"] != "assistant" for m in (*left, *right)):
        raise RowError(f"chosen and rejected begin with different prompts: {abbreviate(left[0])}")
    return left[:shared], left[shared:], right[shared:]


def parse_bool(value: Any) -> bool | None:
    """Return a label as a bool; None if it is neither true nor false."""
    if isinstance(value, bool):
        return value
    words = {"true": True, "false": False, "good": True, "bad": False, "yes": True, "no": False}
    return words.get(value.strip().lower()) if isinstance(value, str) else None


_LABELS = {
    **dict.fromkeys(("1", "1.0", "👍", "up", "like", "desirable", "positive", "accepted"), True),
    **dict.fromkeys(("0", "0.0", "👎", "down", "dislike", "undesirable", "negative"), False),
}


def parse_label(value: Any) -> bool | None:
    """Return `parse_bool` of more spellings, for columns that are known to hold labels."""
    label = parse_bool(value)
    return _LABELS.get(str(value).strip().lower()) if label is None else label


def _read_unpaired(origin: str, values: Mapping[str, Any], columns: Mapping[str, str]) -> Row:
    label = parse_label(values[columns["label"]])
    if label is None:
        raise RowError(
            f"{columns['label']} is not true or false: {abbreviate(values[columns['label']])}"
        )
    answer = _side(values[columns["completion"]], columns["completion"], "completion", "assistant")
    prompt: str | list[Message]
    if "prompt" in columns:
        prompt, (answer,) = _split_conversations(_prompt_with_context(values, columns), [answer])
    else:
        prompt, answer = _split_last_answer(answer, columns["completion"])
    prompt = _after_history(prompt, values, columns)
    if isinstance(prompt, str) is not isinstance(answer, str):
        prompt, answer = _as_messages(prompt, "user"), _as_messages(answer, "assistant")
    prompt, system = _with_system(prompt, _system(values, columns))
    return UnpairedRow(origin, prompt, answer, label, system, _tools(values, columns))


def _split_last_answer(
    conversation: str | list[Message], column: str
) -> tuple[list[Message], str | list[Message]]:
    """Return a conversation without its last answer, and that answer.

    Raises:
        RowError: The conversation does not end with an answer.
    """
    if (
        isinstance(conversation, str)
        or len(conversation) < 2
        or conversation[-1]["role"] != "assistant"
    ):
        found = abbreviate(conversation)
        raise RowError(f"{column} does not end with an answer of the assistant: {found}")
    return conversation[:-1], conversation[-1:]


def _read_prompt(origin: str, values: Mapping[str, Any], columns: Mapping[str, str]) -> Row:
    prompt = _after_history(_prompt_with_context(values, columns), values, columns)
    prompt, system = _with_system(prompt, _system(values, columns))
    if isinstance(prompt, str):
        prompt = prepend_system(system, prompt)
    column = columns.get("reference", columns.get("completion"))
    reference = None
    if column is not None and isinstance(values[column], str | int | float):
        reference = _string(values, column, "reference", empty=True) or None
    others = {name: value for name, value in values.items() if name != columns["prompt"]}
    return PromptRow(origin, prompt, reference, others, _tools(values, columns))


ROW_READERS: dict[ShapeName, Callable[[str, Mapping[str, Any], Mapping[str, str]], Row]] = {
    "text": _read_text,
    "prompt_completion": _read_completion,
    "alpaca": _read_completion,
    "messages": _read_messages,
    "sharegpt": _read_sharegpt,
    "preference": _read_preference,
    "ranking": _read_ranking,
    "unpaired": _read_unpaired,
    "prompt": _read_prompt,
}
"""Reader of each shape; it takes a record's origin, its values and the column of each part."""

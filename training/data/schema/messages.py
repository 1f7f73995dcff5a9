"""Parsing of conversations: lists of messages, ShareGPT, and transcripts in plain text."""

from __future__ import annotations

import re
from typing import Any

import orjson

from training.data.readers.json_values import parse_json
from training.data.readers.records import abbreviate
from training.data.schema.rows import REASONING_KEYS, Message, RowError, ToolArguments

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "customer": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "bard": "assistant",
    "bing": "assistant",
    "agent": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "function_response": "tool",
    "tool_response": "tool",
    "ipython": "tool",
}
_CALLS = frozenset({"function_call", "tool_call"})
_WEIGHTS = ("weight", "loss_weight", "train", "training", "loss")
"""Keys by which other tools mark whether a message is trained on."""
_TURN = re.compile(r"\n\n(Human|Assistant):[ ]?")


_READ_KEYS = frozenset(
    {"role", "from", "content", "value", "name", "tool_calls", "function_call", "tool_call_id"}
    | {*_WEIGHTS, *REASONING_KEYS}
)


_SAYS = frozenset({"content", "value", "tool_calls", "function_call"})
"""Keys of a message of which it has one at least."""


def encoded_messages(text: str) -> list[Any] | None:
    """Return the messages that a text encodes in JSON; None for other text.

    JSON with a role and nothing that a message says, such as `{"role": "agent", "api": …}`, is an
    answer of its own format, and stays text.
    """
    if not text.lstrip().startswith(('[{"', '{"role"')):
        return None
    try:
        value = parse_json(text)
    except orjson.JSONDecodeError:
        return None
    items = value if isinstance(value, list) else [value]
    are_messages = all(
        isinstance(item, dict) and {"role", "from"} & item.keys() and _SAYS & item.keys()
        for item in items
    )
    return items if are_messages else None


def unread_keys(value: Any) -> set[str]:
    """Return the keys of messages that are not read, though one of them has a value."""
    if isinstance(value, str):
        value = encoded_messages(value)
    messages = value if isinstance(value, list) else [value]
    return {
        key
        for message in messages
        if isinstance(message, dict) and {"role", "from"} & message.keys()
        for key in message.keys() - _READ_KEYS
        if message[key] not in (None, "", [], {})
    }


def read_messages(value: Any, column: str) -> list[Message]:
    """Return a conversation written as a list of `role`/`content` or `from`/`value` objects.

    Raises:
        RowError: It is not a conversation, or a role or content is invalid.
    """
    if isinstance(value, str):
        value = _parse(value, column)
    if not isinstance(value, list) or not value:
        raise RowError(f"{column} is not a list of messages: {abbreviate(value)}")
    return [_message(item, column, index) for index, item in enumerate(value)]


def _message(item: Any, column: str, index: int) -> Message:
    where = f"{column}[{index}]"
    if not isinstance(item, dict):
        raise RowError(f"{where} is not a message with a role and content: {abbreviate(item)}")
    role_name = item.get("role") or item.get("from")
    role = _ROLES.get(str(role_name).lower())
    if role_name is None:
        raise RowError(
            f"{where} has no role (nor from): its keys are {abbreviate(', '.join(map(str, item)))}"
        )
    if role is None:
        raise RowError(
            f"{where} has the role {abbreviate(role_name)}. Known: system, user, assistant, tool "
            "(ShareGPT: human, gpt, function_call, observation)"
        )
    content = item.get("content")
    content = _content(item.get("value") if content is None else content, where)
    if str(role_name).lower() in _CALLS:
        calls = _calls(content, where)
        return {"role": role, "content": "", "tool_calls": calls}
    message: Message = {"role": role, "content": content}
    calls_key = next((key for key in ("tool_calls", "function_call") if item.get(key)), None)
    if calls_key:
        message["tool_calls"] = _calls(item[calls_key], f"{where}.{calls_key}")
    if role == "assistant" and not _is_learned(item, where):
        message["learned"] = False
    if isinstance(item.get("name"), str):
        message["name"] = item["name"]
    if isinstance(item.get("tool_call_id"), str):
        message["tool_call_id"] = item["tool_call_id"]
    if reasoning := _reasoning(item, where):
        message["reasoning_content"] = reasoning
    return message


def _reasoning(item: dict[str, Any], where: str) -> str:
    """Return the reasoning before an answer, by whichever key the data names it.

    Raises:
        RowError: Two keys hold different reasoning.
    """
    given = {
        key: item[key]
        for key in REASONING_KEYS
        if isinstance(item.get(key), str) and item[key].strip()
    }
    if thinking := _thinking(item.get("content")):
        given["content[].thinking"] = thinking
    if len(set(given.values())) > 1:
        raise RowError(
            f"{where} has different reasoning in {' and '.join(given)}: keep one of these keys"
        )
    return next(iter(given.values()), "")


def _thinking(content: Any) -> str:
    """Return the reasoning in parts `{"type": "thinking", "thinking": …}`.

    https://docs.anthropic.com/en/api/messages describes them.
    """
    if not isinstance(content, list):
        return ""
    return "".join(part["thinking"] for part in content if _is_thinking(part))


def _is_thinking(part: Any) -> bool:
    return (
        isinstance(part, dict)
        and part.get("type") == "thinking"
        and isinstance(part.get("thinking"), str)
    )


def _content(value: Any, where: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, dict) for part in value):
        return "".join(_part(part, where) for part in value if not _is_thinking(part))
    raise RowError(f"{where} has content that is not text: {abbreviate(value)}")


def _part(part: dict[str, Any], where: str) -> str:
    text = part.get("text")
    if text is None and part.get("type") == "text":
        text = part.get("value")
    if isinstance(text, str):
        return text
    raise RowError(
        f"{where} has a part that is not text ({abbreviate(part.get('type') or part)}); only text "
        "is trained on. Describe its content as text, or remove the row"
    )


def _is_learned(item: dict[str, Any], where: str) -> bool:
    """Return whether a message is trained on, by keys such as `weight: 0` or `train: false`.

    Raises:
        RowError: The value is neither 0 nor 1.
    """
    key = next((key for key in _WEIGHTS if item.get(key) is not None), None)
    if key is None:
        return True
    if item[key] not in (0, 1):
        raise RowError(
            f"{where}.{key} is {abbreviate(item[key])}; a message is trained on (1 or true) or not "
            "(0 or false); fractions are not supported"
        )
    return bool(item[key])


def _calls(value: Any, where: str) -> list[dict[str, Any]]:
    """Return tool calls in the form chat templates read, their arguments as objects."""
    if isinstance(value, str):
        value = _parse(value, where)
    calls = value if isinstance(value, list) else [value]
    return [_call(call, where) for call in calls]


def _call(call: Any, where: str) -> dict[str, Any]:
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RowError(f"{where} is not a call with a name and arguments: {abbreviate(call)}")
    arguments = function.get("arguments", function.get("parameters", {}))
    if isinstance(arguments, str):
        parsed = _arguments(arguments)
        arguments = ToolArguments(parsed, arguments) if isinstance(parsed, dict) else parsed
    written = {"name": function["name"], "arguments": arguments}
    id_ = {"id": call["id"]} if isinstance(call.get("id"), str) else {}
    return {"type": "function", **id_, "function": written}


def _arguments(text: str) -> Any:
    """Return the arguments of a call as an object, or as text if they are not JSON."""
    try:
        return parse_json(text) if text.strip() else {}
    except orjson.JSONDecodeError:
        return text


def read_history(value: Any, column: str) -> list[Message]:
    """Return the turns before a prompt, from a list of question-answer pairs or of messages.

    Raises:
        RowError: It is neither.
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = _parse(value, column)
    if not isinstance(value, list) or not value:
        return []
    if all(isinstance(turn, dict) for turn in value):
        return read_messages(value, column)
    messages: list[Message] = []
    for index, turn in enumerate(value):
        pair = list(turn) if isinstance(turn, list | tuple) else []
        if len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise RowError(
                f"{column}[{index}] is not a question and its answer, two texts: {abbreviate(turn)}"
            )
        messages.append({"role": "user", "content": pair[0]})
        messages.append({"role": "assistant", "content": pair[1]})
    return messages


def read_tools(value: Any) -> list[dict[str, Any]] | None:
    """Return the tools of a record as JSON schemas; None if it has none.

    Raises:
        RowError: It is neither a list of schemas nor a list in JSON.
    """
    if isinstance(value, str):
        value = _parse(value, "tools") if value.strip() else None
    if not value:
        return None
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise RowError(f"tools is not a list of function schemas: {abbreviate(value)}")
    return [
        tool if "function" in tool else {"type": "function", "function": tool} for tool in value
    ]


def _parse(text: str, where: str) -> Any:
    try:
        return parse_json(text)
    except orjson.JSONDecodeError as error:
        raise RowError(f"{where} is not JSON ({error.msg}): {abbreviate(text)}") from None


def is_transcript(text: str) -> bool:
    r"""Return whether `text` is a transcript, `\n\nHuman: … \n\nAssistant: …`."""
    return text.startswith("\n\nHuman:") and "\n\nAssistant:" in text


def split_transcripts(chosen: str, rejected: str) -> tuple[str, str, str]:
    """Return the shared prompt and the two answers of a pair of transcripts.

    Raises:
        RowError: The two do not share a prompt.
    """
    shared = 0
    for turn in _TURN.finditer(chosen):
        if turn[1] == "Assistant" and rejected.startswith(chosen[: turn.end()].rstrip(" ")):
            shared = len(chosen[: turn.end()].rstrip(" "))
    if not shared:
        raise RowError(f"chosen and rejected begin with different dialogues: {abbreviate(chosen)}")
    return chosen[:shared], chosen[shared:], rejected[shared:]


def transcript_messages(text: str) -> list[Message]:
    """Return the messages of a transcript."""
    parts = _TURN.split(text)[1:]
    roles = {"Human": "user", "Assistant": "assistant"}
    return [
        {"role": roles[who], "content": text.strip()}
        for who, text in zip(parts[::2], parts[1::2], strict=True)
    ]

"""Messages in the form in which a chat template reads them."""

from __future__ import annotations

import json
import re
from typing import Any

from training.data.schema.rows import REASONING_KEYS, Message, ToolArguments
from training.data.templates.chat_template import ChatTemplate
from training.data.tokenization.encoder import Encoder


def messages_for(
    template: ChatTemplate,
    source: str,
    messages: list[Message],
    encoder: Encoder,
    *,
    text_arguments: bool = False,
) -> list[Message]:
    """Return messages as a template reads them, with control tokens escaped.

    Args:
        template: The chat template.
        source: The source of it that renders them.
        messages: Messages of a row.
        encoder: Encoder that escapes control tokens in the content.
        text_arguments: Give the arguments of calls as JSON text, for templates that join text.
    """
    key = reasoning_key(source)
    written = []
    for message in messages:
        fields = {name: value for name, value in message.items() if name != "learned"}
        if "reasoning_content" in fields:
            fields[key] = fields.pop("reasoning_content")
        if fields.get("tool_calls"):
            fields["tool_calls"] = [_call(call, text_arguments) for call in fields["tool_calls"]]
        assistant_tokens = (
            template.assistant_tokens if message["role"] == "assistant" else frozenset()
        )
        written.append(escape(fields, encoder, assistant_tokens))
    return written


def reasoning_key(source: str) -> str:
    """Return the key from which a template reads reasoning: the first that its source names."""
    read = (key for key in REASONING_KEYS if re.search(rf"[.'\"]{key}\b", source))
    return next(read, REASONING_KEYS[0])


def escape(value: Any, encoder: Encoder, assistant_tokens: frozenset[str] = frozenset()) -> Any:
    """Return `value` with the control tokens in all its texts escaped.

    Args:
        value: Text, or lists and objects of text.
        encoder: Encoder that knows the control tokens.
        assistant_tokens: Control tokens that are not escaped.
    """
    if isinstance(value, str):
        return encoder.escape_control_tokens(value, allowed=assistant_tokens)
    if isinstance(value, list):
        return [escape(item, encoder, assistant_tokens) for item in value]
    if isinstance(value, dict):
        return {key: escape(item, encoder, assistant_tokens) for key, item in value.items()}
    return value


def _call(call: dict[str, Any], text_arguments: bool) -> dict[str, Any]:
    """Return a call with its arguments as an object, or as the text that the data has."""
    arguments = call["function"]["arguments"]
    if not text_arguments or isinstance(arguments, str):
        return call
    given = arguments.text if isinstance(arguments, ToolArguments) else ""
    text = given.strip() or json.dumps(arguments, ensure_ascii=False)
    return {**call, "function": {**call["function"], "arguments": text}}

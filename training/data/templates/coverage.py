"""Proof that a template renders everything that a conversation holds.

A template without tool support renders a call as an empty answer, which would be learned: the model
would answer nothing. So each part of a conversation (contents, reasoning, calls and their
arguments, tools) is replaced by a word that occurs nowhere else, and every such word must be in the
template's output. A conversation of contents alone is compared directly, which is faster.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Collection
from typing import Any

from training.data.readers.records import abbreviate
from training.data.schema.rows import REASONING_KEYS, Message, RowError

Render = Callable[[list[Message], Any], str]


class _Probe:
    """Copy of a conversation in which each part is a word of its own.

    Args:
        messages: Messages as the template reads them.
        tools: Tools as JSON schemas, or None.
        answers: Indices of the messages whose reasoning must be rendered. Templates leave that of
            earlier answers out on purpose, in training as at inference.
    """

    def __init__(self, messages: list[Message], tools: Any, answers: Collection[int]):
        self.parts: dict[str, tuple[str, str]] = {}
        self.tools = copy.deepcopy(tools)
        self.messages = copy.deepcopy(messages)
        for tool in self.tools or []:
            self._replace_tool(tool)
        for index, message in enumerate(self.messages):
            self._replace_message(
                message, f"message {index + 1} ({message['role']})", index in answers
            )

    def _word(self, value: Any, what: str) -> str:
        word = f"zq{len(self.parts)}qz"
        self.parts[word] = (what, str(value))
        return word

    def _replace_tool(self, tool: dict[str, Any]) -> None:
        function = tool.get("function")
        if not isinstance(function, dict):
            return
        name = function.get("name")
        if isinstance(name, str):
            function["name"] = self._word(name, "the tools")
        description = function.get("description")
        if isinstance(description, str) and description.strip():
            function["description"] = self._word(description, f"the description of tool {name}")
        self._replace_parameters(function.get("parameters"), f"the parameters of tool {name}")

    def _replace_parameters(self, schema: Any, what: str) -> None:
        """Replace the names of a tool's parameters, and those in its list of required ones."""
        properties = schema.get("properties") if isinstance(schema, dict) else None
        if not isinstance(properties, dict):
            return
        words = {key: self._word(key, what) for key in properties}
        schema["properties"] = {words[key]: value for key, value in properties.items()}
        if isinstance(schema.get("required"), list):
            schema["required"] = [words.get(key, key) for key in schema["required"]]

    def _replace_message(self, message: Message, where: str, learned: bool) -> None:
        if message["content"].strip():
            message["content"] = self._word(message["content"], f"the content of {where}")
        for key in REASONING_KEYS:
            if learned and message.get(key):
                message[key] = self._word(message[key], f"the reasoning of {where}")
        for call in message.get("tool_calls") or []:
            function = call["function"]
            what = f"the tool call of {where}"
            function["name"] = self._word(function["name"], what)
            function["arguments"] = self._replace_arguments(function["arguments"], what)

    def _replace_arguments(self, arguments: Any, what: str) -> Any:
        if not isinstance(arguments, str):
            return self._replace_leaves(arguments, what)
        try:
            values = json.loads(arguments)
        except ValueError:
            return self._word(arguments, what) if arguments.strip() else arguments
        return json.dumps(self._replace_leaves(values, what), ensure_ascii=False)

    def _replace_leaves(self, value: Any, what: str) -> Any:
        if isinstance(value, dict):
            return {key: self._replace_leaves(item, what) for key, item in value.items()}
        if isinstance(value, list):
            return [self._replace_leaves(item, what) for item in value]
        return self._word(value, what) if isinstance(value, str) and value.strip() else value


def verify_coverage(
    render: Render,
    messages: list[Message],
    tools: Any,
    text: str,
    answers: Collection[int],
    name: str,
) -> None:
    """Check that a rendered conversation holds everything that it was rendered from.

    Args:
        render: Renders messages and tools with the same template.
        messages: Messages as the template reads them.
        tools: Tools as JSON schemas, or None.
        text: The rendered conversation.
        answers: Indices of the messages that are learned.
        name: Name of the template, for the error message.

    Raises:
        RowError: The template omits a part.
    """
    if not _has_more_than_contents(messages, tools) and _in_order(messages, text):
        return
    probe = _Probe(messages, tools, answers)
    try:
        probed = render(probe.messages, probe.tools)
        missing = [part for word, part in probe.parts.items() if word not in probed]
    except RowError:
        # The template accepts certain values only, so the values themselves must be found.
        missing = [part for part in probe.parts.values() if part[1].strip() not in text]
    if missing:
        what, value = missing[0]
        more = {other for other, _ in missing[1:]} - {what}
        also = f" (and {', '.join(sorted(more))})" if more else ""
        raise RowError(
            f"the chat template ({name}) does not write {what}{also}: {abbreviate(value)}. Trained "
            "on without it, the model would learn from less than the row holds. Choose a template "
            "that writes it, for instance model.chat_template: chatml, or remove it from the row"
        )


def _has_more_than_contents(messages: list[Message], tools: Any) -> bool:
    keys = ("tool_calls", *REASONING_KEYS)
    return bool(tools) or any(
        message["role"] == "tool" or any(message.get(key) for key in keys) for message in messages
    )


def _in_order(messages: list[Message], text: str) -> bool:
    """Return whether the contents stand in the text one after the other."""
    at = 0
    for message in messages:
        content = message["content"].strip()
        found = text.find(content, at)
        if found < 0:
            return False
        at = found + len(content)
    return True

"""Rows of a preparation: columns of a standard shape, and the texts inside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import orjson

from training.config.data import ShapeName

Scalar: TypeAlias = str | int | float | bool
Path: TypeAlias = tuple[str | int, ...]
"""Keys and indices that lead to a text in the columns of a row."""
Role: TypeAlias = Literal[
    "text", "system", "prompt", "answer", "user", "assistant", "tool", "reasoning", "arguments",
    "column", "tools", "name", "tag",
]  # fmt: skip
"""`column` is a text in a column of a prompt that only rewards read, `tools` one in the schemas of
functions, `name` the name of a participant, `tag` a tag with a value of the data."""
_AROUND: frozenset[Role] = frozenset(("column", "tools", "name", "tag"))

_ROLE_OF_COLUMN: Mapping[str, Role] = {
    "text": "text",
    "system": "system",
    "prompt": "prompt",
    "completion": "answer",
    "chosen": "answer",
    "rejected": "answer",
    "answers": "answer",
    "reference": "answer",
}
_STANDARD = frozenset((*_ROLE_OF_COLUMN, "messages", "tools"))
_IDENTIFIERS = frozenset(("name", "type", "format", "required", "$ref"))
"""Keys of a function's schema whose values are identifiers."""


@dataclass(frozen=True, slots=True)
class TextPart:
    """One text of a row.

    Attributes:
        path: Where it is in the columns.
        role: Its role in the row.
        text: The text.
    """

    path: Path
    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class PreparedRow:
    """Row of a data set that is being prepared.

    Attributes:
        id: Origin of the row, unique in a preparation: `tickets.jsonl:17`.
        source: Label of its source.
        shape: Shape of its columns: `text`, `prompt_completion`, `messages`, `preference`,
            `ranking`, `unpaired` or `prompt`.
        columns: Columns, named as docs/data.md names them. Arguments of tool calls and `tools` are
            JSON texts.
        group: Key that keeps related rows on one side of a split, such as a document or a user.
        tags: Values that steps have measured, such as the language, and columns kept as tags.
        tags_of_source: Names of the tags whose values come from the data.
        report_by: Values of the columns of `prepare.report.by`; no shard holds them.
    """

    id: str
    source: str
    shape: ShapeName
    columns: dict[str, Any]
    group: str = ""
    tags: dict[str, Scalar] = field(default_factory=dict)
    tags_of_source: tuple[str, ...] = ()
    report_by: dict[str, str] = field(default_factory=dict)

    def parts(self) -> list[TextPart]:
        """Return the texts of the row in reading order; texts without content are left out."""
        tags = ((name, self.tags.get(name)) for name in self.tags_of_source)
        of_tags = [TextPart((name,), "tag", tag) for name, tag in tags if isinstance(tag, str)]
        return [part for part in (*_parts(self.columns), *of_tags) if part.text.strip()]

    def content(self) -> list[TextPart]:
        """Return the parts that a row says, without columns for rewards, tools, names and tags.

        Rules that judge or compare what a row says read these; rules that must find a value
        wherever it is read `parts()`.
        """
        return [part for part in self.parts() if part.role not in _AROUND]

    def with_texts(self, texts: Sequence[str]) -> PreparedRow:
        """Return the row with other texts in place of those of `parts()`.

        Texts inside the arguments of tool calls stay strings of valid JSON.
        """
        parts = self.parts()
        columns = orjson.loads(orjson.dumps(self.columns)) if parts else self.columns
        arguments: dict[Path, Any] = {}
        tags = dict(self.tags)
        for part, text in zip(parts, texts, strict=True):
            if text != part.text and part.role == "tag":
                tags[str(part.path[0])] = text
            elif text != part.text:
                _put(columns, arguments, part.path, text)
        for path, value in arguments.items():
            _container(columns, path)[path[-1]] = orjson.dumps(value).decode()
        return replace(self, columns=columns, tags=tags)

    def with_tags(self, tags: Mapping[str, Scalar]) -> PreparedRow:
        """Return the row with further tags."""
        return replace(self, tags={**self.tags, **tags}) if tags else self


def _parts(columns: Mapping[str, Any]) -> Iterator[TextPart]:
    for name in ("text", "system", "prompt", "completion", "messages", "chosen", "rejected"):
        if name in columns:
            yield from _column(columns[name], (name,), _ROLE_OF_COLUMN.get(name, "text"))
    for index, answer in enumerate(columns.get("answers") or ()):
        yield from _column(answer, ("answers", index), "answer")
    if isinstance(columns.get("reference"), str):
        yield TextPart(("reference",), "answer", columns["reference"])
    if isinstance(columns.get("tools"), str):
        for part in _strings(_parsed(columns["tools"]), ("tools",), "tools"):
            key = next(step for step in reversed(part.path) if isinstance(step, str))
            if key not in _IDENTIFIERS:
                yield part
    for name, value in columns.items():
        if name not in _STANDARD:
            yield from _strings(value, (name,), "column")


def _column(value: Any, path: Path, role: Role) -> Iterator[TextPart]:
    if isinstance(value, str):
        yield TextPart(path, role, value)
    elif isinstance(value, list):
        for index, message in enumerate(value):
            yield from _message(message, (*path, index))


def _message(message: Mapping[str, Any], path: Path) -> Iterator[TextPart]:
    if message.get("reasoning_content"):
        yield TextPart((*path, "reasoning_content"), "reasoning", message["reasoning_content"])
    yield TextPart((*path, "content"), message["role"], message.get("content") or "")
    if message.get("name") and message["role"] != "tool":  # there it is that of a function
        yield TextPart((*path, "name"), "name", message["name"])
    for index, call in enumerate(message.get("tool_calls") or ()):
        where = (*path, "tool_calls", index, "function", "arguments")
        yield from _strings(_parsed(call["function"]["arguments"]), where, "arguments")


def _parsed(arguments: str) -> Any:
    """Return the arguments of a tool call, or their text if it is not JSON."""
    try:
        return orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return arguments


def _strings(value: Any, path: Path, role: Role) -> Iterator[TextPart]:
    if isinstance(value, str):
        yield TextPart(path, role, value)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _strings(item, (*path, key), role)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _strings(item, (*path, index), role)


def _container(columns: Any, path: Path) -> Any:
    for step in path[:-1]:
        columns = columns[step]
    return columns


def _put(columns: Any, arguments: dict[Path, Any], path: Path, text: str) -> None:
    """Write a text into the columns; values inside JSON texts are collected and written later."""
    end = _json_end(path)
    if end in (0, len(path)):
        _container(columns, path)[path[-1]] = text
        return
    root, inner = path[:end], path[end:]
    if root not in arguments:
        arguments[root] = _parsed(_container(columns, root)[root[-1]])
    _container(arguments[root], inner)[inner[-1]] = text


def _json_end(path: Path) -> int:
    """Return the length of the path to the JSON text that holds a value; 0 if none does."""
    if path[0] == "tools":
        return 1
    if len(path) > 2 and "tool_calls" in path[2:] and path[0] in _STANDARD:
        return path.index("arguments") + 1
    return 0

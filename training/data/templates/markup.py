"""Markup of turns in the data itself: texts that a chat template has already been applied to.

Such a text is wrapped twice. Its own markup is encoded as plain text, because data must not be able
to end a turn, so the model would learn from a conversation within a conversation.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from training.data.schema.pairs import row_sequences
from training.data.schema.rows import CompletionRow, DialogueRow, PromptRow, Row, RowError
from training.errors import DataError

_QUESTION, _ANSWER, _NEXT = "zqquestionqz", "zqanswerqz", "zqnextqz"
_NOT_A_WORD = re.compile(r"[^\w\s]")


@dataclass(frozen=True)
class TurnMarkup:
    """Markup that a template writes around turns.

    Attributes:
        tokens: Special tokens of the tokenizer that content does not hold as tokens.
        openings: Other text with which a user's turn begins: `[INST]`.
        heads: Other text with which an answer begins: `### Response:`.
    """

    tokens: tuple[str, ...] = ()
    openings: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()

    def find(self, content: str, *, answer: bool = False) -> str:
        """Return the first markup in a message's content; empty if there is none.

        Args:
            content: Content of a message.
            answer: Whether it is the assistant's.
        """
        token = _any_of(self.tokens).search(content) if self.tokens else None
        if token:
            return token[0]
        if answer:
            return ""
        # Elsewhere in a text, words such as "### Response:" may be what it is about.
        text = content.strip()
        found = [
            *(opening for opening in self.openings if text.startswith(opening)),
            *(head for head in self.heads if text.endswith(head)),
        ]
        return found[0] if found else ""

    def find_in_row(self, row: Row) -> str:
        """Return the first markup in the messages of a row; empty if there is none."""
        for content, answer in _contents(row):
            found = self.find(content, answer=answer)
            if found:
                return found
        return ""


def turn_markup(
    render: Callable[[list[dict[str, Any]], bool], str],
    control: Sequence[str],
    not_markup: frozenset[str],
) -> TurnMarkup:
    """Return the markup of a template.

    Args:
        render: Renders messages, with or without the head of the next answer.
        control: Special tokens of the tokenizer.
        not_markup: Those that the assistant says itself, and those of padding and unknown words.
    """
    tokens = tuple(token for token in control if token and token not in not_markup)
    user = {"role": "user", "content": _QUESTION}
    turns = [user, {"role": "assistant", "content": _ANSWER}, {"role": "user", "content": _NEXT}]
    try:
        head = render([user], True).partition(_QUESTION)[2]
        between = render(turns, False).partition(_ANSWER)[2].partition(_NEXT)[0]
    except (RowError, DataError):
        return TurnMarkup(tokens)
    openings, heads = _fragments(between, control), _fragments(head, control)
    return TurnMarkup(tokens, openings[-1:], heads[-1:])


def _fragments(text: str, control: Sequence[str]) -> tuple[str, ...]:
    """Return the parts of a template's output between special tokens that are not plain words."""
    specials = [token for token in control if token]
    parts = _any_of(tuple(specials)).split(text) if specials else [text]
    lines = (line.strip() for part in parts for line in part.splitlines())
    return tuple(line for line in lines if _NOT_A_WORD.search(line))


@functools.lru_cache(maxsize=16)
def _any_of(tokens: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(tokens, key=len, reverse=True))))


def _contents(row: Row) -> Iterator[tuple[str, bool]]:
    """Yield each content of a row that a template renders, and whether it is an answer."""
    if isinstance(row, PromptRow):
        if isinstance(row.prompt, str):
            yield row.prompt, False
        else:
            yield from ((m["content"], m["role"] == "assistant") for m in row.prompt)
        return
    for side in row_sequences(row, templated=True):
        if isinstance(side, CompletionRow):
            yield from ((side.system, False), (side.prompt, False), (side.completion, True))
        elif isinstance(side, DialogueRow):
            yield from ((m["content"], m["role"] == "assistant") for m in side.messages)

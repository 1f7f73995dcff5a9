"""Tokenized rows, and the reasons for which a row has none."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from training.data.readers.records import BadRecord
from training.data.tokenization.encoder import Tokens

IGNORE = -100


@dataclass(frozen=True, slots=True)
class TokenRow:
    """Tokenized row.

    Attributes:
        id: Id of the source row, or of a part of it: `book.parquet:3#2`.
        input_ids: Token ids, at most `max_length`; of a pair, the chosen side, then the rejected.
        labels: Labels of the same length; `IGNORE` at unsupervised tokens.
        truncated: Whether tokens were cut off the end.
        answers_cut: Answers of a conversation that begin behind the cut, so are not learned.
        prompt: Digest of the prompt of the source row; 0 if it has none.
        markup: Markup of the chat template that the data holds already; empty if it holds none.
        split: Index at which the second side of a pair begins; 0 if there is one sequence.
        about: Metadata that the method reads, as JSON.
    """

    id: str
    input_ids: Tokens
    labels: Tokens
    truncated: bool = False
    split: int = 0
    about: str = ""
    answers_cut: int = 0
    prompt: int = 0
    markup: str = ""

    @property
    def lengths(self) -> list[int]:
        """Tokens of each sequence of the row."""
        size = len(self.input_ids)
        return [self.split, size - self.split] if self.split else [size]


@dataclass(frozen=True, slots=True)
class Dropped:
    """Row that was read but has nothing to train on.

    Attributes:
        id: Id of the source row.
        reason: Reason for dropping it.
        required_length: Smallest `max_length` at which it would be kept; 0 if none would do.
    """

    id: str
    reason: str
    required_length: int = 0


@dataclass(frozen=True, slots=True)
class SplitRow:
    """Long conversation that was split at turns.

    Attributes:
        rows: Token rows of its parts.
        dropped: Parts that have nothing to train on.
    """

    rows: list[TokenRow]
    dropped: list[Dropped]


Outcome = list[TokenRow] | SplitRow | Dropped | BadRecord
"""Result of one row: its token rows (several for a long text), or the reason for having none."""


def dump_about(about: dict[str, Any]) -> str:
    """Return metadata as JSON."""
    return json.dumps(about, ensure_ascii=False, sort_keys=True, default=str)

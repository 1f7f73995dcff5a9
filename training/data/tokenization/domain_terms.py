"""How a tokenizer splits the words of a domain: words in many pieces are hard to learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from training.data.tokenization.encoder import Encoder, Piece

POOR = 3.0
"""Tokens per word from which on a domain counts as poorly covered."""


@dataclass(frozen=True)
class Term:
    """One term.

    Attributes:
        term: As the job gives it.
        pieces: How it is split in the middle of a sentence.
        per_word: Tokens per word of it.
    """

    term: str
    pieces: tuple[str, ...]
    per_word: float


@dataclass(frozen=True)
class Terms:
    """The terms of a job.

    Attributes:
        terms: Each of them.
        fertility: Tokens per word, over all of them.
    """

    terms: tuple[Term, ...]
    fertility: float

    def warning(self) -> str | None:
        """Return what to do about a poor fertility; None when it is fine."""
        if self.fertility < POOR:
            return None
        worst = max(self.terms, key=lambda term: term.per_word)
        return (
            f"the tokenizer splits the domain's terms into {self.fertility:.1f} tokens per word "
            f"({worst.term!r}: {' '.join(worst.pieces)}). A tokenizer that knows them, or longer "
            "continued pre-training on text that uses them, would help"
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return asdict(self)


def measure(terms: Sequence[str], encoder: Encoder) -> Terms | None:
    """Return how `terms` are split; None when there are none."""
    if not terms:
        return None
    encoded = encoder.encode([[Piece("the", False), Piece(f" {term}", True)] for term in terms])
    found = []
    tokens = words = 0
    for term, (_, ids) in zip(terms, encoded, strict=True):
        count = max(1, len(term.split()))
        found.append(Term(term, tuple(encoder.decode([int(i)]) for i in ids), len(ids) / count))
        tokens += len(ids)
        words += count
    return Terms(tuple(found), tokens / words)

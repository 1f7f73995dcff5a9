"""Fertility of a tokenizer on domain terms: words split into many tokens are hard to learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from training.data.tokenization.encoder import Encoder, Piece

POOR = 3.0
"""Tokens per word from which a warning is given."""


@dataclass(frozen=True)
class Term:
    """Domain term.

    Attributes:
        term: Term as the job gives it.
        pieces: Tokens of the term in the middle of a sentence.
        per_word: Tokens per word.
    """

    term: str
    pieces: tuple[str, ...]
    per_word: float


@dataclass(frozen=True)
class Terms:
    """Domain terms of a job.

    Attributes:
        terms: The terms.
        fertility: Tokens per word over all terms.
    """

    terms: tuple[Term, ...]
    fertility: float

    def warning(self) -> str | None:
        """Return a warning if the fertility is high, else None."""
        if self.fertility < POOR:
            return None
        worst = max(self.terms, key=lambda term: term.per_word)
        return (
            f"the tokenizer splits the domain's terms into {self.fertility:.1f} tokens per word "
            f"({worst.term!r}: {' '.join(worst.pieces)}). A tokenizer that knows them, or longer "
            "continued pre-training on text that uses them, would help"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the terms as JSON types."""
        return asdict(self)


def measure_terms(terms: Sequence[str], encoder: Encoder) -> Terms | None:
    """Return the tokenization of `terms`; None if there are none."""
    if not terms:
        return None
    encoded = encoder.encode([[Piece("the", False), Piece(f" {term}", True)] for term in terms])
    measured = []
    tokens = words = 0
    for term, (_, ids) in zip(terms, encoded, strict=True):
        count = max(1, len(term.split()))
        measured.append(Term(term, tuple(encoder.decode([int(i)]) for i in ids), len(ids) / count))
        tokens += len(ids)
        words += count
    return Terms(tuple(measured), tokens / words)

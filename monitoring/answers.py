"""Properties of single answers: refusal, repetition, nothing at all."""

from __future__ import annotations

from safety.scoring import answer_outcome

_GRAM = 4
_FEWEST_WORDS = 16
_MOST_REPEATED = 0.5
"""Share of repeated n-grams from which an answer repeats itself. Lists and tables reach a third;
of answers that end in a loop, nearly everything is repeated."""


def is_empty(answer: str) -> bool:
    """Return whether an answer says nothing."""
    return not answer.strip()


def is_refusal(answer: str) -> bool:
    """Return whether an answer refuses, by the phrases of `safety.scoring`."""
    return answer_outcome(answer) == "refused"


def is_repetitive(answer: str) -> bool:
    """Return whether at least half of the runs of four words occur earlier in the answer.

    Texts of languages without spaces are compared by characters.
    """
    words = answer.split()
    if len(words) < len(answer) / 20:
        words = list("".join(words))
    if len(words) < _FEWEST_WORDS:
        return False
    grams = [tuple(words[i : i + _GRAM]) for i in range(len(words) - _GRAM + 1)]
    return 1 - len(set(grams)) / len(grams) >= _MOST_REPEATED

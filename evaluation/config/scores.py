"""Section `scores:` of a task: how generated answers are scored.

A score is a class here, in the union `AnyScore`, and a file in `evaluation/scores/`.
"""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from training.config.base import ConfigSection


def _as_pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return value


Pattern = Annotated[str, BeforeValidator(_as_pattern)]


class ScoreSection(ConfigSection):
    """Section of one kind of score."""

    impl: ClassVar[str]
    """`module:class` that computes it; imported only when a suite is run."""
    needs_target: ClassVar[bool] = True
    """True if an item without a target cannot be scored."""

    name: str | None = None
    """Prefix of the names of its metrics, if a task has two scores of a kind."""


class TextScoreSection(ScoreSection):
    """Section of a score that compares the text of an answer with the targets."""

    answer_pattern: Pattern | None = None
    """Regular expression that finds the answer proper: its first group, or the whole match. The
    last match counts. An answer without a match scores 0."""


class ExactMatch(TextScoreSection):
    """Share of answers that equal a target."""

    impl = "evaluation.scores.exact_match:ExactMatchScore"

    kind: Literal["exact_match"]
    normalize: Literal["squad", "whitespace", "none"] = "squad"
    """`squad`: lower case, without punctuation and articles (arXiv:1606.05250); `whitespace`: runs
    of white space are one space, none at the ends; `none`: character by character."""


class TokenF1(TextScoreSection):
    """F1 of the words of answer and target, as in SQuAD."""

    impl = "evaluation.scores.token_f1:TokenF1Score"

    kind: Literal["token_f1"]


AnyScore = Annotated[ExactMatch | TokenF1, Field(discriminator="kind")]

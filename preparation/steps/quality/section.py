"""Rules of quality: which rows would be rejected, and why."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from preparation.rows import PreparedRow
from preparation.steps.step import Examination, FilterSection, Rule
from training.config.types import PositiveInt
from validation.problem import Problem

RuleSet: TypeAlias = Literal["gopher", "c4", "fineweb", "answers"]


class QualityStep(FilterSection):
    """Applies published rules for web text, and rules for answers."""

    step: Literal["quality"]
    rules: Annotated[tuple[RuleSet, ...], Field(min_length=1)]
    """Sets of rules: `gopher`, `c4` and `fineweb` judge web text in English; `answers` judges the
    answers of conversations, pairs and preferences."""
    min_answer_words: PositiveInt = 2
    """Least number of words of an answer, for `answers`. 1 admits labels and numbers."""
    max_answer_words: PositiveInt | None = None
    """Greatest number of words of an answer, for `answers`."""

    def problems(self, key: str) -> Iterable[Problem]:
        """Yield bounds that contradict each other."""
        if self.max_answer_words is not None and self.max_answer_words < self.min_answer_words:
            fix = f"min_answer_words is {self.min_answer_words}"
            value = str(self.max_answer_words)
            yield Problem(f"{key}.max_answer_words", "is below min_answer_words", value, fix)

    def build(self) -> Rule:
        """Return the rule."""
        return _QualityRule(self)


class _QualityRule(Rule):
    def __init__(self, section: QualityStep):
        from preparation.steps.quality.answer_rules import AnswerRules
        from preparation.steps.quality.web_rules import WebRules

        names = tuple(dict.fromkeys(section.rules))
        self._web = WebRules(name for name in names if name != "answers")
        self._judges_web = names != ("answers",)
        self._answers = (
            AnswerRules(section.min_answer_words, section.max_answer_words)
            if "answers" in names
            else None
        )

    def examine(self, row: PreparedRow) -> Examination:
        reasons: list[str] = []
        tags = {}
        if self._judges_web:
            # The thresholds are those of English: `und` is a text too short or without words.
            if row.tags.get("language", "en") in ("en", "und"):
                reasons += self._web.reasons("\n".join(part.text for part in row.content()))
            else:
                tags["web_rules"] = "not English"
        if self._answers is not None:
            reasons += self._answers.reasons(row)
        return Examination(reasons=tuple(dict.fromkeys(reasons)), tags=tags)

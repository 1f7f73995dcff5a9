"""Language of each row, as a tag and as a filter."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from preparation.rows import PreparedRow, Scalar
from preparation.steps.language.codes import LANGUAGES, UNDETERMINED, closest
from preparation.steps.step import Examination, FilterSection, Rule
from validation.problem import Problem

MIN_CHARACTERS = 20
"""Shorter texts are not judged."""


class LanguageStep(FilterSection):
    """Tags each row with its language, and can reject rows in other languages."""

    step: Literal["language"]
    keep: tuple[str, ...] = ()
    """Languages that are wanted, as ISO 639-1 codes or, without one, ISO 639-3 (`[en, de]`).
    Without this key rows are tagged only. Rows whose language cannot be determined are kept."""

    def problems(self, key: str) -> Iterable[Problem]:
        """Yield each unknown code, and an action without languages."""
        for code in self.keep:
            if code not in LANGUAGES:
                near = ", ".join(closest(code))
                fix = f"Closest: {near}" if near else "Use ISO 639-1 codes, such as en or de"
                yield Problem(f"{key}.keep", "no language that can be identified", code, fix)
        if self.action == "drop" and not self.keep:
            fix = "Name the languages to keep, such as [en, de]"
            yield Problem(f"{key}.keep", "is required with action: drop", fix=fix)

    def build(self) -> Rule:
        """Return the rule."""
        return _LanguageRule(frozenset(self.keep))


class _LanguageRule(Rule):
    def __init__(self, keep: frozenset[str]):
        from preparation.steps.language.identification import LanguageIdentifier

        self._keep = keep
        self._identify = LanguageIdentifier().identify

    def examine(self, row: PreparedRow) -> Examination:
        parts = row.parts()
        asked = "\n".join(part.text for part in parts if part.role in ("user", "prompt"))
        answered = "\n".join(part.text for part in parts if part.role in ("assistant", "answer"))
        plain = "\n".join(part.text for part in parts if part.role == "text")
        language, score = self._language("\n".join(filter(None, (asked, answered, plain))))
        tags: dict[str, Scalar] = {"language": language, "language_score": score}
        if asked and answered:
            tags |= self._differing(asked, answered)
        unwanted = self._keep and language != UNDETERMINED and language not in self._keep
        return Examination(reasons=("other_language",) if unwanted else (), tags=tags)

    def _language(self, text: str) -> tuple[str, float]:
        if len(text.strip()) < MIN_CHARACTERS:
            return UNDETERMINED, 0.0
        return self._identify(text)

    def _differing(self, asked: str, answered: str) -> dict[str, Scalar]:
        """Return the languages of both sides if they differ and both are known."""
        languages = [self._language(text)[0] for text in (asked, answered)]
        if UNDETERMINED in languages or languages[0] == languages[1]:
            return {}
        return {"language_prompt": languages[0], "language_answer": languages[1]}

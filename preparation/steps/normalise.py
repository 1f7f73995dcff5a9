"""Normalisation of text: mis-decoded characters, Unicode form, control characters, line ends."""

from __future__ import annotations

import re
from typing import Literal

from preparation.rows import PreparedRow
from preparation.steps.step import Examination, Rule, StepSection

_INVISIBLE = re.compile("[\u200b\u2060\ufeff\u00ad]")
"""Zero-width space, word joiner, byte order mark and soft hyphen. Joiners stay: they carry meaning
in Persian, Indic scripts and emoji."""
_ASCII_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
"""Control characters of ASCII other than tab and line feed."""


class NormaliseStep(StepSection):
    """Repairs mis-decoded text and unifies its characters."""

    step: Literal["normalise"]
    form: Literal["NFC", "NFKC"] = "NFC"
    """Unicode normalisation form. NFKC also replaces compatibility characters, such as ligatures
    and superscripts, and changes the meaning of formulas."""

    def build(self) -> Rule:
        """Return the rule."""
        return _Normalisation(self.form)


class _Normalisation(Rule):
    def __init__(self, form: Literal["NFC", "NFKC"]):
        import ftfy

        # Entities and typographic quotation marks are content of code and of markup.
        self._settings = ftfy.TextFixerConfig(
            normalization=form,
            unescape_html=False,
            uncurl_quotes=False,
            fix_latin_ligatures=False,
            fix_character_width=False,
            explain=False,
        )
        self._fix = ftfy.fix_text

    def examine(self, row: PreparedRow) -> Examination:
        before = [part.text for part in row.parts()]
        after = tuple(map(self._normalised, before))
        changed = sum(old != new for old, new in zip(before, after, strict=True))
        return Examination(texts=after) if changed else Examination()

    def _normalised(self, text: str) -> str:
        # Text in ASCII without control characters has nothing to repair, and is most of code.
        if text.isascii() and _ASCII_CONTROL.search(text) is None:
            return text
        return _INVISIBLE.sub("", self._fix(text, self._settings))

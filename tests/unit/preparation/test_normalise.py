"""Normalisation: what is repaired, and that its shortcut for ASCII leaves what ftfy leaves."""

from __future__ import annotations

import ftfy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preparation.rows import PreparedRow
from preparation.steps.normalise import NormaliseStep
from preparation.steps.step import Rule

RULE = NormaliseStep(step="normalise").build()


def _normalised(text: str) -> str:
    assert isinstance(RULE, Rule)
    row = PreparedRow("a:1", "a", "text", {"text": text})
    texts = RULE.examine(row).texts
    return text if texts is None else texts[0]


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("plain text\n\twith a tab", "plain text\n\twith a tab"),
        ("ends\r\nof\rlines", "ends\nof\nlines"),
        ("a\x00b\x07c\x7fd", "abcd"),
        ("\x1b[1mbold\x1b[0m", "bold"),
        ("caf\u00c3\u00a9", "caf\u00e9"),
        ("cafe\u0301", "caf\u00e9"),
        ("zero\u200bwidth", "zerowidth"),
        ("&amp; stays", "&amp; stays"),
    ],
)
def test_what_is_repaired(text: str, normalised: str) -> None:
    assert _normalised(text) == normalised


@settings(max_examples=400, deadline=None)
@given(st.text(st.characters(max_codepoint=127), min_size=1, max_size=60))
def test_text_in_ascii_is_what_ftfy_makes_of_it(text: str) -> None:
    if text.strip():  # texts without content are no texts of a row
        assert _normalised(text) == ftfy.fix_text(text, unescape_html=False)

"""Words, sentences and language of a text, as the rules of IFEval count them."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pycld2

_ABBREVIATIONS = (
    "mr mrs ms dr prof rev gen sen rep gov capt col lt sgt st jr sr vs etc inc ltd co corp "
    "e.g i.e u.s u.k u.n a.m p.m ph.d no fig vol jan feb mar apr jun jul aug sep sept oct nov dec"
)


def count_words(text: str) -> int:
    """Return the number of runs of letters, digits and underscores."""
    return len(re.findall(r"\w+", text))


def count_sentences(text: str) -> int:
    """Return the number of sentences of an English text.

    The algorithm is Punkt, as in the original; its list of abbreviations is given here, since the
    trained one would have to be downloaded.
    """
    return len(_sentence_tokenizer().tokenize(text))


def upper_case_tokens(text: str) -> int:
    """Return the number of tokens in capital letters, by the rules of the Penn Treebank."""
    from nltk.tokenize import NLTKWordTokenizer

    tokenizer = NLTKWordTokenizer()
    sentences = _sentence_tokenizer().tokenize(text)
    return sum(token.isupper() for line in sentences for token in tokenizer.tokenize(line))


def is_language(text: str, code: str) -> bool:
    """Return True if a text is in a language, or if its language cannot be identified.

    Args:
        text: The text.
        code: ISO 639-1 code.
    """
    try:
        reliable, _, details = pycld2.detect(text, bestEffort=True)
    except (pycld2.error, ValueError):
        return True
    identified = str(details[0][1])
    unknown = not reliable and identified == "un"
    return unknown or identified.split("-")[0] == code.split("-")[0]


@cache
def _sentence_tokenizer() -> Any:
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

    parameters = PunktParameters()
    parameters.abbrev_types = set(_ABBREVIATIONS.split())
    return PunktSentenceTokenizer(parameters)

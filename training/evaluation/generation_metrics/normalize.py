"""Normalization of answers before they are compared, as in the evaluation of SQuAD."""

from __future__ import annotations

import re
import string

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """Return a text in lower case without punctuation, articles and repeated white space.

    The order matters: punctuation is removed before articles, as in the reference implementation of
    SQuAD (Rajpurkar et al. 2016, arXiv:1606.05250).
    """
    without_punctuation = text.lower().translate(_NO_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", without_punctuation).split())

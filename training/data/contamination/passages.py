"""Passages of a text that may be a question: sentences, paragraphs and the text itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

_PARAGRAPH = re.compile(r"\n\s*\n")
_SENTENCE = re.compile(r"\n+|(?<=[.?!:。？！])\s+")


def passages(
    text: str, split_words: Callable[[str], list[str]], lengths: range
) -> Iterator[list[str]]:
    """Yield the words of each sentence, line and paragraph of a text, and of the text itself.

    Args:
        text: The text.
        split_words: Returns the words of a text.
        lengths: Numbers of words that are of interest.
    """
    whole: list[str] = []
    paragraphs = 0
    for paragraph in _PARAGRAPH.split(text):
        sentences = [split_words(sentence) for sentence in _SENTENCE.split(paragraph)]
        sentences = [sentence for sentence in sentences if sentence]
        joined = [word for sentence in sentences for word in sentence]
        paragraphs += bool(joined)
        whole += joined
        for found in (*sentences, joined) if len(sentences) > 1 else sentences:
            if len(found) in lengths:
                yield found
    if paragraphs > 1 and len(whole) in lengths:
        yield whole

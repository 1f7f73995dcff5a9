"""Word splitter of the quality rules: one instance serves all of datatrove's filters.

Their thresholds count words, so that another splitter makes other decisions. This one was chosen
because its decisions agree with those of datatrove's English tokenizer (spaCy), which is four to
twenty times slower. `benchmarks/prepare/quality.py` measures the agreement.
"""

from __future__ import annotations

import re

import regex
from datatrove.utils.word_tokenizers import WordTokenizer

WORDS = regex.compile(
    r"['’](?:s|re|ve|ll|d|m)\b|[\p{L}\p{M}\p{N}_]+(?:[.@/=_]+[\p{L}\p{M}\p{N}_]+)*"
    r"|\.{2,}|-{2,}|[^\w\s]"
)
"""An English clitic, a run of letters and digits with signs inside, dots, dashes, or a sign."""
_ASCII_WORDS = re.compile(
    r"'(?:s|re|ve|ll|d|m)\b|\w+(?:[.@/=_]+\w+)*|\.{2,}|-{2,}|[^\w\s]", re.ASCII
)
"""The same for a text in ASCII, in a third of the time."""
_SENTENCE_END = regex.compile(r"(?<=[.!?…。！？][\"'”’)\]]{0,3})\s+")


class WordSplitter(WordTokenizer):
    """Splits text into words and sentences without a model.

    The words of the last text are kept, because several filters ask for them.
    """

    def __init__(self) -> None:
        super().__init__("en")
        self._last: tuple[str, list[str]] = ("", [])

    def word_tokenize(self, text: str) -> list[str]:
        """Return the words and signs of a text."""
        if text != self._last[0]:
            self._last = (text, (_ASCII_WORDS if text.isascii() else WORDS).findall(text))
        return self._last[1]

    def sent_tokenize(self, text: str) -> list[str]:
        """Return the sentences of a text."""
        return [text[start:end] for start, end in self.span_tokenize(text)]

    def count_sentences(self, text: str) -> int:
        """Return the number of sentences of a text."""
        return len(self.span_tokenize(text))

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """Return the first character of each sentence and the character after it."""
        ends = [match.end() for match in _SENTENCE_END.finditer(text)]
        if not ends or ends[-1] < len(text):
            ends.append(len(text))
        return list(zip([0, *ends[:-1]], ends, strict=True))

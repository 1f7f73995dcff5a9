"""Rules for web text by Gopher, C4 and FineWeb: datatrove's filters with one word splitter.

Rae et al. 2021 (https://arxiv.org/abs/2112.11446), Raffel et al. 2020
(https://arxiv.org/abs/1910.10683), Penedo et al. 2024 (https://arxiv.org/abs/2406.17557).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Literal, TypeAlias

from datatrove.data import Document
from datatrove.pipeline.filters.c4_filters import C4QualityFilter
from datatrove.pipeline.filters.fineweb_quality_filter import FineWebQualityFilter
from datatrove.pipeline.filters.gopher_quality_filter import GopherQualityFilter
from datatrove.pipeline.filters.gopher_repetition_filter import GopherRepetitionFilter

from preparation.steps.quality.word_splitter import WordSplitter

WebRuleSet: TypeAlias = Literal["gopher", "c4", "fineweb"]


class WebRules:
    """Sets of rules for web text.

    Args:
        names: Sets to apply.
    """

    def __init__(self, names: Iterable[WebRuleSet]):
        self._splitter = WordSplitter()
        self._filters: list[tuple[str, Any]] = []
        for name in names:
            self._filters += self._filters_of(name)
        for _, each in self._filters:
            each.stat_update = lambda *labels, **values: None  # the preparation counts by itself

    def reasons(self, text: str) -> Iterator[str]:
        """Yield one reason per filter that rejects a text."""
        for prefix, each in self._filters:
            try:
                result = each.filter(Document(text=text, id=""))
            except ZeroDivisionError:  # a text without words or lines
                result = (False, "empty")
            if isinstance(result, tuple) and not result[0]:
                yield f"{prefix}_{result[1].removeprefix('gopher_')}"

    def _filters_of(self, name: WebRuleSet) -> list[tuple[str, Any]]:
        if name == "gopher":
            quality = GopherQualityFilter(language=self._splitter)
            return [("gopher", quality), ("gopher", RepetitionFilter(self._splitter))]
        if name == "c4":
            # Lines without a full stop are not cut here, and would leave few documents.
            c4 = C4QualityFilter(filter_no_terminal_punct=False, language=self._splitter)
            return [("c4", c4)]
        return [("fineweb", FineWebQualityFilter(language=self._splitter))]


class RepetitionFilter:
    """Gopher's rules of repetition, several times as fast as datatrove's filter alone.

    datatrove counts the most frequent runs of 2 to 4 words and repeated runs of 5 to 10. Here the
    first are counted without joining the words, and the costly second count is left out if a cheap
    upper bound is below all thresholds, so that every decision is that of datatrove.

    Args:
        splitter: Word splitter.
    """

    def __init__(self, splitter: WordSplitter):
        self._splitter = splitter
        self._lines = GopherRepetitionFilter(top_n_grams=(), dup_n_grams=(), language=splitter)
        self._runs = GopherRepetitionFilter(top_n_grams=(), language=splitter)
        self._thresholds = GopherRepetitionFilter(language=splitter)

    def filter(self, document: Document) -> bool | tuple[bool, str]:
        """Return True, or False with the reason to reject a document."""
        text = document.text
        result: bool | tuple[bool, str] = self._lines.filter(document)
        if result is not True:
            return result
        words = self._splitter.word_tokenize(text)
        for length, share in self._thresholds.top_n_grams:
            for run, count in Counter(_runs(words, length)).most_common(1):
                if len(" ".join(run)) * count / len(text) > share:
                    return False, f"top_{length}_gram"
        least_share = min(float(share) for _, share in self._thresholds.dup_n_grams)
        if _repeated_characters(words) > least_share * len(text):
            result = self._runs.filter(document)
        return result


_SHORTEST_RUN = 5


def _repeated_characters(words: list[str]) -> int:
    """Return the characters of all words in a run of five that occurred before.

    A repeated run of more words consists of repeated runs of five, so that this is an upper bound
    for runs of any length.
    """
    if len(set(_runs(words, _SHORTEST_RUN))) == max(0, len(words) - _SHORTEST_RUN + 1):
        return 0
    earlier: set[tuple[str, ...]] = set()
    counted_to = characters = 0
    for start, run in enumerate(_runs(words, _SHORTEST_RUN)):
        if run in earlier:
            end = start + _SHORTEST_RUN
            characters += sum(map(len, words[max(start, counted_to) : end]))
            counted_to = end
        else:
            earlier.add(run)
    return characters


def _runs(words: list[str], length: int) -> Iterator[tuple[str, ...]]:
    return zip(*(islice(words, start, None) for start in range(length)), strict=False)

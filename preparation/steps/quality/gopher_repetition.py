"""Gopher's rules of repetition, several times as fast as datatrove's filter.

Rae et al. 2021 (https://arxiv.org/abs/2112.11446), table A1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import accumulate, islice

from datatrove.data import Document
from datatrove.pipeline.filters.gopher_repetition_filter import GopherRepetitionFilter

from preparation.steps.quality.word_splitter import WordSplitter

_LONGEST_TOP_RUN = 4
_SHORTEST_RUN = 5
_WORDS_PER_REPEATED_RUN = 2.5


class RepetitionFilter:
    """Rules of repetition by Gopher.

    datatrove counts the most frequent runs of 2 to 4 words and repeated runs of 5 to 10. Here the
    first are counted without joining the words, and the costly second count is left out for each
    length whose threshold is not below a cheap upper bound, so that the decisions are those of
    datatrove. The one exception are runs of equal length and characters that are divided into other
    words, such as `a.b c . d` and `a . b c.d`.

    Args:
        splitter: Word splitter.
    """

    def __init__(self, splitter: WordSplitter):
        self._splitter = splitter
        self._lines = GopherRepetitionFilter(top_n_grams=(), dup_n_grams=(), language=splitter)
        self._thresholds = GopherRepetitionFilter(language=splitter)
        self._least_share = min(float(share) for _, share in self._thresholds.dup_n_grams)

    def filter(self, document: Document) -> bool | tuple[bool, str]:
        """Return True, or False with the reason to reject a document."""
        text = document.text
        result: bool | tuple[bool, str] = self._lines.filter(document)
        if result is not True:
            return result
        words = self._splitter.word_tokenize(text)
        distinct = 0
        for length, share in self._thresholds.top_n_grams:
            counts = Counter(_runs(words, length))
            distinct = len(counts)
            for run, most in counts.most_common(1):
                if len(" ".join(run)) * most / len(text) > share:
                    return False, f"top_{length}_gram"
        repeated = max(0, len(words) - _LONGEST_TOP_RUN + 1) - distinct
        if _bound_of_characters(words, repeated) <= self._least_share * len(text):
            return True
        return self._repeated_runs(text, words)

    def _repeated_runs(self, text: str, words: list[str]) -> bool | tuple[bool, str]:
        """Return True, or False with the first length of runs that are repeated too often."""
        joined = _JoinedWords(words)
        most = joined.characters_in_repeated_runs()
        for length, share in self._thresholds.dup_n_grams:
            if most / len(text) > share and joined.repeated_characters(length) / len(text) > share:
                return False, f"duplicated_{length}_n_grams"
        return True


class _JoinedWords:
    """Words of a text without the space between them, as datatrove compares long runs."""

    def __init__(self, words: list[str]):
        self._text = "".join(words)
        self._starts = [0, *accumulate(map(len, words))]

    def repeated_characters(self, length: int) -> int:
        """Return the characters of runs that occurred before; a repeated run is passed as a whole.

        This is datatrove's `find_all_duplicate`.
        """
        text, starts = self._text, self._starts
        earlier: set[str] = set()
        start = characters = 0
        while start < len(starts) - length:
            run = text[starts[start] : starts[start + length]]
            if run in earlier:
                characters += len(run)
                start += length
            else:
                earlier.add(run)
                start += 1
        return characters

    def characters_in_repeated_runs(self) -> int:
        """Return the characters of all words in a run of five that occurred before.

        A repeated run of more words consists of repeated runs of five, so that this is an upper
        bound for runs of any length.
        """
        earlier: set[str] = set()
        counted_to = characters = 0
        for begin, end in zip(self._starts, self._starts[_SHORTEST_RUN:], strict=False):
            run = self._text[begin:end]
            if run in earlier:
                characters += end - max(begin, counted_to)
                counted_to = end
            else:
                earlier.add(run)
        return characters


def _bound_of_characters(words: list[str], repeated: int) -> float:
    """Return a bound of the characters in repeated runs of five words or more.

    A sequence of k repeated runs of five, each one word after the last, covers k + 4 words and
    holds k + 1 repeated runs of four: at most 2.5 words for each of those.

    Args:
        words: Words of the text.
        repeated: Number of runs of four words that occurred before.
    """
    return _WORDS_PER_REPEATED_RUN * repeated * max(map(len, words)) if repeated > 0 else 0


def _runs(words: list[str], length: int) -> Iterator[tuple[str, ...]]:
    return zip(*(islice(words, start, None) for start in range(length)), strict=False)

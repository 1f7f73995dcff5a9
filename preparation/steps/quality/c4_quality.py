"""C4's rules of quality, several times as fast as datatrove's filter.

Raffel et al. 2020 (https://arxiv.org/abs/1910.10683).
"""

from __future__ import annotations

from datatrove.data import Document
from datatrove.pipeline.filters.c4_filters import POLICY_SUBSTRINGS, C4QualityFilter

from preparation.steps.quality.word_splitter import WordSplitter

_MARKS = ("[", "{")
_WORDING = ("lorem ipsum", "javascript", *POLICY_SUBSTRINGS)


class C4Filter:
    """Rules of C4, without the one that cuts lines without a full stop.

    Only sentences have to be counted in a text without the marks and the wording that the other
    rules look for, and no further than the least number. All other texts go to datatrove's filter,
    so that every decision is the same.

    Args:
        splitter: Splitter of sentences.
    """

    def __init__(self, splitter: WordSplitter):
        # Lines without a full stop are not cut here, and would leave few documents.
        self._filter = C4QualityFilter(filter_no_terminal_punct=False, language=splitter)
        # The preparation counts by itself.
        self._filter.stat_update = lambda *labels, **values: None
        self._splitter = splitter

    def filter(self, document: Document) -> bool | tuple[bool, str]:
        """Return True, or False with the reason to reject a document."""
        text, limits = document.text, self._filter
        lower = text.lower()
        if any(mark in text for mark in _MARKS) or any(wording in lower for wording in _WORDING):
            result: bool | tuple[bool, str] = limits.filter(document)
            return result
        sentences = 0
        for line in text.splitlines():
            words = line.split()
            if len(words) < limits.min_words_per_line:
                continue
            longest = limits.max_word_length
            if len(line) > longest and max(map(len, words)) > longest:
                continue
            sentences += self._splitter.count_sentences(line.strip())
            if sentences >= limits.min_num_sentences:
                return True
        return False, "too_few_sentences"

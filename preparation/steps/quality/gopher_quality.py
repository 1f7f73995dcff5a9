"""Gopher's rules of quality, several times as fast as datatrove's filter.

Rae et al. 2021 (https://arxiv.org/abs/2112.11446), table A1. The thresholds and the order of the
rules are those of datatrove's filter, so that every decision is the same.
"""

from __future__ import annotations

from datatrove.data import Document
from datatrove.pipeline.filters.gopher_quality_filter import GopherQualityFilter
from datatrove.utils.text import PUNCTUATION_SET

from preparation.steps.quality.word_splitter import WordSplitter

_PUNCTUATION = "".join(sorted(PUNCTUATION_SET))


class QualityFilter:
    """Rules of quality by Gopher.

    Args:
        splitter: Word splitter.
    """

    def __init__(self, splitter: WordSplitter):
        self._splitter = splitter
        self._thresholds = GopherQualityFilter(language=splitter)

    def filter(self, document: Document) -> bool | tuple[bool, str]:
        """Return True, or False with the reason to reject a document."""
        text, limits = document.text, self._thresholds
        words = self._splitter.word_tokenize(text)
        # No sign is a letter, so that only words with other characters are looked at one by one.
        others = [word for word in words if not word.isalpha()]
        signs = [word for word in others if not word.strip(_PUNCTUATION)]
        count = len(words) - len(signs)
        if count < limits.min_doc_words:
            return False, "gopher_short_doc"
        if count > limits.max_doc_words:
            return False, "gopher_long_doc"
        mean = (sum(map(len, words)) - sum(map(len, signs))) / count
        if mean < limits.min_avg_word_length:
            return False, "gopher_below_avg_threshold"
        if mean > limits.max_avg_word_length:
            return False, "gopher_above_avg_threshold"
        reason = self._reason_of_signs(text, len(words))
        if reason:
            return False, reason
        without_letters = sum(not any(map(str.isalpha, word)) for word in others)
        if (len(words) - without_letters) / len(words) < limits.max_non_alpha_words_ratio:
            return False, "gopher_below_alpha_threshold"
        if len(limits.stop_words.intersection(words)) < limits.min_stop_words:
            return False, "gopher_enough_stop_words"
        return True

    def _reason_of_signs(self, text: str, words: int) -> str:
        """Return the reason of hashes, ellipses and bullets; empty if they are few."""
        limits = self._thresholds
        if text.count("#") / words > limits.max_symbol_word_ratio:
            return "gopher_too_many_hashes"
        if (text.count("...") + text.count("…")) / words > limits.max_symbol_word_ratio:
            return "gopher_too_many_ellipsis"
        lines = text.splitlines()
        bullets = sum(line.lstrip().startswith(("•", "-")) for line in lines)
        if bullets / len(lines) > limits.max_bullet_lines_ratio:
            return "gopher_too_many_bullets"
        open_ends = sum(line.rstrip().endswith(("...", "…")) for line in lines)
        if open_ends / len(lines) > limits.max_ellipsis_lines_ratio:
            return "gopher_too_many_end_ellipsis"
        return ""

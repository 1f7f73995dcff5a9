"""Rules for web text by Gopher, C4 and FineWeb: datatrove's decisions with one word splitter.

Rae et al. 2021 (https://arxiv.org/abs/2112.11446), Raffel et al. 2020
(https://arxiv.org/abs/1910.10683), Penedo et al. 2024 (https://arxiv.org/abs/2406.17557).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal, TypeAlias

from datatrove.data import Document
from datatrove.pipeline.filters.fineweb_quality_filter import FineWebQualityFilter

from preparation.steps.quality.c4_quality import C4Filter
from preparation.steps.quality.gopher_quality import QualityFilter
from preparation.steps.quality.gopher_repetition import RepetitionFilter
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
            filters = (QualityFilter(self._splitter), RepetitionFilter(self._splitter))
            return [("gopher", each) for each in filters]
        if name == "c4":
            return [("c4", C4Filter(self._splitter))]
        return [("fineweb", FineWebQualityFilter(language=self._splitter))]

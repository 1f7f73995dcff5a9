"""Recognizer of names, addresses and other personal data that only the context shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from preparation.recognizer.kinds import Kind
from preparation.recognizer.network import MODEL, TokenNetwork
from preparation.recognizer.tokens import token_spans

DEFAULT_THRESHOLD = 0.5
_CONTINUATION = 0.4
"""Share of a threshold from which a token next to a finding belongs to it."""
_LONGEST_CONTINUATION = 8


class KindSpan(NamedTuple):
    """Part of a text that holds personal data."""

    start: int
    end: int
    kind: Kind


class Recognizer:
    """Recognizer of personal data by its context.

    Args:
        folder: Folder of the model.
        thresholds: Probability from which a token belongs to a kind, in place of the model's.
    """

    def __init__(self, folder: Path = MODEL, thresholds: Mapping[Kind, float] | None = None):
        self._network = TokenNetwork(folder)
        chosen = self._network.thresholds if thresholds is None else thresholds
        self._thresholds = np.array(
            [chosen.get(kind, DEFAULT_THRESHOLD) for kind in self._network.kinds], np.float32
        )

    def find(self, texts: Sequence[str]) -> list[list[KindSpan]]:
        """Return the personal data of each text, in order.

        Several short texts at once are faster than one by one; the result is the same.
        """
        tokens = [token_spans(text) for text in texts]
        words: list[str | None] = []
        spaced: list[bool] = []
        gap = self._network.gap
        for text, spans in zip(texts, tokens, strict=True):
            words += [text[start:end] for start, end in spans]
            words += [None] * gap
            spaced += [start > 0 and text[start - 1] == " " for start, _ in spans]
            spaced += [False] * gap
        probabilities = self._network.probabilities(words, spaced)
        results = []
        first = 0
        for text, spans in zip(texts, tokens, strict=True):
            own = probabilities[first : first + len(spans)]
            results.append(list(self._spans(text, spans, own)))
            first += len(spans) + gap
        return results

    def _spans(
        self, text: str, tokens: Sequence[tuple[int, int]], probabilities: NDArray[np.float32]
    ) -> Iterable[KindSpan]:
        """Yield runs of tokens of one kind, without the signs at their ends."""
        kinds = self._network.kinds
        beginning, inside = probabilities[:, 1::2], probabilities[:, 2::2]
        scores = beginning + inside
        best = scores.argmax(axis=1)
        likely = np.flatnonzero(likely_tokens(scores, best, self._thresholds))
        run: list[int] = []
        for index in likely.tolist():
            kind = best[index]
            begins = beginning[index, kind] > inside[index, kind]
            if run and (index != run[-1] + 1 or best[run[-1]] != kind or begins):
                yield from _trimmed(text, tokens, run, kinds[best[run[0]]])
                run = []
            run.append(index)
        if run:
            yield from _trimmed(text, tokens, run, kinds[best[run[0]]])


def likely_tokens(
    scores: NDArray[np.float32], best: NDArray[np.intp], thresholds: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Return which tokens belong to a kind: by themselves, or as neighbours of such a token.

    Args:
        scores: Probability of each kind for each token.
        best: Most probable kind of each token.
        thresholds: Probability from which a token belongs to each kind by itself.
    """
    highest = scores.max(axis=1)
    chosen: NDArray[np.bool_] = highest >= thresholds[best]
    possible = highest >= _CONTINUATION * thresholds[best]
    same = best[1:] == best[:-1]
    for _ in range(_LONGEST_CONTINUATION):
        before = chosen.copy()
        chosen[1:] |= before[:-1] & same & possible[1:]
        chosen[:-1] |= before[1:] & same & possible[:-1]
        if (before == chosen).all():
            break
    return chosen


def _trimmed(
    text: str, tokens: Sequence[tuple[int, int]], run: Sequence[int], kind: Kind
) -> Iterable[KindSpan]:
    start, end = tokens[run[0]][0], tokens[run[-1]][1]
    while start < end and not (text[start].isalnum() or text[start] in "+(@"):
        start += 1
    while end > start and not (text[end - 1].isalnum() or text[end - 1] in ").º/"):
        end -= 1
    if end > start:
        yield KindSpan(start, end, kind)

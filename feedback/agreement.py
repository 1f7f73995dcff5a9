"""Inter-annotator agreement beyond chance, computed with NLTK.

- Cohen's kappa (Cohen 1960): mean over all two annotators, on the pairs both judged.
- Fleiss' kappa (Fleiss 1971): on the pairs with the most common number of judgements.
- Krippendorff's alpha (Krippendorff 1980): on all pairs that at least two annotators judged.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from nltk.metrics.agreement import AnnotationTask

from feedback.labels import Label, by_pair, latest_by_voter

Triple = tuple[str, str, int]
"""Annotator, pair, vote."""


@dataclass(frozen=True)
class Agreement:
    """Measures of agreement; None if too few pairs were judged twice.

    Attributes:
        pairs: Number of pairs judged by two annotators or more.
        raw: Share of equal judgements among all two judgements of one pair.
        cohen: Mean Cohen's kappa of two annotators, weighted by the pairs both judged.
        fleiss: Fleiss' kappa.
        fleiss_pairs: Number of pairs that `fleiss` is computed on.
        fleiss_raters: Number of judgements of each of these pairs.
        alpha: Krippendorff's alpha on all of `pairs`.
    """

    pairs: int
    raw: float | None
    cohen: float | None
    fleiss: float | None
    fleiss_pairs: int
    fleiss_raters: int
    alpha: float | None


def agreement(labels: Sequence[Label]) -> Agreement:
    """Return the agreement of the annotators; the last of repeated judgements counts."""
    votes = _votes(labels)
    votes = [pair_votes for pair_votes in votes if len(pair_votes) > 1]
    raters, count = Counter(map(len, votes)).most_common(1)[0] if votes else (0, 0)
    # Fleiss' kappa ignores who judged, so annotators are renumbered for each pair.
    renumbered = [
        (str(number), pair, vote)
        for pair_votes in votes
        if len(pair_votes) == raters
        for number, (_, pair, vote) in enumerate(pair_votes)
    ]
    return Agreement(
        pairs=len(votes),
        raw=_raw(votes),
        # Cohen's kappa compares two people, so it needs named annotators.
        cohen=_cohen(_votes([label for label in labels if label.annotator])),
        fleiss=_measure(renumbered, "pi"),
        fleiss_pairs=count,
        fleiss_raters=raters,
        alpha=_measure([triple for pair_votes in votes for triple in pair_votes], "alpha"),
    )


def _votes(labels: Sequence[Label]) -> list[list[Triple]]:
    return [
        [(who, pair, label.vote) for who, label in latest_by_voter(judged).items()]
        for pair, judged in by_pair(labels).items()
    ]


def _raw(votes: Sequence[Sequence[Triple]]) -> float | None:
    same = [
        one[2] == other[2] for pair_votes in votes for one, other in combinations(pair_votes, 2)
    ]
    return sum(same) / len(same) if same else None


def _cohen(votes: Sequence[Sequence[Triple]]) -> float | None:
    shared: dict[tuple[str, str], list[Triple]] = {}
    for pair_votes in votes:
        for one, other in combinations(sorted(pair_votes), 2):
            shared.setdefault((one[0], other[0]), []).extend((one, other))
    weighted = [(_measure(both, "kappa"), len(both)) for both in shared.values()]
    defined = [(value, weight) for value, weight in weighted if value is not None]
    total = sum(weight for _, weight in defined)
    return sum(value * weight for value, weight in defined) / total if total else None


def _measure(triples: Iterable[Triple], name: str) -> float | None:
    """Return one of NLTK's measures; None if all votes are equal, which leaves it undefined."""
    data = list(triples)
    if len({vote for _, _, vote in data}) < 2:
        return None
    try:
        value = float(getattr(AnnotationTask(data=data), name)())
    except ZeroDivisionError:
        return None
    return value if math.isfinite(value) else None

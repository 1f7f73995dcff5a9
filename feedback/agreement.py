"""How far annotators agree beyond chance, by NLTK's measures of agreement.

Cohen's kappa of each two annotators on what both judged (Cohen 1960), Fleiss' kappa on the pairs
that as many people judged (Fleiss 1971), Krippendorff's alpha on everything that at least two
people judged (Krippendorff 1980).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from nltk.metrics.agreement import AnnotationTask

from feedback.labels import Label, by_pair, newest

Triple = tuple[str, str, int]
"""Annotator, pair, vote."""


@dataclass(frozen=True)
class Agreement:
    """What annotators' agreement comes to; None where too little was judged twice.

    Attributes:
        pairs: Judged by two people or more.
        raw: Share of judgements of two people on one pair that are the same.
        cohen: Mean over each two annotators, weighted by what both judged.
        fleiss: On `fleiss_pairs` pairs with `fleiss_raters` judgements each.
        fleiss_pairs: How many.
        fleiss_raters: How many.
        alpha: On all of `pairs`.
    """

    pairs: int
    raw: float | None
    cohen: float | None
    fleiss: float | None
    fleiss_pairs: int
    fleiss_raters: int
    alpha: float | None


def agreement(labels: Sequence[Label]) -> Agreement:
    """Return how far the annotators agree; of repeated judgements the last counts."""
    votes = _votes(labels)
    votes = [found for found in votes if len(found) > 1]
    raters, count = Counter(map(len, votes)).most_common(1)[0] if votes else (0, 0)
    # Which annotators they were does not matter to Fleiss: they are numbered anew for each pair.
    same = [
        (str(place), pair, vote)
        for found in votes
        if len(found) == raters
        for place, (_, pair, vote) in enumerate(found)
    ]
    return Agreement(
        pairs=len(votes),
        raw=_raw(votes),
        # Cohen's is about two people, who have to be known.
        cohen=_cohen(_votes([label for label in labels if label.annotator])),
        fleiss=_measure(same, "pi"),
        fleiss_pairs=count,
        fleiss_raters=raters,
        alpha=_measure([triple for found in votes for triple in found], "alpha"),
    )


def _votes(labels: Sequence[Label]) -> list[list[Triple]]:
    return [
        [(who, pair, label.vote) for who, label in newest(found).items()]
        for pair, found in by_pair(labels).items()
    ]


def _raw(votes: Sequence[Sequence[Triple]]) -> float | None:
    same = [one[2] == other[2] for found in votes for one, other in combinations(found, 2)]
    return sum(same) / len(same) if same else None


def _cohen(votes: Sequence[Sequence[Triple]]) -> float | None:
    shared: dict[tuple[str, str], list[Triple]] = {}
    for found in votes:
        for one, other in combinations(sorted(found), 2):
            shared.setdefault((one[0], other[0]), []).extend((one, other))
    weighted = [(_measure(both, "kappa"), len(both)) for both in shared.values()]
    known = [(value, weight) for value, weight in weighted if value is not None]
    total = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / total if total else None


def _measure(triples: Iterable[Triple], name: str) -> float | None:
    """Return one of NLTK's measures; None where everybody always says the same."""
    found = list(triples)
    if len({vote for _, _, vote in found}) < 2:
        return None
    try:
        value = float(getattr(AnnotationTask(data=found), name)())
    except ZeroDivisionError:
        return None
    return value if math.isfinite(value) else None

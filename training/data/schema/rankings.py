"""Rankings of several answers, as weighted pairs.

A ranking of K answers makes up to K(K − 1)/2 pairs, which are not independent observations. As in
InstructGPT (Ouyang et al. 2022, arXiv:2203.02155, equation 1) each pair has the weight of its share
of the ranking, so that a ranking counts as one observation however many answers it has. The loss of
a pair is the Bradley-Terry model's; tied answers make no pair.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from training.data.readers.records import abbreviate
from training.data.schema.rows import RankedPair, RowError


def ranked_pairs(
    rankings: Mapping[str, Sequence[float]], weights: Mapping[str, float]
) -> list[RankedPair]:
    """Return the pairs of a ranking by one dimension or several.

    Each dimension contributes its share of the weights, divided among the pairs that it decides.
    Two dimensions that disagree make a pair in both directions: a Bradley-Terry loss with a soft
    label. A dimension that decides no pair contributes nothing.

    Args:
        rankings: Ranks of the answers by dimension; 1 is the best, equal ranks are ties.
        weights: Weights of the dimensions; equal if empty.
    """
    total = sum(weights[name] if weights else 1.0 for name in rankings)
    pairs: defaultdict[tuple[int, int], float] = defaultdict(float)
    for name, ranks in rankings.items():
        decided = [
            (one, other) if ranks[one] < ranks[other] else (other, one)
            for one, other in combinations(range(len(ranks)), 2)
            if ranks[one] != ranks[other]
        ]
        for pair in decided:
            pairs[pair] += (weights[name] if weights else 1.0) / total / len(decided)
    return [RankedPair(*pair, weight) for pair, weight in pairs.items()]


def parse_rankings(
    value: Any, column: str, answers: int, weights: Mapping[str, float]
) -> dict[str, list[float]]:
    """Return the ranks of a row by dimension; a plain list is one dimension without a name.

    Args:
        value: A list of ranks, or an object of one list for each dimension.
        column: Column that holds it, for messages.
        answers: Number of answers.
        weights: Weights of the dimensions that the job names; none if it names none.

    Raises:
        RowError: A rank is missing or not a number, or the dimensions are not those of the job.
    """
    if isinstance(value, Mapping):
        # A column of a Parquet file has every dimension in every row, null where it was not judged.
        rankings = {str(name): ranks for name, ranks in value.items() if ranks is not None}
    elif weights:
        raise RowError(
            f"{column} has no dimensions ({abbreviate(value)}), and data.train.dimensions weighs "
            f"{', '.join(weights)}. Write {{DIMENSION: RANKS}}, or remove data.train.dimensions"
        )
    else:
        rankings = {"": value}
    if not rankings:
        raise RowError(f"{column} holds no ranks. Rank the answers, or remove the row")
    unweighted = [name for name in rankings if weights and name not in weights]
    if unweighted:
        raise RowError(
            f"data.train.dimensions has no weight for {', '.join(unweighted)} of {column} "
            f"(weighed: {', '.join(weights)}). Add it there, or remove it from the row"
        )
    return {name: _ranks(ranks, column, name, answers) for name, ranks in rankings.items()}


def _ranks(value: Any, column: str, name: str, answers: int) -> list[float]:
    which = f"{column}.{name}" if name else column
    if not isinstance(value, list):
        raise RowError(f"{which} is not a list of ranks: {abbreviate(value)}")
    if len(value) != answers:
        raise RowError(f"{which} has {len(value)} ranks for {answers} answers: {abbreviate(value)}")
    for rank in value:
        if isinstance(rank, bool) or not isinstance(rank, int | float) or not math.isfinite(rank):
            raise RowError(f"{which} holds a rank that is not a number: {abbreviate(rank)}")
    return [float(rank) for rank in value]

"""A set to learn from: one row for each pair, weighed by its votes; and what was left out, and why.

Votes count by their annotator's weight. Where the winners of one prompt go round in a circle, the
closest decision of the circle is left out, until there is none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import networkx

from feedback.annotators import Annotator
from feedback.labels import Label, by_pair, newest, normal


@dataclass
class CleanedPairs:
    """The set and its leavings.

    Attributes:
        rows: `prompt`, `chosen`, `rejected`, `weight`, `votes`, `topic`, `group`.
        dropped: `what` was left out (a label, a pair), `why`, and where it stands.
        contradictions: Pairs that an annotator judged both ways.
        cycles: Circles of answers to one prompt, each as a list of answers.
        duplicates: Labels that repeat one of the same annotator.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    dropped: list[dict[str, Any]] = field(default_factory=list)
    contradictions: int = 0
    cycles: list[list[str]] = field(default_factory=list)
    duplicates: int = 0

    def drop(self, what: str, why: str, labels: Sequence[Label]) -> None:
        """Note something that is left out."""
        self.dropped.append({"what": what, "why": why, "origin": [x.origin for x in labels]})


def cleaned(
    labels: Sequence[Label],
    people: Sequence[Annotator],
    unlabelled: Sequence[tuple[str, str]] = (),
) -> CleanedPairs:
    """Return the set that the labels come to.

    Args:
        labels: All of them.
        people: Who judged, and what their votes count.
        unlabelled: Where nobody has judged, and what it says there.
    """
    found = CleanedPairs()
    found.dropped += [{"what": "label", "why": why, "origin": [at]} for at, why in unlabelled]
    weights = {one.name: one.weight for one in people}
    alone = len(weights) == 1
    for judged in by_pair(_usable(labels, people, found)).values():
        row = _row(judged, dict.fromkeys(weights, 1.0) if alone else weights, found)
        if row is not None:
            found.rows.append(row)
    _break_circles(found)
    for row in found.rows:
        del row["labels"], row["order"]
    return found


def _usable(
    labels: Sequence[Label], people: Sequence[Annotator], found: CleanedPairs
) -> Iterator[Label]:
    why = {one.name: "; ".join(one.out_of_line) for one in people if one.out_of_line}
    for label in labels:
        if normal(label.first) == normal(label.second):
            found.drop("label", "both answers are the same", [label])
        elif label.annotator in why:
            found.drop("label", f"annotator {label.annotator} {why[label.annotator]}", [label])
        elif label.gold is not None:
            found.drop("label", "a calibration item, whose answer was known", [label])
        else:
            yield label


def _row(
    judged: Sequence[Label], weights: dict[str, float], found: CleanedPairs
) -> dict[str, Any] | None:
    """Return the row of one pair; None where its votes decide nothing."""
    votes: list[tuple[Label, float]] = []
    for who, label in newest(judged).items():
        own = [other for other in judged if other.voter == who]
        if len({other.vote for other in own}) > 1:
            found.contradictions += 1
            found.drop("label", f"annotator {who} judged the pair both ways", own)
            continue
        if len(own) > 1:
            found.duplicates += len(own) - 1
            found.drop("label", "repeats the same judgement", own[:-1])
        votes.append((label, weights[label.annotator]))
    total = sum(weight for _, weight in votes)
    lean = sum(label.vote * weight for label, weight in votes)
    if not total or not lean:
        why = "its votes are even, or for neither answer"
        if not total:
            why = "nobody whose vote counts is left"
        found.drop("pair", why, judged)
        return None
    head = votes[0][0]
    chosen, rejected = head.sides[:: 1 if lean > 0 else -1]
    return {
        "prompt": head.prompt if head.given is None else head.given[0],
        "chosen": head.as_given(chosen),
        "rejected": head.as_given(rejected),
        "weight": round(abs(lean) / total, 4),
        "votes": [sum(v.vote * lean > 0 for v, _ in votes), len(votes)],
        **({"topic": head.topic} if head.topic else {}),
        **({"group": head.group} if head.group else {}),
        "labels": list(judged),
        "order": (normal(chosen), normal(rejected)),
    }


def _break_circles(found: CleanedPairs) -> None:
    by_prompt: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in found.rows:
        by_prompt[normal(row["labels"][0].prompt)].append(row)
    left_out: list[int] = []
    for rows in by_prompt.values():
        graph = networkx.DiGraph()
        for row in rows:
            graph.add_edge(*row["order"], row=row)
        while circles := _circles(graph):
            for circle in circles:
                inside = list(graph.subgraph(circle).edges(data="row"))
                winner, loser, row = min(inside, key=lambda edge: (edge[2]["weight"], edge[:2]))
                found.cycles.append(sorted(circle))
                found.drop("pair", "its prompt's winners go round in a circle", row["labels"])
                left_out.append(id(row))
                graph.remove_edge(winner, loser)
    found.rows = [row for row in found.rows if id(row) not in left_out]


def _circles(graph: Any) -> list[set[str]]:
    """Return sets of answers that beat each other in a circle."""
    return [c for c in networkx.strongly_connected_components(graph) if len(c) > 1]

"""Biases of the choices: length and position of the answers, and coverage of topics."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from feedback.labels import Label
from safety.binomial import Proportion


def longer_chosen(labels: Sequence[Label]) -> Proportion:
    """Return how often the answer with more words was chosen; equally long ones are omitted."""
    decided = [label for label in labels if label.choice is not None and _gap(label)]
    return Proportion(sum(_chose_longer(label) for label in decided), len(decided))


def longer_by_gap(labels: Sequence[Label], parts: int = 4) -> list[tuple[str, Proportion]]:
    """Return how often the longer answer was chosen, in groups by difference of length.

    The groups are of similar size, in ascending order; empty if all differences are equal.
    """
    decided = sorted((x for x in labels if x.choice is not None and _gap(x)), key=_gap)
    groups: list[list[Label]] = []
    for label in decided:
        # Labels with the same difference stay in one group.
        full = not groups or len(groups[-1]) >= len(decided) / parts
        if full and not (groups and _gap(groups[-1][-1]) == _gap(label)):
            groups.append([])
        groups[-1].append(label)
    if len(groups) < 2:
        return []
    return [
        (
            _gap_text(_gap(group[0]), _gap(group[-1])),
            Proportion(sum(map(_chose_longer, group)), len(group)),
        )
        for group in groups
    ]


def _gap_text(least: int, most: int) -> str:
    if least == most:
        return f"{least} word{'s' if least > 1 else ''} apart"
    return f"{least} to {most} words apart"


def first_chosen(labels: Sequence[Label]) -> Proportion:
    """Return how often the answer shown first was chosen, if the order is known."""
    decided = [label for label in labels if label.choice is not None and label.ordered]
    return Proportion(sum(label.choice == 0 for label in decided), len(decided))


def coverage(
    labels: Sequence[Label], key: Callable[[Label], str]
) -> list[tuple[str, int, int, int]]:
    """Return the numbers of labels, pairs and annotators of each topic or group, largest first.

    Args:
        labels: All labels.
        key: Returns a label's topic or group; empty ones are omitted.
    """
    named = sorted({key(label) for label in labels} - {""})
    rows = []
    for name in named:
        group = [label for label in labels if key(label) == name]
        pairs, people = {label.pair for label in group}, {label.annotator for label in group}
        rows.append((name, len(group), len(pairs), len(people)))
    return sorted(rows, key=lambda row: (-row[1], row[0]))


def _words(text: str) -> int:
    return len(text.split())


def _gap(label: Label) -> int:
    return abs(_words(label.first) - _words(label.second))


def _chose_longer(label: Label) -> bool:
    sides = (label.first, label.second)
    assert label.choice is not None
    return _words(sides[label.choice]) > _words(sides[1 - label.choice])

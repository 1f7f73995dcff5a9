"""What choices depend on besides quality: how long an answer is, and where it was shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from feedback.binomial import Proportion
from feedback.labels import Label


def longer(labels: Sequence[Label]) -> Proportion:
    """Return how often the longer answer was chosen, by words; equally long ones are left out."""
    chosen = [label for label in labels if label.choice is not None and _gap(label)]
    return Proportion(sum(_chose_longer(label) for label in chosen), len(chosen))


def longer_by_gap(labels: Sequence[Label], parts: int = 4) -> list[tuple[str, Proportion]]:
    """Return the same in parts of like size, from small differences of length to large ones.

    Nothing where all answers are as far apart.
    """
    chosen = sorted((x for x in labels if x.choice is not None and _gap(x)), key=_gap)
    groups: list[list[Label]] = []
    for label in chosen:
        # Those as far apart stay together.
        full = not groups or len(groups[-1]) >= len(chosen) / parts
        if full and not (groups and _gap(groups[-1][-1]) == _gap(label)):
            groups.append([])
        groups[-1].append(label)
    if len(groups) < 2:
        return []
    return [
        (
            _apart(_gap(here[0]), _gap(here[-1])),
            Proportion(sum(map(_chose_longer, here)), len(here)),
        )
        for here in groups
    ]


def _apart(least: int, most: int) -> str:
    if least == most:
        return f"{least} word{'s' if least > 1 else ''} apart"
    return f"{least} to {most} words apart"


def first_shown(labels: Sequence[Label]) -> Proportion:
    """Return how often the answer shown first was chosen, where that is known."""
    chosen = [label for label in labels if label.choice is not None and label.ordered]
    return Proportion(sum(label.choice == 0 for label in chosen), len(chosen))


def coverage(
    labels: Sequence[Label], of: Callable[[Label], str]
) -> list[tuple[str, int, int, int]]:
    """Return labels, pairs and annotators of each topic or group, the largest first.

    Args:
        labels: All of them.
        of: What a label belongs to; labels without are left out.
    """
    named = sorted({of(label) for label in labels} - {""})
    found = []
    for name in named:
        here = [label for label in labels if of(label) == name]
        pairs, people = {label.pair for label in here}, {label.annotator for label in here}
        found.append((name, len(here), len(pairs), len(people)))
    return sorted(found, key=lambda row: (-row[1], row[0]))


def _words(text: str) -> int:
    return len(text.split())


def _gap(label: Label) -> int:
    return abs(_words(label.first) - _words(label.second))


def _chose_longer(label: Label) -> bool:
    sides = (label.first, label.second)
    assert label.choice is not None
    return _words(sides[label.choice]) > _words(sides[1 - label.choice])

"""Answer proper of a generated text, and the best value over several targets."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from evaluation.config.scores import TextScoreSection
from evaluation.scores.base import AnsweredItem, ScoreOutcome, per_item_outcome


def extract_answer(answer: str, pattern: str | None) -> str | None:
    """Return the answer proper: the last match of a pattern, or all of it without a pattern.

    Args:
        answer: Generated text.
        pattern: Regular expression; its first group is the answer, if it has one.

    Returns:
        None if the pattern matches nowhere.
    """
    if pattern is None:
        return answer
    last = None
    for last in re.finditer(pattern, answer):  # noqa: B007 (the last match is wanted)
        pass
    if last is None:
        return None
    return (last[1] if last.re.groups else last[0]) or ""


def compare_texts(
    section: TextScoreSection,
    name: str,
    items: Sequence[AnsweredItem],
    compare: Callable[[str, str], float],
) -> ScoreOutcome:
    """Return the mean over items of the best value over an item's targets.

    The value of an item with several answers is the mean over its answers.

    Args:
        section: Section of the score.
        name: Name of the metric.
        items: Answered items.
        compare: Returns the value of an answer and a target.
    """
    values, details = [], []
    for item in items:
        extracted = [extract_answer(answer, section.answer_pattern) for answer in item.answers]
        scores = [
            0.0 if text is None else max(compare(text, target) for target in item.targets)
            for text in extracted
        ]
        values.append(sum(scores) / len(scores))
        details.append({} if section.answer_pattern is None else {"extracted": extracted})
    return per_item_outcome(section, name, values, details)

"""Scores that compare the text of an answer with its targets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation.config.scores import ExactMatch, ScoreSection, TokenF1
from evaluation.scores.base import AnsweredItem, ScoreContext, ScoreOutcome, build_score


def answered(answers: str | list[str], *targets: str, **fields: object) -> AnsweredItem:
    texts = [answers] if isinstance(answers, str) else answers
    return AnsweredItem("0", fields, str(fields.get("prompt", "")), targets, tuple(texts))


def scored(section: ScoreSection, *items: AnsweredItem) -> ScoreOutcome:
    context = ScoreContext(torch.device("cpu"), Path(), Path())
    return build_score(section, context).score(items)


def values(section: ScoreSection, *items: AnsweredItem) -> list[float]:
    metric = scored(section, *items).metrics[0]
    assert metric.item_values is not None
    return metric.item_values.tolist()


def test_exact_match_takes_the_best_target_and_the_mean_answer() -> None:
    section = ExactMatch(kind="exact_match")
    items = [
        answered("The Eiffel Tower.", "Louvre", "eiffel tower"),
        answered(["Paris", "Rome"], "paris"),
    ]
    assert values(section, *items) == [1.0, 0.5]


@pytest.mark.parametrize(
    ("normalize", "expected"), [("squad", 1.0), ("whitespace", 0.0), ("none", 0.0)]
)
def test_exact_match_normalizes_as_asked(normalize: str, expected: float) -> None:
    section = ExactMatch(kind="exact_match", normalize=normalize)
    assert values(section, answered("An Answer!", "answer")) == [expected]


def test_exact_match_of_white_space() -> None:
    section = ExactMatch(kind="exact_match", normalize="whitespace")
    assert values(section, answered(" a\n b ", "a b")) == [1.0]


def test_answer_pattern_takes_the_first_group_of_the_last_match() -> None:
    section = ExactMatch(kind="exact_match", answer_pattern=r"answer is \(?([A-D])\)?")
    outcome = scored(
        section,
        answered("the answer is (A). No: the answer is B.", "B"),
        answered("I would say B", "B"),
    )
    assert outcome.metrics[0].value == 0.5
    assert outcome.details == ({"extracted": ["B"]}, {"extracted": [None]})


def test_an_invalid_regular_expression_is_refused() -> None:
    with pytest.raises(ValueError, match="not a regular expression"):
        ExactMatch(kind="exact_match", answer_pattern="(")


def test_token_f1_is_named_by_its_prefix() -> None:
    outcome = scored(TokenF1(kind="token_f1", name="short"), answered("a cat sat", "the cat"))
    assert outcome.metrics[0].name == "short_token_f1"
    assert outcome.metrics[0].kind == "mean"
    assert np.isclose(outcome.metrics[0].value, 2 / 3)

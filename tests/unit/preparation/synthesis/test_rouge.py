"""ROUGE-L, compared with the table of the longest common subsequence and with rouge-score."""

from __future__ import annotations

import random

import pytest

from preparation.synthesis.rouge import InstructionPool
from training.evaluation.generation_metrics.rouge_l import lcs_length, rouge_l, words


def table_length(first: list[str], second: list[str]) -> int:
    """Return the length of the longest common subsequence by the textbook's table."""
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            best = max(table[i][j + 1], table[i + 1][j])
            table[i + 1][j + 1] = table[i][j] + 1 if a == b else best
    return table[-1][-1]


def test_the_longest_common_subsequence_is_that_of_the_table() -> None:
    draw = random.Random(0)
    for _ in range(300):
        first = draw.choices("abcdefg", k=draw.randint(0, 90))
        second = draw.choices("abcdefg", k=draw.randint(0, 90))
        assert lcs_length(first, second) == table_length(first, second)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [  # F-measures of rouge-score 0.1.2 (rougeL, use_stemmer=False)
        (
            "Give three tips for staying healthy.",
            "Give me three tips for staying very fit.",
            0.7142857142857143,
        ),
        ("Write a poem about the sea, in 5 lines.", "Write a short poem about the sea.", 0.75),
        ("What's the capital of France?", "Name France's capital.", 0.4),
    ],
)
def test_rouge_l_equals_rouge_score(first: str, second: str, expected: float) -> None:
    assert rouge_l(words(first), words(second)) == pytest.approx(expected)


def test_the_pool_finds_exactly_what_comparing_each_finds() -> None:
    draw = random.Random(1)
    texts = [" ".join(draw.choices("abcdef", k=draw.randint(1, 12))) for _ in range(120)]
    pool, added = InstructionPool(), list[str]()
    for text in texts:
        expected = any(rouge_l(words(text), words(other)) >= 0.7 for other in added)
        assert pool.reaches(text, 0.7) == expected
        pool.add(text)
        added.append(text)
    assert any(pool.reaches(text, 0.7) for text in texts)

"""Numbers in digits and in words, as a rephrased question has them."""

from __future__ import annotations

import pytest

from preparation.steps.decontaminate.numbers import has_numbers, numbers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80 cards, 2/5 of the cards, 1/2 of the rest", ["80", "2/5", "1/2"]),
        ("Two-fifths of 80 cards, half of the rest", ["2/5", "80", "1/2"]),
        ("A quarter likes green, one-fourth blue, three quarters red", ["1/4", "1/4", "3/4"]),
        ("a tenth of 1,800 and $1.50 twice in a decade", ["1/10", "1800", "1.5", "2", "10"]),
        ("the fifth of five friends", ["5"]),
        ("no number at all", []),
    ],
)
def test_numbers_have_one_form(text: str, expected: list[str]) -> None:
    assert [number for number, _ in numbers(text)] == expected


def test_equal_numbers_are_counted() -> None:
    assert numbers("3 boxes of three") == [("3", 0), ("3", 1)]


@pytest.mark.parametrize(
    ("own", "wanted", "expected"),
    [
        ("11, 9 and 13 stamps", "16, 3 and 9 stamps", False),
        ("11, 9 and 13 stamps", "16, 11 and 9 stamps", True),
        ("none", "one number is too few to tell", True),
    ],
)
def test_an_exercise_with_other_numbers_is_another_one(
    own: str, wanted: str, expected: bool
) -> None:
    assert has_numbers(frozenset(numbers(own)), frozenset(numbers(wanted))) is expected

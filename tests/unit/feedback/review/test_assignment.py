"""Assignment of pairs to people: overlap, third opinions, calibration."""

from __future__ import annotations

from collections import Counter, defaultdict

from feedback.review.assignment import Assignment
from feedback.review.pairs import ReviewPair

Choices = dict[str, dict[str, str]]


def pairs(count: int, gold: int = 0) -> list[ReviewPair]:
    plain = [ReviewPair(f"prompt {n}", "one", "two") for n in range(count)]
    return plain + [ReviewPair(f"gold {n}", "one", "two", gold="a") for n in range(gold)]


def review(assignment: Assignment, people: dict[str, str]) -> Choices:
    """Let people judge in turn until nothing is left; each has one answer to everything."""
    choices: Choices = defaultdict(dict)
    left = set(people)
    while left:
        for name in sorted(left):
            pair = assignment.next(name, choices)
            if pair is None:
                left.discard(name)
                continue
            choices[pair.id][name] = people[name]
            assignment.release(pair.id)
    return choices


def test_the_least_certain_pairs_come_first() -> None:
    many = pairs(5)
    assert Assignment(many).next("Ada", {}) == many[0]


def test_a_share_is_judged_twice() -> None:
    many = pairs(200)
    choices = review(Assignment(many, overlap=0.2), {"Ada": "a", "Grace": "a", "Alan": "a"})
    counts = Counter(len(people) for people in choices.values())
    assert counts.keys() == {1, 2}
    assert 0.14 < counts[2] / 200 < 0.26


def test_a_disagreement_gets_a_third_opinion() -> None:
    many = pairs(30)
    choices = review(Assignment(many, overlap=1.0), {"Ada": "a", "Grace": "b", "Alan": "a"})
    for people in choices.values():
        assert len(people) == (3 if {people.get("Ada"), people.get("Grace")} == {"a", "b"} else 2)


def test_every_tenth_pair_is_for_calibration_and_each_person_sees_them() -> None:
    many = pairs(60, gold=3)
    choices: Choices = defaultdict(dict)
    assignment = Assignment(many)
    order = []
    while pair := assignment.next("Ada", choices):
        order.append(bool(pair.gold))
        choices[pair.id]["Ada"] = "a"
    assert [index for index, gold in enumerate(order) if gold] == [9, 19, 29]
    assert assignment.left("Grace", choices) >= 3


def test_an_open_pair_becomes_free_after_a_while() -> None:
    clock = [0.0]
    only = pairs(1)
    assignment = Assignment(only, now=lambda: clock[0])
    assert assignment.next("Ada", {}) == only[0]
    assert assignment.next("Grace", {}) is None
    clock[0] = 901.0
    assert assignment.next("Grace", {}) == only[0]

"""Scores of each reward for answers whose quality is obvious."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from training.config.data import Source
from training.config.rewards import Rewards
from training.data.readers.records import SourceRecord
from training.data.schema.rows import PromptRow
from training.data.schema.schema_reader import SchemaReader
from training.errors import DataError, GuardError
from training.rewards.aggregate import PATIENCE, CompositeReward
from training.rewards.context import RewardContext
from training.rewards.numeric_answer import final_number
from training.rewards.word_count import split_words

CONTEXT = RewardContext(torch.device("cpu"), Path())


def total(*sections: dict[str, Any]) -> CompositeReward:
    return CompositeReward.from_sections(
        TypeAdapter(Rewards).validate_python(list(sections)), CONTEXT
    )


def given(section: dict[str, Any], answers: Sequence[str], reference: str | None = None) -> Any:
    rows = [PromptRow(f"r:{i}", "p", reference, {}) for i in range(len(answers))]
    return total(section).score(["p"] * len(answers), answers, rows).total


def test_regex_count() -> None:
    section = {"kind": "regex_count", "pattern": r"\b(happy|love[sd]?)\b", "cap": 2}
    assert given(section, ["happy happy happy", "she loved it", "unhappy", "Happy"]) == [2, 1, 0, 0]
    assert given(section | {"ignore_case": True, "scale": 0.5}, ["Happy"]) == [0.5]


def test_contains() -> None:
    section = {"kind": "contains", "texts": ["sorry", "help"]}
    assert given(section, ["Sorry, I can HELP", "help", ""]) == [1, 0.5, 0]


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("so it is 5 + 67 = 72", 1),
        ("#### 72", 1),
        ("#### 72 clips, not 3", 1),
        ("72 it is, out of 100", 0),
        ("$72.00", 1),
        ("It costs 1,072", 0),
        ("144/2", 1),
        ("-72", 0),
        ("", 0),
        ("seventy-two", 0),
        ("7.2e1", 1),
        ("1/0", 0),
        ("between 70-72", 1),
        ("72 100", 0),  # one number, 72100, and not two
        ("100 072", 0),
        ("100, 72", 1),
        ("100 and 72", 1),
        ("it is −72, not 72 – so \\boxed{72} of 100", 1),
        ("\\boxed{\\frac{144}{2}}", 1),
        ("1e999", 0),
        ("9" * 400, 0),
    ],
)
def test_numeric_answer(answer: str, right: float) -> None:
    reference = "48/2 = <<48/2=24>>24\n#### 72"
    assert given({"kind": "numeric_answer"}, [answer], reference) == [right]


@pytest.mark.parametrize(
    ("reference", "right", "wrong"),
    [
        (
            "1234.5",
            ["1,234.50", "$1,234.50", "1.234,50 €", "1 234,50", "1'234.50", "1\u202f234,50"],
            ["1,234", "1,23,4.50", "234,50", "-1,234.50"],
        ),
        ("-3", ["-3", "−3", "–3", "x=-3.", "(-3)", "-$3", "-3%"], ["5-3", "2−3", "1–3", "a-3"]),
        ("12.5", ["12,50 Euro", "12½", "25/2", "\\dfrac{25}{2}"], ["12,5,1", "1250"]),
        ("1000000", ["1,000,000", "1.000.000", "10,00,000", "1e6", "1×10^6", "10^6"], ["1.000"]),
        ("3", ["1,2,3", "\\boxed{3} as 2+1=3, not 4", "x_1 = 3"], ["3,4", "v1.3"]),
        ("\\boxed{7}", ["7", "７", "7."], ["8"]),
    ],
)
def test_number_formats_are_read(reference: str, right: list[str], wrong: list[str]) -> None:
    section = {"kind": "numeric_answer"}
    assert given(section, right, reference) == [1] * len(right)
    assert given(section, wrong, reference) == [0] * len(wrong)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"7\frac{1}{2}", Fraction(15, 2)),
        (r"-2\dfrac{3}{4}", Fraction(-11, 4)),
        ("7 1/2", Fraction(15, 2)),
        (r"\boxed{7\tfrac12} cups", Fraction(15, 2)),
        (r"\frac{3}{4}", Fraction(3, 4)),
        (r"1.5 \times 10^{3}", Fraction(1500)),
        (r"1.5\cdot10^{-3}", Fraction(3, 2000)),
        ("1.5 x 10^3", Fraction(1500)),
        (r"2^{10}", Fraction(1024)),
        ("so 2**10", Fraction(1024)),
        (r"\boxed{2^{10}}", Fraction(1024)),
        ("1 000 000", Fraction(1_000_000)),
        ("72 100", Fraction(72_100)),
        ("25 000 km", Fraction(25_000)),
        (r"1\,000\,000", Fraction(1_000_000)),
        (r"x^2 = 9, so x = 3", Fraction(3)),
        (r"#### 7\frac{1}{2}", Fraction(15, 2)),
        (r"3\sqrt{2}", None),
        (r"\boxed{3\sqrt{2}}", None),
        (r"\frac{\sqrt{2}}{2}", None),
        (r"\sqrt[3]{5}", None),
        (r"\sqrt{2}/2", None),
        (r"2\pi", None),
        ("√2", None),
        (r"2^{1/2}", None),
        (r"#### 3\sqrt{2}", None),
        ("9^999999", None),
    ],
)
def test_numbers_in_mathematical_notation(text: str, value: Fraction | None) -> None:
    found = final_number(text, "####")
    assert found == (None if value is None else pytest.approx(float(value), rel=1e-12))


def test_a_reference_that_is_no_plain_number() -> None:
    with pytest.raises(DataError, match=r"finds no number in the reference .*sqrt"):
        given({"kind": "numeric_answer"}, ["2"], r"3\sqrt{2}")


def test_numeric_answer_after_its_marker_only() -> None:
    section = {"kind": "numeric_answer", "marked_only": True}
    assert given(section, ["72", "#### 72"], "72") == [0, 1]


def test_a_reference_without_a_number_is_explained() -> None:
    with pytest.raises(DataError, match=r"r:0.*finds no number.*data\.train\.columns"):
        given({"kind": "numeric_answer"}, ["1"], "none")


@pytest.mark.parametrize(
    ("answer", "chosen"),
    [
        ("The answer is B.", "B"),
        ("the answer is (b)", "B"),
        ("A) is wrong, B) is right. Answer: C", "C"),
        ("#### D", "D"),
        ("B", "B"),
        ("B) 6000", "B"),
        ("Because of that, E", "E"),
        ("A bird in the hand", None),
        ("**C**", "C"),
        ("So we get \\boxed{C}.", "C"),
        ("<answer> C </answer>", "C"),
        ("Final answer: $C$", "C"),
        ("'C'", "C"),
        ("c", "C"),
        ("答案是C", "C"),
        ("The answer is a bit hidden: C", "C"),
        ("A good choice would be C", "C"),
        ("not B but C", "C"),
        ("option C is right", "C"),
        ("it's a c", None),
        ("", None),
    ],
)
def test_choice(answer: str, chosen: str | None) -> None:
    given_to = {letter: given({"kind": "choice"}, [answer], letter)[0] for letter in "ABCDE"}
    assert [letter for letter, value in given_to.items() if value] == ([chosen] if chosen else [])


def test_json_schema() -> None:
    schema = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}
    section = {"kind": "json_schema", "schema": schema, "parses": 0.25}
    answers = ['{"name": "a"}', '```json\n{"name": "a"}\n```', '{"name": 1}', "[]", '{"name"']
    assert given(section, answers) == [1, 1, 0.25, 0.25, 0]


def test_an_invalid_schema_is_explained() -> None:
    with pytest.raises(DataError, match="json_schema: schema is not valid"):
        given({"kind": "json_schema", "schema": {"type": "no such type"}}, ["{}"])


@pytest.mark.parametrize(
    "reference", ["#/$defs/x", "http://localhost:9/x.json", "file:///etc/hosts"]
)
def test_a_reference_to_another_document_is_explained(reference: str) -> None:
    schema = {"type": "object", "properties": {"a": {"anyOf": [{"$ref": reference}]}}}
    with pytest.raises(DataError, match=r"refers to .*, which is not in it"):
        given({"kind": "json_schema", "schema": schema}, ["{}"])


def test_a_recursive_schema_is_supported() -> None:
    schema = {"$defs": {"n": {"properties": {"n": {"$ref": "#/$defs/n"}}}}, "$ref": "#/$defs/n"}
    deep = '{"n":' * 900 + "{}" + "}" * 900
    assert given({"kind": "json_schema", "schema": schema}, ['{"n": {}}', deep]) == [1, 0.2]
    with pytest.raises(DataError, match="leads back to itself"):
        given({"kind": "json_schema", "schema": {"$ref": "#"}}, ["{}"])


def test_a_pattern_that_times_out_scores_0(caplog: pytest.LogCaptureFixture) -> None:
    section = {"kind": "regex_count", "pattern": r"^(a|aa)+$|b"}
    start = time.monotonic()
    assert given(section, ["a" * 80 + "c", "b"]) == [0, 1]
    assert time.monotonic() - start < 20
    assert "took more than" in caplog.text and "1 answers" in caplog.text


def test_words_in_scripts_without_spaces() -> None:
    assert split_words("it is 你好 ok!") == ["it", "is", "你", "好", "ok!"]
    assert given({"kind": "length", "max_words": 3}, ["一二三", "一二三四五六"]) == [1, 0]
    assert given({"kind": "repetition", "ngram": 3}, ["哈" * 10])[0] < -0.8


def test_length() -> None:
    section = {"kind": "length", "min_words": 4, "max_words": 10}
    answers = [" ".join(["w"] * n) for n in (0, 1, 4, 10, 15, 20, 40)]
    assert given(section, answers) == [0, 0.25, 1, 1, 0.5, 0, 0]


def test_repetition() -> None:
    section = {"kind": "repetition", "ngram": 2}
    assert given(section, ["a b c d", "a b a b", "a"]) == pytest.approx([0, -1 / 3, 0])


def test_rewards_are_summed_by_weight_and_reported_separately() -> None:
    rows = [PromptRow("r", "p", None, {})] * 2
    both = total(
        {"kind": "regex_count", "pattern": "a", "weight": 2},
        {"kind": "regex_count", "pattern": "b", "weight": -0.5},
        {"kind": "length", "max_words": 1},
    )
    scores = both.score(["p"] * 2, ["aab", "b b"], rows)
    assert scores.each == {"regex_count_1": [2, 0], "regex_count_2": [1, 2], "length": [1, 0]}
    assert scores.total == [4 - 0.5 + 1, -1]


def test_a_single_reward_needs_no_list() -> None:
    (one,) = TypeAdapter(Rewards).validate_python({"kind": "regex_count", "pattern": "a"})
    assert one.weight == 1


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"kind": "regex_count", "pattern": "("}, "not a regular expression"),
        ({"kind": "length"}, "give min_words"),
        ({"kind": "length", "min_words": 5, "max_words": 2}, "below min_words"),
        ({"kind": "contains", "texts": []}, "at least 1"),
    ],
)
def test_invalid_settings_are_refused(section: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        total(section)


class _Broken:
    def score(self, prompts: Any, completions: Any, rows: Any) -> list[float]:
        return [1.0, math.nan]


def test_a_nan_reward_stops_the_run() -> None:
    broken = CompositeReward(["mine"], [_Broken()], [1.0])
    with pytest.raises(GuardError, match="reward mine is nan for the answer 'b' to r:2"):
        broken.score(["p", "q"], ["a", "b"], [PromptRow(f"r:{i}", "p", None, {}) for i in (1, 2)])


def test_a_constant_reward_stops_the_run() -> None:
    flat = total({"kind": "regex_count", "pattern": "a"})
    for step in range(1, PATIENCE):
        flat.check_varies(0.0, 0.0, step)
    again = total({"kind": "regex_count", "pattern": "a"})
    again.load_state_dict(flat.state_dict())
    with pytest.raises(GuardError, match="every answer got the same reward, now 0"):
        again.check_varies(0.0, 0.0, PATIENCE)
    several = total({"kind": "regex_count", "pattern": "a"})
    for rollout in range(3):
        several.check_varies(0.0, 0.0, 9 * rollout, steps=9)
    with pytest.raises(GuardError, match="in each of the last 20 steps"):
        several.check_varies(0.0, 0.0, 27, steps=9)
    flat.check_varies(0.0, 1.0, PATIENCE)
    flat.check_varies(0.0, 0.0, PATIENCE + 1)


@pytest.mark.parametrize("kind", ["numeric_answer", "choice"])
def test_a_list_of_answers_is_one_answer_or_an_error_that_says_what_to_write(kind: str) -> None:
    right = {"numeric_answer": "72", "choice": "B"}[kind]
    read = SchemaReader(Source(source="x"), "prompt").read

    def row(answer: list[str]) -> PromptRow:
        found = read(SourceRecord("r:0", {"prompt": "Which?", "answer": answer, "id": 3}))
        assert isinstance(found, PromptRow)
        return found

    reward = total({"kind": kind})
    assert reward.score(["Which?"], [right], [row([right])]).total == [1]
    with pytest.raises(DataError, match=r"r:0.*Column answer holds a list of 2 .*Write the right"):
        reward.score(["Which?"], [right], [row([right, "C"])])

"""Golden prompts: what agrees, what differs, and what a file of them may contain."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from deployment.errors import DeployModelError
from deployment.golden import ask_prompt, read_golden
from deployment.golden_answers import GoldenAnswer, GoldenPrompt, difference_of
from training.errors import DataError

RECORDED = GoldenAnswer(("a", "b", "c"), (-0.1, -0.7, -2.0))


@pytest.mark.parametrize(
    ("tokens", "log_probs", "difference"),
    [
        (("a", "b", "c"), (-0.1, -0.7, -2.0), None),
        (("a", "b", "c"), (-0.12, -0.66, -2.04), None),
        (("a", "b", "c"), (-0.1, -0.8, -2.0), "token 2 ('b') has the log-probability -0.800"),
        (("a", "x", "c"), (-0.1, -0.7, -2.0), "token 2 is 'x', not 'b'"),
        (("a", "b"), (-0.1, -0.7), "it has 2 tokens, not 3"),
        (("a", "b", "c"), (-0.1, math.nan, -2.0), "token 2 ('b') has the log-probability nan"),
        ((), (), "the answer is empty"),
    ],
)
def test_differences(
    tokens: tuple[str, ...], log_probs: tuple[float, ...], difference: str | None
) -> None:
    found = difference_of(RECORDED, GoldenAnswer(tokens, log_probs), 0.05)
    assert found == difference or (difference and found and found.startswith(difference))


@pytest.mark.parametrize(("log_prob", "agrees"), [(-0.72, True), (-0.9, False)])
def test_another_token_first_is_accepted_if_the_recorded_one_is_as_likely_as_it_was(
    log_prob: float, agrees: bool
) -> None:
    likeliest = ({"a": -0.1}, {"x": -0.68, "b": log_prob}, {"y": -9.0})
    answer = GoldenAnswer(("a", "x", "y"), (-0.1, -0.68, -9.0), likeliest)
    assert (difference_of(RECORDED, answer, 0.05) is None) == agrees


def test_any_answer_is_enough_without_a_recorded_one() -> None:
    assert difference_of(None, GoldenAnswer(("x",), (-5.0,)), 0.05) is None


def test_texts_are_compared_if_one_side_has_no_log_probabilities() -> None:
    text = GoldenAnswer(text="abc")
    assert difference_of(RECORDED, text, 0.05) is None
    assert difference_of(text, RECORDED, 0.05) is None
    other = GoldenAnswer(text="abd")
    expected = "from character 3 on, the text is 'd', not 'c'"
    assert difference_of(RECORDED, other, 0.05) == expected
    assert difference_of(GoldenAnswer(text="abc"), GoldenAnswer(), 0.05) == "the answer is empty"

    def ask(body: Any) -> dict[str, Any]:
        return {"choices": [{"text": "abc", "logprobs": None}]}

    prompt = GoldenPrompt({"prompt": "x"}, text, 1)
    assert ask_prompt(prompt, ask) == text


def test_both_routes_are_asked_at_temperature_0() -> None:
    sent: list[dict[str, Any]] = []
    content = [{"token": "a", "logprob": -0.1}]

    def ask(body: Any) -> dict[str, Any]:
        sent.append(dict(body))
        log_probs: dict[str, Any] = {"tokens": ["a"], "token_logprobs": [-0.1]}
        if "messages" in body:
            log_probs = {"content": content}
        return {"choices": [{"logprobs": log_probs}]}

    messages = [{"role": "user", "content": "x"}]
    for request in ({"prompt": "x"}, {"messages": messages}):
        answer = ask_prompt(GoldenPrompt(request, RECORDED, 1), ask)
        assert (answer.tokens, answer.log_probs) == (("a",), (-0.1,))
    assert [body["temperature"] for body in sent] == [0, 0]
    assert [body["max_tokens"] for body in sent] == [3, 3]
    assert [body["logprobs"] for body in sent] == [3, True]
    with pytest.raises(DeployModelError, match="no answer"):
        ask_prompt(GoldenPrompt({"prompt": "x"}, None, 4), lambda body: {"choices": []})


def test_every_wrong_line_of_a_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "golden.jsonl"
    rows = [
        {"prompt": "x"},
        {"prompt": "x", "messages": []},
        {"prompt": 1},
        {"prompt": "x", "tokens": ["a"], "log_probs": []},
        {"prompt": "x", "tokens": ["a"], "log_probs": [None]},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows) + "no JSON\n")
    with pytest.raises(DataError, match="lines that cannot be used: 5") as caught:
        read_golden(file)
    assert [line.split(":")[0] for line in str(caught.value).splitlines()[1:]] == [
        f"  line {number}" for number in (2, 3, 4, 5, 6)
    ]
    with pytest.raises(DataError, match="cannot be read"):
        read_golden(tmp_path / "none")
    file.write_text("\n")
    with pytest.raises(DataError, match="has no prompts"):
        read_golden(file)

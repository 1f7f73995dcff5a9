"""The judge score: called once per question, priced, capped, resumed, and checked."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from evaluation.config.scores import AnyScore, LlmJudge
from evaluation.scores.base import AnsweredItem, ScoreContext, ScoreOutcome, build_score
from tests.fake_llm_server import FakeLlmServer, serving
from training.errors import DataError, RunError

_ITEMS = [
    AnsweredItem(str(n), {}, f"Question {n}?", ("4",), (f"answer {n} of the model",))
    for n in range(12)
]
_OTHERS = {item.id: [f"reply {item.id}"] for item in _ITEMS}


@pytest.fixture(scope="module")
def running() -> Iterator[FakeLlmServer]:
    with serving() as fake:
        yield fake


@pytest.fixture
def server(running: FakeLlmServer) -> FakeLlmServer:
    running.calls.clear()
    return running


def _section(server: FakeLlmServer, **keys: Any) -> LlmJudge:
    judge = {"kind": "openai", "url": server.url, "model": "judge-1", "retries": 0}
    judge["price"] = {"input": 10.0, "output": 10.0}
    document = {"kind": "judge", "mode": "pairwise", "rubric": "Be good.", "judge": judge, **keys}
    section: LlmJudge = TypeAdapter(AnyScore).validate_python(document)
    return section


def _score(section: LlmJudge, folder: Path, **context: Any) -> ScoreOutcome:
    place = ScoreContext(
        torch.device("cpu"),
        folder / "out",
        folder / "cache",
        **{"other_answers": _OTHERS, **context},
    )
    return build_score(section, place).score(_ITEMS)


def _prefers_the_model(messages: list[dict[str, Any]]) -> tuple[int, str]:
    text = messages[0]["content"]
    a = text.partition("<answer_a>\n")[2].partition("\n</answer_a>")[0]
    return 200, "[[A]]" if a.startswith("answer") else "[[B]]"


def test_wins_with_what_explains_them(server: FakeLlmServer, tmp_path: Path) -> None:
    server.reply = _prefers_the_model
    outcome = _score(_section(server), tmp_path)
    assert outcome.metrics[0].name == "win_rate"
    assert outcome.metrics[0].value == 1.0
    assert outcome.details[0]["preference"] == "model"
    assert outcome.details[0]["other_answer"] == "reply 0"
    assert outcome.details[0]["verdicts"][0]["reasons"] == ("[[A]]", "[[B]]")
    facts = outcome.facts
    assert facts["flips"]["share"] == 0.0
    assert facts["longer_preferred"]["share"] == 1.0
    # 24 calls of 100 and 10 tokens at 10 USD per million.
    assert facts["usd"] == pytest.approx(24 * 110 * 10 / 1e6)
    json.dumps([*outcome.details, facts], allow_nan=False)


def test_a_judge_that_always_says_first_gives_only_ties(
    server: FakeLlmServer, tmp_path: Path
) -> None:
    server.reply = lambda messages: (200, "[[A]]")
    outcome = _score(_section(server), tmp_path)
    assert outcome.metrics[0].item_values is not None
    assert list(outcome.metrics[0].item_values) == [0.5] * 12
    assert outcome.facts["flips"]["share"] == 1.0
    assert outcome.facts["first_preferred"]["share"] == 1.0


def test_no_reply_is_paid_for_twice(server: FakeLlmServer, tmp_path: Path) -> None:
    server.reply = _prefers_the_model
    first = _score(_section(server), tmp_path)
    assert len(server.calls) == 24
    assert _score(_section(server), tmp_path).details == first.details
    assert len(server.calls) == 24


def test_the_cost_is_announced_before_the_first_call_and_capped(
    server: FakeLlmServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.reply = _prefers_the_model
    with caplog.at_level(logging.INFO), pytest.raises(RunError, match=r"could exceed --max-cost"):
        _score(_section(server), tmp_path, max_cost_usd=0.05)
    assert "24 questions, of which 0 have a cached reply; the rest costs at most" in caplog.text
    spent = len(server.calls)
    assert 0 < spent < 24
    # The same command with a higher limit asks only what has no reply yet.
    assert _score(_section(server), tmp_path, max_cost_usd=5).metrics[0].value == 1.0
    assert len(server.calls) == 24


def test_a_limit_without_a_price_is_refused(server: FakeLlmServer, tmp_path: Path) -> None:
    judge = {"kind": "openai", "url": server.url, "model": "judge-1"}
    with pytest.raises(RunError, match="price of the judge"):
        _score(_section(server, judge=judge), tmp_path, max_cost_usd=1)
    assert not server.calls


def test_nonsense_is_counted_and_too_much_is_an_error(
    server: FakeLlmServer, tmp_path: Path
) -> None:
    def one_item_is_nonsense(messages: list[dict[str, Any]]) -> tuple[int, str]:
        known = "Question 3?" not in messages[0]["content"]
        return _prefers_the_model(messages) if known else (200, "Hmm")

    server.reply = one_item_is_nonsense
    outcome = _score(_section(server), tmp_path)
    assert outcome.unscored == {3: "no usable judgement"}
    assert outcome.metrics[0].item_values is not None
    assert math.isnan(outcome.metrics[0].item_values[3])
    assert outcome.metrics[0].value == 1.0
    assert outcome.facts["judges"][0]["unusable"] == 2
    with pytest.raises(RunError, match=r"1 of 12 items \(8%\) have no usable judgement"):
        _score(_section(server, max_unjudged=0.05), tmp_path)


def test_a_panel_is_decided_by_its_majority(server: FakeLlmServer, tmp_path: Path) -> None:
    def reply(messages: list[dict[str, Any]]) -> tuple[int, str]:
        model = server.calls[-1][2]["model"]
        return (200, "[[A]]") if model == "first" else _prefers_the_model(messages)

    server.reply = reply
    judges = [
        {"kind": "openai", "url": server.url, "model": name, "concurrency": 1}
        for name in ("one", "two", "first")
    ]
    outcome = _score(_section(server, judge=None, judges=judges), tmp_path)
    assert outcome.metrics[0].value == 1.0
    assert [judge["name"] for judge in outcome.facts["judges"]] == ["one", "two", "first"]
    assert outcome.facts["flips"]["share"] == pytest.approx(1 / 3, abs=1e-4)


def test_single_answers_are_rated(server: FakeLlmServer, tmp_path: Path) -> None:
    server.reply = lambda messages: (200, "Good. [[9]]")
    section = _section(server, mode="single", name="style", show_target=True)
    outcome = _score(section, tmp_path, other_answers=None)
    assert outcome.metrics[0].name == "style_judge_rating"
    assert outcome.metrics[0].value == 9.0
    assert outcome.details[0]["ratings"][0]["reason"] == "Good. [[9]]"
    assert "<correct_answer>\n4\n" in server.calls[0][2]["messages"][0]["content"]


def test_a_judge_of_the_same_family_is_warned_of(
    server: FakeLlmServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.reply = _prefers_the_model
    judge = {"kind": "openai", "url": server.url, "model": "Qwen/Qwen3-32B"}
    outcome = _score(_section(server, judge=judge), tmp_path, model="Qwen/Qwen3-0.6B")
    assert "same family (qwen)" in caplog.text
    assert outcome.facts["judges"][0]["same_family"] == "qwen"


def test_agreement_with_people_and_the_corrected_win_rate(
    server: FakeLlmServer, tmp_path: Path
) -> None:
    server.reply = _prefers_the_model
    rows = [
        {
            "prompt": item.prompt,
            "answer_a": item.answers[0],
            "answer_b": _OTHERS[item.id][0],
            "choice": "a" if int(item.id) % 2 else "b",
        }
        for item in _ITEMS[:10]
    ]
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    facts = _score(_section(server, human_labels=str(path)), tmp_path).facts["human"]
    assert (facts["labelled"], facts["agreement"]) == (10, 0.5)
    assert facts["corrected_win_rate"]["value"] == 0.5


def test_a_comparison_needs_another_model(server: FakeLlmServer, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="--against"):
        _score(_section(server), tmp_path, other_answers=None)
    with pytest.raises(DataError, match="an answer to none of the items"):
        _score(_section(server), tmp_path, other_answers={"0": []})
    assert not server.calls


def test_items_without_an_answer_of_the_other_model_are_not_compared(
    server: FakeLlmServer, tmp_path: Path
) -> None:
    server.reply = _prefers_the_model
    others = {"2": ["x"], "5": ["y"]}
    outcome = _score(_section(server), tmp_path, other_answers=others)
    assert len(server.calls) == 4
    values = outcome.metrics[0].item_values
    assert values is not None
    assert [n for n, value in enumerate(values) if not math.isnan(value)] == [2, 5]
    assert len(outcome.details) == 12
    assert outcome.unscored[0] == "the other model has no answer"
    assert len(outcome.unscored) == 10


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"judge": None}, "either judge, or judges"),
        ({"judge": {"kind": "local"}}, "a local judge needs source"),
        ({"mode": "single", "human_labels": "labels.csv"}, "labels are of pairs"),
        ({"rubric": ""}, "at least 1 character"),
    ],
)
def test_a_section_that_cannot_be_used_is_refused(keys: dict[str, Any], message: str) -> None:
    server = FakeLlmServer()
    server.url = "http://127.0.0.1:9"
    with pytest.raises(ValidationError, match=message):
        _section(server, **keys)

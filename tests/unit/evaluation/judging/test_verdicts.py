"""Verdicts in both orders, panels, biases and the correction by human labels."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from nltk.metrics.agreement import AnnotationTask
from scipy import optimize
from sklearn.metrics import cohen_kappa_score

from evaluation.judging.biases import (
    first_preferred,
    flips,
    length_controlled_win_rate,
    longer_preferred,
)
from evaluation.judging.family import family_of
from evaluation.judging.human_labels import human_wins
from evaluation.judging.pairwise import AnswerPair, judge_pairs, parse_verdict
from evaluation.judging.panel import majority, mean_kappa
from evaluation.judging.prediction_powered import prediction_powered_mean
from evaluation.judging.rating import RatedAnswer, parse_rating, rate_answers
from training.data.schema.rows import Message
from training.errors import DataError
from training.judges.base import JudgeUsage

_PAIRS = [AnswerPair(f"Question {n}?", f"good {n}", f"bad {n} " * 3) for n in range(20)]


class _RuleJudge:
    def __init__(self, rule: Callable[[str, str], str]):
        self._rule = rule

    def replies(self, questions: Sequence[list[Message]]) -> list[str]:
        texts = [str(question[0]["content"]) for question in questions]
        return [
            self._rule(_between(text, "answer_a"), _between(text, "answer_b")) for text in texts
        ]


def _between(text: str, tag: str) -> str:
    return text.partition(f"<{tag}>\n")[2].partition(f"\n</{tag}>")[0]


def _judge(rule: Callable[[str, str], str]) -> list[str | None]:
    verdicts = judge_pairs(_RuleJudge(rule), _PAIRS, "Be good.", retries=0, usage=JudgeUsage())
    return [verdict.preference for verdict in verdicts]


def test_a_judge_that_always_says_first_calls_only_ties() -> None:
    usage = JudgeUsage()
    verdicts = judge_pairs(
        _RuleJudge(lambda a, b: "Fine. [[A]]"), _PAIRS, "Be good.", retries=0, usage=usage
    )
    assert [verdict.preference for verdict in verdicts] == ["tie"] * 20
    assert flips(verdicts).value == 1.0
    assert first_preferred(verdicts).value == 1.0
    assert first_preferred(verdicts).of == 40
    assert usage.questions == 40


def test_a_consistent_judge_has_one_preference_in_both_orders() -> None:
    def rule(a: str, b: str) -> str:
        return "[[A]]" if a.startswith("good") else "[[B]]"

    assert _judge(rule) == ["model"] * 20
    assert _judge(lambda a, b: "[[B]]" if a.startswith("good") else "[[A]]") == ["other"] * 20
    assert _judge(lambda a, b: "[[tie]]") == ["tie"] * 20
    verdicts = judge_pairs(_RuleJudge(rule), _PAIRS, "", retries=0, usage=JudgeUsage())
    assert flips(verdicts).value == 0.0
    assert first_preferred(verdicts).value == 0.5


def test_a_verdict_in_one_order_only_is_none() -> None:
    assert _judge(lambda a, b: "[[A]]" if a.startswith("good") else "no idea") == [None] * 20


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("I first thought [[A]], but B is right. [[B]]", "b"),
        ("[[ Tie ]]", "tie"),
        ("[[C]]", "tie"),
        ("A", "a"),
        ("**Answer B**", "b"),
        ("A and B are both fine", None),
        ("", None),
    ],
)
def test_the_last_verdict_of_a_reply_counts(reply: str, verdict: str | None) -> None:
    assert parse_verdict(reply) == verdict


@pytest.mark.parametrize(
    ("reply", "rating"),
    [
        ("Two of 3 facts are right. [[7]]", 7),
        ("[[3]] no, [[4]]", 4),
        ("8", 8),
        ("8/10", 8),
        ("8/5", None),
        ("[[11]]", None),
        ("[[0]]", None),
        ("It has 3 errors", None),
    ],
)
def test_ratings(reply: str, rating: int | None) -> None:
    assert parse_rating(reply, 10) == rating


def test_answers_are_rated_with_the_reason() -> None:
    class Judge:
        def replies(self, questions: Sequence[list[Message]]) -> list[str]:
            texts = [str(question[0]["content"]) for question in questions]
            assert all("<correct_answer>\n4\n</correct_answer>" in text for text in texts)
            return ["Right. [[10]]" if "\n4\n</answer>" in text else "[[1]]" for text in texts]

    answers = [RatedAnswer("2+2?", "4", "4"), RatedAnswer("2+2?", "5", "4")]
    usage = JudgeUsage()
    ratings = rate_answers(Judge(), answers, "Be right.", scale=10, retries=0, usage=usage)
    assert [rating.rating for rating in ratings] == [10, 1]
    assert ratings[0].reason == "Right. [[10]]"


def test_the_majority_of_a_panel_is_more_than_half() -> None:
    assert majority(["model", "model", "other"]) == "model"
    assert majority(["model", "other"]) == "tie"
    assert majority(["model", "tie", "other"]) == "tie"
    assert majority(["model", None, None]) == "model"
    assert majority([None, None]) is None


def test_kappa_agrees_with_nltk_and_scikit_learn() -> None:
    generator = np.random.default_rng(1)
    truth = generator.integers(1, 6, size=80)
    judges = [np.clip(truth + generator.integers(-1, 2, size=80), 1, 5) for _ in range(3)]
    ratings: list[list[float | None]] = [[float(value) for value in judge] for judge in judges]
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = np.mean(
        [cohen_kappa_score(judges[a], judges[b], weights="quadratic") for a, b in pairs]
    )
    assert mean_kappa(ratings, ordinal=True) == pytest.approx(expected)
    triples = [
        (str(n), str(i), value) for n, judge in enumerate(ratings) for i, value in enumerate(judge)
    ]
    assert mean_kappa(ratings, ordinal=False) == pytest.approx(AnnotationTask(data=triples).kappa())
    assert mean_kappa(ratings[:1], ordinal=False) is None
    assert mean_kappa([[1.0, 1.0], [1.0, 1.0]], ordinal=False) is None


def test_length_preference_omits_ties_and_equal_lengths() -> None:
    share = longer_preferred([1, 0, 0.5, 1, math.nan, 1], [3, 3, 3, 0, 3, -2])
    assert (share.count, share.of) == (1, 3)


def _biased_judge(generator: np.random.Generator, quality: float) -> tuple[list[float], list[int]]:
    """Return wins of a model with longer answers, by a judge who prefers these."""
    gaps = generator.normal(40, 60, size=400).round().astype(int)
    length = np.tanh(gaps / gaps.std())
    p = 1 / (1 + np.exp(-(quality + 1.5 * length)))
    return [float(win) for win in generator.random(400) < p], [int(gap) for gap in gaps]


@pytest.mark.parametrize("quality", [0.0, 0.8])
def test_the_preference_for_length_is_taken_out_of_the_win_rate(quality: float) -> None:
    generator = np.random.default_rng(7)
    truth = 1 / (1 + math.exp(-quality))
    covered, raw = 0, []
    for _ in range(8):
        wins, gaps = _biased_judge(generator, quality)
        controlled = length_controlled_win_rate(wins, gaps, resamples=100)
        assert controlled is not None
        covered += controlled.low <= truth <= controlled.high
        raw.append(np.mean(wins))
    assert covered >= 6
    assert np.mean(raw) > truth + 0.07


def test_the_regression_is_the_penalized_maximum_of_the_likelihood() -> None:
    wins, gaps = _biased_judge(np.random.default_rng(3), 0.4)
    length = np.tanh(np.array(gaps) / np.std(gaps))

    def loss(ab: np.ndarray) -> float:
        signed = (2 * np.array(wins) - 1) * (ab[0] + ab[1] * length)
        return float(np.logaddexp(0, -signed).sum() + 0.025 * (ab**2).sum())

    intercept = optimize.minimize(loss, np.zeros(2), tol=1e-10).x[0]
    controlled = length_controlled_win_rate(wins, gaps, resamples=10)
    assert controlled is not None
    assert controlled.value == pytest.approx(1 / (1 + math.exp(-intercept)), abs=1e-4)


def test_a_model_that_always_wins_has_a_finite_win_rate() -> None:
    controlled = length_controlled_win_rate([1.0] * 30, list(range(30)), resamples=20)
    assert controlled is not None
    assert 0.9 < controlled.value <= 1
    assert length_controlled_win_rate([1.0] * 9, [1] * 9) is None


def test_human_labels_correct_a_judge_with_a_planted_error() -> None:
    """A judge that calls 45 % of losses wins; 100 of 1,000 items have a human label."""
    generator = np.random.default_rng(11)
    covered, judge_alone, widths = 0, 0, []
    for _ in range(400):
        human = (generator.random(1000) < 0.4).astype(float)
        error = generator.random(1000) < np.where(human == 1, 0.05, 0.45)
        judged = np.where(error, 1 - human, human)
        labels = np.where(np.arange(1000) < 100, human, np.nan)
        result = prediction_powered_mean(list(judged), list(labels))
        assert result is not None
        covered += result.low <= 0.4 <= result.high
        judge_alone += abs(judged.mean() - 0.4) < 0.1
        widths.append(result.high - result.low)
    assert 0.92 <= covered / 400 <= 0.98
    assert judge_alone == 0
    # Labels alone have an interval of 2 * 1.96 * sqrt(0.24 / 100).
    assert np.mean(widths) < 0.9 * 2 * 1.96 * math.sqrt(0.24 / 100)


def test_a_judge_that_guesses_gets_no_weight() -> None:
    generator = np.random.default_rng(2)
    human, judged = generator.integers(0, 2, size=(2, 2000)).astype(float)
    labels = [*human[:200], *[math.nan] * 1800]
    result = prediction_powered_mean(list(judged), labels)
    assert result is not None
    assert result.weight < 0.15
    assert result.value == pytest.approx(human[:200].mean(), abs=0.02)
    assert prediction_powered_mean([1.0] * 50, [1.0] * 9 + [math.nan] * 41) is None


def test_human_labels_are_matched_whichever_answer_they_showed_first(tmp_path: Path) -> None:
    shown = [
        ("Question 0?", "good 0", _PAIRS[0].other, "a"),
        ("Question 1?", _PAIRS[1].other, "good 1", "a"),
        ("Question 2?", "good 2", _PAIRS[2].other, "tie"),
        ("Another?", "x", "y", "b"),
    ]
    columns = ("prompt", "answer_a", "answer_b", "choice")
    rows = [dict(zip(columns, row, strict=True)) for row in shown]
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    wins = human_wins(path, _PAIRS[:4])
    assert wins[:3] == [1.0, 0.0, 0.5]
    assert math.isnan(wins[3])
    with pytest.raises(DataError, match="none of its 4 pairs is one of the 1 judged"):
        human_wins(path, _PAIRS[9:10])


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("Qwen/Qwen3-0.6B", "qwen"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude"),
        ("meta-llama/Llama-3.1-8B-Instruct", "llama"),
        ("gpt-4o-mini", "gpt"),
        ("o3-mini", "gpt"),
        ("gpt2", None),
        ("EleutherAI/gpt-neox-20b", None),
        ("amazon.nova-pro-v1:0", "nova"),
        ("google/gemma-3-4b-it", "gemini"),
        ("my-model", None),
    ],
)
def test_families(name: str, family: str | None) -> None:
    assert family_of(name) == family


def test_the_family_of_a_folder_is_in_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "qwen3"}')
    assert family_of(str(tmp_path)) == "qwen"

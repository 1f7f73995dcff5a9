"""Rewards that use another model: a reward model, and a judge at an endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.fake_llm_server import FakeLlmServer, serving
from training.config.rewards import JudgeReward, ModelReward
from training.data.schema.rows import PromptRow
from training.errors import ModelError
from training.rewards import judge, model
from training.rewards.base import Reward
from training.rewards.context import RewardContext


def rows(number: int) -> list[PromptRow]:
    return [PromptRow(f"r:{i}", "p", None, {}) for i in range(number)]


# --- a reward model ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scorer(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scorer")
    torch.manual_seed(0)
    scoring = AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=1)
    scoring.config.pad_token_id = AutoTokenizer.from_pretrained(tiny_model).pad_token_id
    scoring.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder


def model_reward(source: Path, folder: Path, **keys: Any) -> Reward:
    document = {"kind": "model", "source": str(source), **keys}
    section = TypeAdapter(ModelReward).validate_python(document)
    return model.build(section, RewardContext(torch.device("cpu"), folder))


def test_a_reward_model_scores_text_in_its_training_format(scorer: Path, tmp_path: Path) -> None:
    answers = ["Return a copy of the string.", "No", "the the the " * 20]
    found = model_reward(scorer, tmp_path, batch_size=2).score(["What is x?"] * 3, answers, rows(3))
    tokenizer = AutoTokenizer.from_pretrained(scorer)
    plain = AutoModelForSequenceClassification.from_pretrained(scorer).eval()
    for value, answer in zip(found, answers, strict=True):
        ids = tokenizer("What is x?\n")["input_ids"]
        ids += tokenizer(answer, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
        with torch.no_grad():
            expected = float(plain(torch.tensor([ids])).logits)
        assert value == pytest.approx(expected, abs=1e-5)


def test_an_empty_answer_has_a_score(scorer: Path, tmp_path: Path) -> None:
    assert len(model_reward(scorer, tmp_path).score(["p", "q"], ["", "yes"], rows(2))) == 2


def test_a_language_model_is_refused_as_reward_model(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is a language model.*random weights"):
        model_reward(tiny_model, tmp_path)


def test_a_missing_reward_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="reward model"):
        model_reward(tmp_path / "nothing", tmp_path)


# --- a judge -------------------------------------------------------------------------------------


@pytest.fixture
def endpoint() -> Iterator[FakeLlmServer]:
    with serving() as found:
        yield found


def judged(endpoint: FakeLlmServer, folder: Path, **keys: Any) -> Any:
    asked = {"kind": "openai", "url": endpoint.url, "model": "m", **keys}
    section = TypeAdapter(JudgeReward).validate_python({"kind": "judge", "judge": asked})
    return judge.build(section, RewardContext(torch.device("cpu"), folder))


def test_a_rating_is_scaled_to_0_to_1(endpoint: FakeLlmServer, tmp_path: Path) -> None:
    endpoint.reply = lambda said: (
        200,
        "Rating: 10" if "good one" in said[0]["content"] else "1",
    )
    found = judged(endpoint, tmp_path).score(["p", "p"], ["a good one", "bad"], rows(2))
    assert found == [1, 0]
    path, _, asked = endpoint.calls[0]
    assert (path, asked["model"]) == ("/v1/chat/completions", "m")


def test_no_question_is_asked_twice(endpoint: FakeLlmServer, tmp_path: Path) -> None:
    judged(endpoint, tmp_path).score(["p"], ["a"], rows(1))
    again = judged(endpoint, tmp_path)
    assert again.score(["p", "p"], ["a", "b"], rows(2)) == pytest.approx([6 / 9, 6 / 9])
    assert len(endpoint.calls) == 2


def test_an_unusable_rating_is_requested_again_and_then_scores_0(
    endpoint: FakeLlmServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.reply = lambda said: (200, "3.5 of 100, I would say")
    found = judged(endpoint, tmp_path, retries=2)
    assert found.score(["p"], ["a"], rows(1)) == [0]
    assert (found.usage.unusable, found.usage.retries, len(endpoint.calls)) == (1, 2, 3)
    assert "gave no rating of 1 of 1 answers" in caplog.text


def test_a_local_judge_needs_a_source(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="needs a source"):
        TypeAdapter(JudgeReward).validate_python({"kind": "judge", "judge": {"kind": "local"}})

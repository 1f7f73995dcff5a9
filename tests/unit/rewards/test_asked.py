"""Rewards that ask others: a reward model, and a judge at an endpoint."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from training.config.rewards import Judge, RewardModel
from training.data.rows import PromptRow
from training.errors import ModelError, RunError
from training.rewards import judge, model
from training.rewards.reward import Place, Reward


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
    section = TypeAdapter(RewardModel).validate_python(document)
    return model.build(section, Place(torch.device("cpu"), folder))


def test_a_reward_model_scores_what_it_was_trained_to_read(scorer: Path, tmp_path: Path) -> None:
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


def test_an_empty_answer_has_a_score_too(scorer: Path, tmp_path: Path) -> None:
    assert len(model_reward(scorer, tmp_path).score(["p", "q"], ["", "yes"], rows(2))) == 2


def test_a_language_model_is_no_reward_model(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is a language model.*random weights"):
        model_reward(tiny_model, tmp_path)


def test_a_reward_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="reward model"):
        model_reward(tmp_path / "nothing", tmp_path)


# --- a judge -------------------------------------------------------------------------------------

Reply = Callable[[str], tuple[int, str]]


@pytest.fixture
def endpoint() -> Iterator[Any]:
    """A local endpoint whose reply a test decides; counts what it was asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            asked = json.loads(self.rfile.read(length))
            server.asked.append((self.path, self.headers.get("Authorization"), asked))
            status, said = server.reply(asked["messages"][0]["content"])
            body = json.dumps({"choices": [{"message": {"content": said}}]}).encode()
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *ignored: Any) -> None:
            """Say nothing."""

    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked = []
    server.reply = lambda said: (200, "7")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()


def judged(endpoint: Any, folder: Path, **keys: Any) -> Any:
    url = f"http://127.0.0.1:{endpoint.server_address[1]}/v1"
    document = {"kind": "judge", "url": url, "model": "m", "timeout": "5s", **keys}
    section = TypeAdapter(Judge).validate_python(document)
    return judge.build(section, Place(torch.device("cpu"), folder))


def test_a_judge_rates(endpoint: Any, tmp_path: Path) -> None:
    endpoint.reply = lambda said: (200, "Rating: 10" if "good" in said else "1")
    found = judged(endpoint, tmp_path).score(["p", "p"], ["a good one", "bad"], rows(2))
    assert found == [1, 0]
    path, key, asked = endpoint.asked[0]
    assert (path, key, asked["model"]) == ("/v1/chat/completions", None, "m")


def test_nothing_is_asked_twice(endpoint: Any, tmp_path: Path) -> None:
    judged(endpoint, tmp_path).score(["p"], ["a"], rows(1))
    again = judged(endpoint, tmp_path)
    assert again.score(["p", "p"], ["a", "b"], rows(2)) == pytest.approx([6 / 9, 6 / 9])
    assert len(endpoint.asked) == 2


def test_nonsense_is_asked_again_then_counts_nothing(endpoint: Any, tmp_path: Path) -> None:
    endpoint.reply = lambda said: (200, "I would rather not say")
    found = judged(endpoint, tmp_path, retries=2)
    assert found.score(["p"], ["a"], rows(1)) == [0]
    assert (found.nonsense, len(endpoint.asked)) == (1, 3)


def test_an_endpoint_that_fails_is_explained(
    endpoint: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "_WAIT_S", 0.001)
    endpoint.reply = lambda said: (500, "")
    with pytest.raises(RunError, match=r"does not answer.*500.*the same command goes on"):
        judged(endpoint, tmp_path, retries=1).score(["p"], ["a"], rows(1))
    endpoint.reply = lambda said: (200, "10")
    assert judged(endpoint, tmp_path).score(["p"], ["a"], rows(1)) == [1]


def test_a_key_comes_from_the_environment(
    endpoint: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RunError, match="JUDGE_KEY is not set"):
        judged(endpoint, tmp_path, api_key_env="JUDGE_KEY")
    monkeypatch.setenv("JUDGE_KEY", "k")
    judged(endpoint, tmp_path, api_key_env="JUDGE_KEY").score(["p"], ["a"], rows(1))
    assert endpoint.asked[0][1] == "Bearer k"

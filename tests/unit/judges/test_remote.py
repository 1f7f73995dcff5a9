"""Remote judges: cache, rate limit, retries, price and cost limit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
from pydantic import TypeAdapter

from tests.fake_llm_server import FakeLlmServer, serving
from training.config.judges import AnyJudge as Section
from training.errors import RunError
from training.judges import retries
from training.judges.base import JudgeContext, JudgeUsage, ask, build_judge
from training.judges.http_client import UnreadableError
from training.judges.openai import parse_response


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeLlmServer]:
    monkeypatch.setattr(retries, "_FIRST_WAIT_S", 0.001)
    with serving() as found:
        yield found


def judge(endpoint: FakeLlmServer, folder: Path, most: float | None = None, **keys: Any) -> Any:
    document = {"kind": "openai", "url": endpoint.url, "model": "m", "max_new_tokens": 10, **keys}
    context = JudgeContext(torch.device("cpu"), folder / "run", folder / "cache", most)
    return build_judge(TypeAdapter(Section).validate_python(document), context)


def questions(*texts: str) -> list[list[dict[str, Any]]]:
    return [[{"role": "user", "content": text}] for text in texts]


def test_replies_are_in_order_and_duplicates_are_called_once(
    endpoint: FakeLlmServer, tmp_path: Path
) -> None:
    endpoint.reply = lambda said: (200, said[-1]["content"].upper())
    one = judge(endpoint, tmp_path)
    assert one.replies(questions("a", "b", "a")) == ["A", "B", "A"]
    assert len(endpoint.calls) == 2
    assert judge(endpoint, tmp_path).replies(questions("b", "c")) == ["B", "C"]
    assert len(endpoint.calls) == 3
    # Another temperature is another judge.
    assert judge(endpoint, tmp_path, temperature=1.0).replies(questions("b")) == ["B"]
    assert len(endpoint.calls) == 4


def test_replies_are_cached_in_the_run_folder_without_a_writable_cache(
    endpoint: FakeLlmServer, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file, where a folder should be")
    assert judge(endpoint, tmp_path).replies(questions("a")) == ["7"]
    assert judge(endpoint, tmp_path).replies(questions("a")) == ["7"]
    assert len(endpoint.calls) == 1
    assert len(list((tmp_path / "run/replies").glob("*.sqlite"))) == 1


def test_a_temporary_failure_is_retried(endpoint: FakeLlmServer, tmp_path: Path) -> None:
    statuses = iter([503, 429, 200])
    endpoint.reply = lambda said: (next(statuses), "yes")
    assert judge(endpoint, tmp_path).replies(questions("a")) == ["yes"]
    assert len(endpoint.calls) == 3


def test_a_lasting_failure_is_explained_and_earlier_replies_are_cached(
    endpoint: FakeLlmServer, tmp_path: Path
) -> None:
    endpoint.reply = lambda said: (500 if said[-1]["content"] == "b" else 200, "yes")
    with pytest.raises(RunError, match=r"does not answer \(HTTP 500.*2 calls.*the same command"):
        judge(endpoint, tmp_path, retries=1, concurrency=1).replies(questions("a", "b", "c"))
    endpoint.calls.clear()
    endpoint.reply = lambda said: (200, "yes")
    assert judge(endpoint, tmp_path).replies(questions("a", "b")) == ["yes", "yes"]
    assert [body["messages"][0]["content"] for _, _, body in endpoint.calls] == ["b"]


@pytest.mark.parametrize(
    ("status", "hint"), [(401, "key is missing"), (404, "no such"), (400, "says why")]
)
def test_a_call_that_would_fail_again_is_not_retried(
    endpoint: FakeLlmServer, tmp_path: Path, status: int, hint: str
) -> None:
    endpoint.reply = lambda said: (status, "no")
    with pytest.raises(RunError, match=hint):
        judge(endpoint, tmp_path).replies(questions("a"))
    assert len(endpoint.calls) == 1


@pytest.mark.parametrize(
    "text", ["<html>log in</html>", '{"choices": []}', '{"choices": [', "[]", '{"detail": "no"}']
)
def test_an_unreadable_response_is_shown(text: str) -> None:
    with pytest.raises(UnreadableError, match="no chat completion") as said:
        parse_response(httpx2.Response(200, text=text))
    assert repr(text) in str(said.value)


def test_an_unreachable_endpoint_is_named(tmp_path: Path) -> None:
    gone = FakeLlmServer()
    gone.url = "http://127.0.0.1:9/v1"
    with pytest.raises(RunError, match=r"127\.0\.0\.1:9.*does not answer"):
        judge(gone, tmp_path, retries=0).replies(questions("a"))


def test_calls_respect_the_rate_limit(endpoint: FakeLlmServer, tmp_path: Path) -> None:
    began = time.monotonic()
    judge(endpoint, tmp_path, calls_per_minute=600).replies(questions("a", "b", "c", "d"))
    assert time.monotonic() - began >= 0.3


PRICE = {"input": 10.0, "output": 100.0}
"""The endpoint counts 100 tokens in and 10 out: 0.002 USD a call."""


def test_calls_are_paid_for_once_and_capped(endpoint: FakeLlmServer, tmp_path: Path) -> None:
    one = judge(endpoint, tmp_path, most=0.005, price=PRICE, concurrency=1)
    texts = [f"{'x' * 300} {number}" for number in range(5)]
    with pytest.raises(RunError, match=r"have cost 0.0040 USD.*max_cost \(0.005 USD\).*to resume"):
        one.replies(questions(*texts))
    assert len(endpoint.calls) == 2
    assert one.ledger.spent == {
        "calls": 2,
        "input_tokens": 200,
        "output_tokens": 20,
        "usd": pytest.approx(0.004),
    }
    again = judge(endpoint, tmp_path, most=0.02, price=PRICE)
    assert len(again.replies(questions(*texts))) == 5
    assert (len(endpoint.calls), again.ledger.spent["calls"]) == (5, 5)


def test_a_cost_limit_without_a_price_is_refused(endpoint: FakeLlmServer, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="the price of the judge m is not"):
        judge(endpoint, tmp_path, most=1.0)


def test_the_api_key_comes_from_the_environment(
    endpoint: FakeLlmServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RunError, match="JUDGE_KEY is not set"):
        judge(endpoint, tmp_path, api_key_env="JUDGE_KEY")
    monkeypatch.setenv("JUDGE_KEY", "k")
    judge(endpoint, tmp_path, api_key_env="JUDGE_KEY").replies(questions("a"))
    assert endpoint.calls[0][1]["authorization"] == "Bearer k"


def test_bedrock_uses_the_converse_api(
    endpoint: FakeLlmServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "k")
    endpoint.reply = lambda said: (200, f"{len(said)} {said[0]['role']}")
    section = {"kind": "bedrock", "region": "eu-central-1", "model": "vendor.model-v1:0"}
    document = {**section, "url": endpoint.url.removesuffix("/v1"), "temperature": 0.5}
    context = JudgeContext(torch.device("cpu"), tmp_path / "run", tmp_path / "cache")
    found = build_judge(TypeAdapter(Section).validate_python(document), context)
    asking = [[{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]]
    assert found.replies(asking) == ["2 system"]
    path, headers, body = endpoint.calls[0]
    assert path == "/model/vendor.model-v1%3A0/converse"
    assert headers["authorization"] == "Bearer k"
    assert body["inferenceConfig"] == {"maxTokens": 512, "temperature": 0.5}


def test_an_unusable_reply_is_requested_again_with_a_reminder_and_then_counted(
    endpoint: FakeLlmServer, tmp_path: Path
) -> None:
    endpoint.reply = lambda said: (200, "A" if len(said) > 2 and "a?" in said[0]["content"] else "")
    usage = JudgeUsage()
    found = ask(
        judge(endpoint, tmp_path),
        questions("a?", "b?"),
        lambda reply: reply or None,
        reminder="Say A.",
        retries=1,
        usage=usage,
    )
    assert found == ["A", None]
    assert (usage.questions, usage.retries, usage.unusable) == (2, 2, 1)
    assert endpoint.calls[-1][2]["messages"][-1]["content"] == "Say A."


def test_a_local_judge_does_not_depend_on_the_batch(tiny_model: Path, tmp_path: Path) -> None:
    document = {"kind": "local", "source": str(tiny_model), "max_new_tokens": 8, "batch_size": 2}
    context = JudgeContext(torch.device("cpu"), tmp_path / "run", tmp_path / "cache")
    warm = build_judge(
        TypeAdapter(Section).validate_python({**document, "temperature": 1.0}), context
    )
    texts = ["What is str?", "Why?", "What is the length of a list, and why?"]
    together = warm.replies(questions(*texts))
    assert together == [warm.replies(questions(text))[0] for text in texts]
    cold = build_judge(TypeAdapter(Section).validate_python(document), context)
    assert cold.replies(questions(*texts)) != together

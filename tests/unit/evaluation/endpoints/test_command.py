"""`temper evaluate` and `temper compare` on a model behind an endpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from evaluation.models.endpoint_likelihoods import PROBE
from evaluation.results import EvaluationResult, read_results
from temper.cli import main
from tests.completions_server import CompletionsServer, serving_model
from tests.factories import make_tiny_model
from tests.fake_llm_server import serving
from tests.unit.evaluation.endpoints.conftest import ANSWERS, CHOICE, TEXT, endpoint_file, tasks_of

PRICE = {"input": 10.0, "output": 100.0}


def results(out: str = "out") -> EvaluationResult:
    return read_results(Path(out))


def asked(server: CompletionsServer) -> list[Any]:
    """Return the bodies of the calls, without that of the probe."""
    return [body for _, body in server.calls if body.get("prompt") != PROBE]


@pytest.mark.slow
def test_a_suite_on_an_endpoint_compared_with_the_same_model_here(
    suite: Path, server: CompletionsServer, tiny: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = endpoint_file(server, price=PRICE, tokenizer=tiny)
    arguments = ["evaluate", model, str(suite), "--against", tiny, "--out", "out"]
    assert main(arguments) == 0
    found = results()
    assert (found.model.kind, found.model.source, found.model.digest) == ("openai", model, None)
    assert found.model.settings["url"] == server.url
    assert found.model.settings["model"] == "tiny-1"
    assert found.model.settings["context_length"] == 256
    for task in found.tasks.values():
        for name, pair in task.comparison.items():
            assert abs(pair.difference) <= 1e-6 * max(task.metrics[name].value, 1e-3)
        assert task.contaminated is None
    # 4 items of 2 choices, 4 texts, 4 answers, and the probe.
    assert (found.spent["calls"], len(server.calls)) == (17, 17)
    tokens = [found.spent[name] for name in ("input_tokens", "output_tokens")]
    assert found.spent["usd"] == pytest.approx((tokens[0] * 10 + tokens[1] * 100) / 1e6)
    out = capsys.readouterr().out
    assert "endpoint tiny-1: 16 calls, of which 0 have a cached reply; the cost of the rest" in out
    assert "spent: 17 calls" in out
    assert f"{found.spent['usd']:.4f} USD by the prices given" in out
    page = Path("out/report.html").read_text(encoding="utf-8")
    assert "Evaluation of tiny-1 (endpoint.yaml), compared with" in page
    assert "OpenAI protocol" in page
    assert "Spent: usd" in page


@pytest.mark.slow
def test_the_same_command_is_answered_from_the_cache_and_in_the_same_folder(
    suite: Path, server: CompletionsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    model = f"openai:{server.url}#{server.name}"
    assert main(["evaluate", model, str(suite)]) == 0
    first = len(server.calls)
    assert main(["evaluate", model, str(suite)]) == 0
    # Nothing but the probe.
    assert len(server.calls) == first + 1
    (folder,) = Path("evaluations/demo").iterdir()
    assert folder.name.startswith("tiny-1-")
    assert "20 calls, of which 20 have a cached reply" in capsys.readouterr().out
    assert main(["evaluate", endpoint_file(server, revision="2"), str(suite)]) == 0
    assert len(asked(server)) == 2 * (first - 1)
    assert len(list(Path("evaluations/demo").iterdir())) == 2


@pytest.mark.slow
def test_samples_are_answers_of_their_own(suite: Path, server: CompletionsServer) -> None:
    task = {**ANSWERS, "samples": 4, "temperature": 1.0, "stop": ["\n", "b", "c", "d", "e"]}
    arguments = ["evaluate", endpoint_file(server), str(tasks_of(suite, task)), "--out", "out"]
    assert main(arguments) == 0
    assert len(server.calls) == 16
    assert {body["seed"] for _, body in server.calls} == {0, 1, 2, 3}
    for path, body in server.calls:
        assert path == "/v1/completions"
        assert (body["temperature"], body["max_tokens"]) == (1.0, 6)
        assert body["stop"] == ["\n", "b", "c", "d"]
    lines = Path("out/items/answers.jsonl").read_text().splitlines()
    answers = [json.loads(line)["answers"] for line in lines]
    assert any(len(set(given)) > 1 for given in answers)
    assert not any("e" in answer for given in answers for answer in given)
    # Settings of a task are in the key of the cache.
    for key, value in (("max_new_tokens", 7), ("temperature", 0.5), ("stop", ["z"])):
        before = len(server.calls)
        changed = str(tasks_of(suite, {**task, key: value}))
        assert main(["evaluate", "endpoint.yaml", changed, "--out", "out"]) == 0
        assert len(server.calls) == before + 16


def test_conversations_go_to_the_chat_api(
    suite: Path, server: CompletionsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server._tokenizer, "chat_template", _TEMPLATE)
    task = {**ANSWERS, "chat": True, "description": "Be brief."}
    suite = tasks_of(suite, task, {**ANSWERS, "name": "plain"})
    arguments = ["evaluate", endpoint_file(server), str(suite), "--out", "out"]
    assert main(arguments) == 0
    chats = [body for path, body in server.calls if path == "/v1/chat/completions"]
    texts = [body for path, body in server.calls if path == "/v1/completions"]
    assert (len(chats), len(texts)) == (4, 4)
    assert [message["role"] for message in chats[0]["messages"]] == ["system", "user"]
    server.calls.clear()
    assert main(["evaluate", endpoint_file(server, text_prompts="chat"), str(suite)]) == 0
    assert {path for path, _ in server.calls} == {"/v1/chat/completions"}
    assert results().tasks["answers"].metrics["token_f1"].items == 4


_TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"


@pytest.mark.slow
def test_items_beyond_the_context_are_counted(suite: Path, server: CompletionsServer) -> None:
    with Path("rows.jsonl").open("a") as file:
        file.write(json.dumps({"q": "word " * 300, "options": ["a", "b"]}) + "\n")
    assert main(["evaluate", endpoint_file(server), str(suite), "--out", "out"]) == 0
    for task in results().tasks.values():
        assert task.skipped == {"longer than the context of the endpoint": 1}
        assert all(metric.items == 4 for metric in task.metrics.values())
    # Not kept: the endpoint may have a larger context the next time.
    before = len(server.calls)
    assert main(["evaluate", "endpoint.yaml", str(suite), "--out", "out"]) == 0
    assert len(server.calls) - before == 1 + 3 + 1 + 1


def test_the_cost_limit_stops_the_evaluation_which_resumes(
    suite: Path, server: CompletionsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    model = endpoint_file(server, price=PRICE, concurrency=1)
    arguments = ["evaluate", model, str(suite), "--out", "out", "--max-cost"]
    assert main([*arguments, "0.004"]) == 4
    out, err = capsys.readouterr()
    assert "this can exceed --max-cost (0.004 USD)" in out
    assert "could exceed --max-cost (0.004 USD)" in err
    stopped = asked(server)
    assert 0 < len(stopped) < 20
    assert not Path("out/results.json").exists()
    assert main([*arguments, "1"]) == 0
    assert len(set(map(str, asked(server)))) == len(asked(server))
    assert len(server.calls) == results().spent["calls"]
    assert main(["evaluate", endpoint_file(server), str(suite), "--max-cost", "1"]) == 4
    assert "the price of the endpoint tiny-1 is not" in capsys.readouterr().err


@pytest.mark.slow
def test_a_server_that_dies_is_called_for_what_is_left(
    suite: Path, tiny: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving_model(tiny, "tiny-1") as dying:
        port = int(dying.url.split(":")[2].split("/")[0])
        arguments = ["evaluate", endpoint_file(dying, retries=1), str(suite)]
        dying.dies_after = 11
        assert main(arguments) == 4
        before = asked(dying)[:10]
    assert "rerun the same command to resume" in capsys.readouterr().err
    with serving_model(tiny, "tiny-1", port) as again:
        assert main(arguments) == 0
    assert not set(map(str, before)) & set(map(str, asked(again)))
    (folder,) = Path("evaluations/demo").iterdir()
    assert read_results(folder).spent["calls"] == len(before) + len(again.calls) + 1


@pytest.mark.slow
def test_compare_takes_endpoints(
    suite: Path, server: CompletionsServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = str(make_tiny_model(tmp_path / "other", num_hidden_layers=1))
    model = endpoint_file(server, price=PRICE)
    arguments = ["--prompts", "rows.jsonl", "--column", "q", "--judge", "judge.yaml", "--plain"]
    with serving() as judge:
        judge.reply = lambda messages: (200, "[[A]]")
        document = {"kind": "openai", "url": judge.url, "model": "judge-1", "price": PRICE}
        Path("judge.yaml").write_text(yaml.safe_dump(document))
        assert main(["compare", model, other, *arguments, "--max-new-tokens", "8"]) == 0
        judged = len(judge.calls)
    assert "4 calls, of which 0 have a cached reply" in capsys.readouterr().out
    (folder,) = Path("evaluations/compare").iterdir()
    found = read_results(folder)
    assert (found.model.kind, found.spent["calls"]) == ("openai", len(server.calls) + judged)
    # The judge's cost is told apart: 100 tokens in and 10 out a call.
    cost = found.tasks["answers"].facts["judge"]["usd"]
    assert cost == pytest.approx(judged * (100 * 10 + 10 * 100) / 1e6)
    assert found.spent["usd"] > cost > 0


@pytest.mark.parametrize("task", [CHOICE, TEXT])
def test_the_probe_comes_before_the_other_model(
    suite: Path, server: CompletionsServer, tiny: str, capsys: pytest.CaptureFixture[str], task: Any
) -> None:
    server.alter = lambda body, response: {
        **response, "choices": [{**response["choices"][0], "logprobs": None}],
    }  # fmt: skip
    path = str(tasks_of(suite, task))
    assert main(["evaluate", tiny, path, "--against", endpoint_file(server)]) == 4
    out, err = capsys.readouterr()
    assert "evaluating" not in out
    assert "the response has no logprobs.token_logprobs" in err
    assert len(server.calls) == 1

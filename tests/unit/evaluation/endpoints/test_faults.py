"""Endpoints that fail: errors, dropped log-probabilities, cut echoes, no JSON."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from evaluation.models.echoed_log_probs import EchoError, parse_echo
from evaluation.models.endpoint_likelihoods import PROBE
from evaluation.results import read_results
from temper.cli import main
from tests.completions_server import CompletionsServer
from tests.unit.evaluation.endpoints.conftest import ANSWERS, CHOICE, TEXT, endpoint_file, tasks_of


def _choice(response: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return {**response, "choices": [{**response["choices"][0], **keys}]}


def _logprobs(response: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return _choice(response, logprobs={**response["choices"][0]["logprobs"], **keys})


def _cut(response: dict[str, Any], start: int) -> dict[str, Any]:
    """Return a response whose log-probabilities lack the first tokens."""
    found = response["choices"][0]["logprobs"]
    return _logprobs(response, **{key: value[start:] for key, value in found.items()})


def _chat_shape(response: dict[str, Any]) -> dict[str, Any]:
    """Return a response of llama.cpp's server, which has generated tokens alone.

    https://github.com/ggml-org/llama.cpp/issues/27174
    """
    token = {"id": 5, "token": " a", "bytes": [32, 97], "logprob": -1.5, "top_logprobs": []}
    return _choice(response, text=" a", logprobs={"content": [token]})


FAULTS = {
    "the response has no logprobs.token_logprobs": lambda r: _choice(r, logprobs=None),
    "shape of chat completions": _chat_shape,
    "there are log-probabilities of 3 tokens": lambda r: _logprobs(
        r, token_logprobs=r["choices"][0]["logprobs"]["token_logprobs"][:3]
    ),
    "the echo does not hold the text": lambda r: _choice(r, text=r["choices"][0]["text"][9:]),
    "the echo starts at character": lambda r: {
        **_cut(r, 4), "usage": {"prompt_tokens": r["usage"]["prompt_tokens"] - 4},
    },
    "another text than was sent": lambda r: _logprobs(
        r, tokens=["?" for _ in r["choices"][0]["logprobs"]["tokens"]]
    ),
    "token 2 of": lambda r: _logprobs(
        r, token_logprobs=[None, -1.0, None, *r["choices"][0]["logprobs"]["token_logprobs"][3:]]
    ),
    "this is no completion": lambda r: {"object": "error"},
}  # fmt: skip


@pytest.mark.parametrize("message", FAULTS)
def test_the_probe_refuses_what_is_not_the_echo_of_the_text(
    suite: Path, server: CompletionsServer, capsys: pytest.CaptureFixture[str], message: str
) -> None:
    server.alter = lambda body, response: FAULTS[message](response)
    path = str(tasks_of(suite, CHOICE, TEXT))
    assert main(["evaluate", endpoint_file(server), path, "--out", "out"]) == 4
    err = capsys.readouterr().err
    assert "choice, text: multiple choice and perplexity need log-prob" in err
    assert message in err
    assert "Serve the model with temper serve or vLLM" in err
    assert "Traceback" not in err
    assert [body["prompt"] for _, body in server.calls] == [PROBE]
    assert not Path("out/results.json").exists()


@pytest.mark.parametrize("status", [400, 404, 501])
def test_a_refused_probe_ends_the_evaluation(
    suite: Path, server: CompletionsServer, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    server.statuses = [(status, {})]
    path = str(tasks_of(suite, TEXT))
    assert main(["evaluate", endpoint_file(server), path]) == 4
    err = capsys.readouterr().err
    assert f"HTTP {status}: " in err
    assert "Serve the model with temper serve or vLLM" in err
    assert len(server.calls) == 1


def test_a_probe_with_a_wrong_key_is_refused(
    suite: Path, server: CompletionsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.statuses = [(401, {})]
    assert main(["evaluate", endpoint_file(server), str(suite)]) == 4
    err = capsys.readouterr().err
    assert "Its key is missing or wrong" in err
    assert "vLLM" not in err


def test_a_refusal_shows_the_message_of_the_endpoint(
    suite: Path, server: CompletionsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tasks_of(suite, ANSWERS))
    server.statuses = [(404, {})] * 4
    assert main(["evaluate", endpoint_file(server, concurrency=1), path]) == 4
    assert 'HTTP 404: {"error": {"message": "planted"}}' in capsys.readouterr().err
    assert len(server.calls) == 1


def test_failures_that_pass_are_retried_as_the_endpoint_asks(
    suite: Path, server: CompletionsServer
) -> None:
    server.statuses = [(500, {}), (429, {"Retry-After": "0.4"}), (503, {})]
    began = time.monotonic()
    assert main(["evaluate", endpoint_file(server), str(suite), "--out", "out"]) == 0
    assert time.monotonic() - began >= 0.4
    assert len(server.calls) == 3 + 1 + 20
    assert read_results(Path("out")).spent["calls"] == 21


def test_log_probabilities_that_are_dropped_later_stop_the_evaluation(
    suite: Path, server: CompletionsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.alter = lambda body, response: (
        response if body["prompt"] == PROBE else _choice(response, logprobs=None)
    )
    arguments = ["evaluate", endpoint_file(server, retries=1, concurrency=1), str(suite)]
    assert main(arguments) == 4
    assert "the response has no logprobs.token_logprobs) after 2 calls" in capsys.readouterr().err
    assert len(server.calls) == 3


def test_a_response_that_is_not_json_is_shown(
    suite: Path, server: CompletionsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.alter = lambda body, response: "<html>502 proxy</html>"
    for path in (suite, tasks_of(suite, ANSWERS)):
        assert main(["evaluate", endpoint_file(server, retries=0), str(path)]) == 4
        assert "no JSON: '<html>502 proxy</html>'" in capsys.readouterr().err


def test_a_tokenizer_of_another_model_is_refused(
    suite: Path, server: CompletionsServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.factories import make_tiny_model

    other = make_tiny_model(tmp_path / "other", texts=["aaa bbb"])
    model = endpoint_file(server, tokenizer=str(other))
    assert main(["evaluate", model, str(suite)]) == 4
    assert "name the tokenizer of the model that is served" in capsys.readouterr().err


def test_a_prompt_that_the_endpoint_cuts_is_not_scored(
    suite: Path, server: CompletionsServer, tiny: str
) -> None:
    def cut(body: dict[str, Any], response: dict[str, Any]) -> dict[str, Any]:
        tokens = response["usage"]["prompt_tokens"] - ("blue" in body["prompt"]) * 9
        return {**response, "usage": {**response["usage"], "prompt_tokens": tokens}}

    server.alter = cut
    path = str(tasks_of(suite, ANSWERS))
    assert main(["evaluate", endpoint_file(server, tokenizer=tiny), path, "--out", "out"]) == 0
    (count,) = read_results(Path("out")).tasks["answers"].skipped.items()
    assert count == ("cut by the endpoint, which read fewer tokens than the prompt has", 1)


def test_an_unreachable_endpoint_is_named(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "openai:http://127.0.0.1:9/v1#m", str(suite)]) == 4
    err = capsys.readouterr().err
    assert "the endpoint at http://127.0.0.1:9/v1 does not answer" in err
    assert "vLLM" not in err


def test_an_unreachable_endpoint_is_named_before_the_other_model_is_evaluated(
    suite: Path, tiny: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tasks_of(suite, ANSWERS))
    assert main(["evaluate", "openai:http://127.0.0.1:9/v1#m", path, "--against", tiny]) == 4
    out, err = capsys.readouterr()
    assert "the endpoint at http://127.0.0.1:9/v1 cannot be reached" in err
    assert "evaluating" not in out


def test_a_name_that_the_endpoint_does_not_list_is_shown(
    suite: Path, server: CompletionsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tasks_of(suite, ANSWERS))
    server.statuses = [(404, {})] * 4
    assert main(["evaluate", endpoint_file(server, model="tiny"), path]) == 4
    out, err = capsys.readouterr()
    assert "the endpoint lists no tiny, but tiny-1" in out
    assert "There is no such address or model" in err


def test_an_echo_without_usage_ends_with_the_generated_token() -> None:
    # A response of vLLM, without its usage, from https://github.com/ggml-org/llama.cpp/pull/15189.
    logprobs = {
        "text_offset": [0, 3, 8, 11, 19, 25, 28, 29, 30],
        "token_logprobs": [
            None, -8.816559791564941, -1.6565594673156738, -13.917608261108398, -2.047391176223755,
            -2.1830272674560547, -8.55152702331543, -1.2779529094696045, -0.5364786982536316,
        ],
        "tokens": ["The", " step", " of", " boiling", " water", " is", ":", " ", "1"],
    }  # fmt: skip
    text = "The step of boiling water is: "
    echoed = parse_echo({"choices": [{"text": f"{text}1", "logprobs": logprobs}]}, text)
    assert len(echoed.log_probs) == 8
    assert echoed.nats(7) == -1.2779529094696045
    assert not echoed.starts_before(text)
    with pytest.raises(EchoError, match="5 tokens were sent, and the endpoint counts 8"):
        parse_echo({"choices": [{"text": f"{text}1", "logprobs": logprobs}]}, [1, 2, 3, 4, 5])

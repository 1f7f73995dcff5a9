"""One reader for the logs of SageMaker, Bedrock and `temper serve`."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from monitoring.call import LoggedCall
from monitoring.errors import LogError
from monitoring.logs.bodies import read_prompt
from monitoring.logs.read import read_log
from tests.unit.monitoring.records import START, captured, invocation, write_records

CHAT = {"messages": [{"role": "user", "content": [{"text": "What is len?"}]}]}


def only(path: Path) -> LoggedCall:
    (call,) = read_log(path).calls
    return call


def test_reads_what_the_emulated_endpoint_captures(tmp_path: Path) -> None:
    record = captured("What is len?", "A function.", reason="length")
    call = only(write_records(tmp_path / "e/v/2026/11/02/00/a.jsonl", [record]))
    assert (call.prompt, call.answer, call.finish_reason) == (
        "What is len?", "A function.", "length",
    )  # fmt: skip
    assert (call.model, call.prompt_tokens, call.answer_tokens, call.time) == (
        "assistant", 3, 2, START,
    )  # fmt: skip
    assert call.latency_s is None


def test_reads_a_captured_stream(tmp_path: Path) -> None:
    record = captured("What is len?", "")
    events = [
        {"model": "a", "choices": [{"index": 0, "delta": {"content": "A\u2028func"}}]},
        {"choices": [{"index": 0, "delta": {"content": "tion."}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 2}},
    ]
    lines = [
        *(f"data: {json.dumps(event, ensure_ascii=False)}" for event in events),
        "data: [DONE]",
    ]
    record["captureData"]["endpointOutput"] = {
        "observedContentType": "text/event-stream",
        "mode": "OUTPUT",
        "encoding": "BASE64",
        "data": base64.b64encode("\n\n".join(lines).encode()).decode(),
    }
    call = only(write_records(tmp_path / "a.jsonl", [record]))
    assert (call.answer, call.model, call.answer_tokens) == ("A\u2028function.", "a", 2)


CONVERSE = {
    "output": {"message": {"role": "assistant", "content": [{"text": "A "}, {"text": "B"}]}},
    "stopReason": "max_tokens",
    "metrics": {"latencyMs": 250},
    "usage": {"inputTokens": 7, "outputTokens": 3},
}
CONVERSE_STREAM = [
    {"messageStart": {"role": "assistant"}},
    {"contentBlockDelta": {"delta": {"text": "A "}, "contentBlockIndex": 0}},
    {"contentBlockDelta": {"delta": {"text": "B"}, "contentBlockIndex": 0}},
    {"messageStop": {"stopReason": "end_turn"}},
    {"metadata": {"usage": {"inputTokens": 7, "outputTokens": 3}, "metrics": {"latencyMs": 250}}},
]


@pytest.mark.parametrize(
    ("request_body", "response", "prompt", "answer", "reason", "latency"),
    [
        (CHAT, CONVERSE, "What is len?", "A \nB", "length", 0.25),
        (CHAT, CONVERSE_STREAM, "What is len?", "A B", "end_turn", 0.25),
        (
            {"prompt": "Say A", "max_gen_len": 4},
            {"generation": "A", "stop_reason": "stop", "prompt_token_count": 7},
            "Say A", "A", "stop", None,
        ),
        (
            {"prompt": "Say A"}, {"outputs": [{"text": "A", "stop_reason": "length"}]},
            "Say A", "A", "length", None,
        ),
        (
            {"system": "Be brief.", "messages": [{"role": "user", "content": "Say A"}]},
            {"content": [{"type": "text", "text": "A"}], "stop_reason": "end_turn"},
            "Be brief.\nSay A", "A", "end_turn", None,
        ),
        (
            {"inputText": "Say A"},
            {"results": [{"outputText": "A", "completionReason": "FINISH"}]},
            "Say A", "A", "FINISH", None,
        ),
    ],
)  # fmt: skip
def test_reads_the_bodies_of_bedrock(
    tmp_path: Path,
    request_body: Any,
    response: Any,
    prompt: str,
    answer: str,
    reason: str,
    latency: float | None,
) -> None:
    call = only(write_records(tmp_path / "a.json", [invocation(request_body, response)]))
    assert (call.prompt_text, call.answer, call.finish_reason) == (prompt, answer, reason)
    assert (call.prompt_tokens, call.answer_tokens, call.latency_s) == (7, 3, latency)
    assert call.model.endswith("imported-model/abc")


def test_reads_long_bodies_of_bedrock_next_to_the_log(tmp_path: Path) -> None:
    record = invocation(None, {"generation": "A"})
    record["input"] = {"inputBodyS3Path": "s3://logs/AWSLogs/x/data/r1_input.json.gz"}
    (tmp_path / "data").mkdir()
    with gzip.open(tmp_path / "data/r1_input.json.gz", "wt") as stream:
        json.dump({"prompt": "a long text"}, stream)
    with gzip.open(tmp_path / "log.json.gz", "wt") as stream:
        stream.write(json.dumps(record) + "\n")
    assert only(tmp_path).prompt == "a long text"


def test_prompts_of_token_ids_are_no_text() -> None:
    assert read_prompt({"prompt": [1, 2, 3]}) is None
    assert read_prompt({"prompt": ["one"]}) == "one"


def test_uses_what_comes_before_the_end_of_a_truncated_gzip(tmp_path: Path) -> None:
    lines = [json.dumps(captured(f"What is {n}?" * 9, "x" * n)) for n in range(400)]
    packed = gzip.compress("\n".join(lines).encode())
    (tmp_path / "a.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    log = read_log(tmp_path)
    assert 20 < len(log.calls) < 400
    (note,) = log.notes()
    assert "a.jsonl.gz, line" in note and "truncated" in note


def test_a_log_without_bodies_is_one_message(tmp_path: Path) -> None:
    record = invocation(None, None)
    record["input"], record["output"] = {"inputTokenCount": 7}, {"outputTokenCount": 3}
    only_output = captured("a", "b", config={"CaptureOptions": [{"CaptureMode": "Output"}]})
    write_records(tmp_path / "a.jsonl", [record, only_output])
    with pytest.raises(LogError, match=r"records without a prompt: 2\..*text delivery") as raised:
        read_log(tmp_path)
    assert "capture Input and Output" in str(raised.value)


def test_names_the_first_lines_that_cannot_be_used(tmp_path: Path) -> None:
    path = write_records(tmp_path / "a.jsonl", [captured("a", "b"), {"level": "info"}])
    with path.open("a") as stream:
        stream.write("not json\n[1]\n")
    log = read_log(tmp_path)
    assert len(log.calls) == 1 and log.unread == 3
    assert "line 2: not a record of a known log" in log.notes()[0]
    assert "line 3: not JSON" in log.notes()[0]


@pytest.mark.parametrize("name", ["absent", "empty"])
def test_a_log_that_is_not_there(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(LogError, match=r"no such log|no file ends in"):
        read_log(tmp_path / name)

"""A model on Amazon Bedrock, evaluated through Converse.

Requests are validated by botocore's model of the service; the response is the example of
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html, with other text.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import botocore.session
import pytest
import yaml
from botocore.validate import ParamValidator

from evaluation.results import read_results
from temper.cli import main
from tests.unit.evaluation.endpoints.conftest import ANSWERS, tasks_of

MODEL = "us.amazon.nova-pro-v1:0"
EXAMPLE: dict[str, Any] = {
    "output": {"message": {"content": [{"text": "red"}], "role": "assistant"}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 30, "outputTokens": 628, "totalTokens": 658},
    "metrics": {"latencyMs": 1275},
}
LONG = {"message": "Input is too long for requested model."}


@pytest.fixture
def converse() -> Iterator[Any]:
    """Serve Converse; yield the address and the calls."""
    calls: list[tuple[str, dict[str, str], dict[str, Any]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            calls.append((self.path, dict(self.headers), body))
            text = body["messages"][-1]["content"][0]["text"]
            status, response = 200, EXAMPLE
            if len(text) > 1000:
                status, response = 400, LONG
            elif "blue" in text:
                response = {**EXAMPLE, "stopReason": "max_tokens"}
            content = json.dumps(response).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *ignored: Any) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", calls
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_BEARER_TOKEN_BEDROCK", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")


def test_answers_are_requested_by_converse(suite: Path, converse: Any) -> None:
    url, calls = converse
    document = {
        "kind": "bedrock", "region": "us-east-1", "model": MODEL, "url": url,
        "price": {"input": 0.8, "output": 3.2},
    }  # fmt: skip
    Path("model.yaml").write_text(yaml.safe_dump(document))
    with Path("rows.jsonl").open("a") as file:
        file.write(json.dumps({"q": "word " * 300, "options": ["a", "b"]}) + "\n")
    chat = {
        **ANSWERS, "chat": True, "description": "Be brief.", "stop": ["\n"], "samples": 2,
        "temperature": 0.7,
    }  # fmt: skip
    path = str(tasks_of(suite, chat, {**ANSWERS, "name": "plain"}))
    assert main(["evaluate", "model.yaml", path, "--out", "out"]) == 0
    operation = (
        botocore.session.get_session()
        .get_service_model("bedrock-runtime")
        .operation_model("Converse")
    )
    for address, headers, body in calls:
        identifier = unquote(address.removeprefix("/model/").removesuffix("/converse"))
        assert identifier == MODEL
        report = ParamValidator().validate({"modelId": identifier, **body}, operation.input_shape)
        assert not report.has_errors(), report.generate_report()
        assert headers["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIA")
        assert "/us-east-1/bedrock/aws4_request" in headers["Authorization"]
    assert len(calls) == 3 * 5
    sampled = [body for _, _, body in calls if "system" in body]
    assert len(sampled) == 10
    assert sampled[0]["inferenceConfig"] == {
        "maxTokens": 6, "temperature": 0.7, "stopSequences": ["\n"],
    }  # fmt: skip
    found = read_results(Path("out"))
    assert found.model.kind == "bedrock"
    assert found.model.settings["model"] == MODEL
    assert found.model.settings["region"] == "us-east-1"
    for task in found.tasks.values():
        assert task.skipped == {"longer than the context of the endpoint": 1}
        assert task.metrics["token_f1"].value == 1.0
    assert found.spent["usd"] == pytest.approx(12 * (30 * 0.8 + 628 * 3.2) / 1e6)
    items = [json.loads(line) for line in Path("out/items/plain.jsonl").read_text().splitlines()]
    assert [item["prompt_tokens"] for item in items] == [30, 30, 30, 30, None]
    assert [item["detail"].get("truncated") for item in items] == [None, None, 1, None, None]


def test_missing_credentials_are_named(
    suite: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "none")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "none")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    path = str(tasks_of(suite, ANSWERS))
    assert main(["evaluate", f"bedrock:{MODEL}", path]) == 4
    err = capsys.readouterr().err
    assert "the endpoint on Bedrock cannot be called: no AWS credentials were found" in err

"""Files and short forms of endpoints, and suites that an endpoint cannot be asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from evaluation.config.endpoints import BedrockModel, OpenAiModel, read_endpoint
from temper.cli import main
from tests.unit.evaluation.endpoints.conftest import ANSWERS, CHOICE, TEXT, tasks_of
from training.errors import JobError

OPENAI = {"kind": "openai", "url": "http://localhost:8000/v1", "model": "m"}


def read(document: Any) -> Any:
    Path("endpoint.yaml").write_text(yaml.safe_dump(document))
    return read_endpoint("endpoint.yaml")


def test_short_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_endpoint("openai:http://localhost:8000/v1#org/m") == OpenAiModel(
        kind="openai", url="http://localhost:8000/v1", model="org/m"
    )
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(JobError, match="Set AWS_REGION"):
        read_endpoint("bedrock:amazon.nova-pro-v1:0")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert read_endpoint("bedrock:amazon.nova-pro-v1:0") == BedrockModel(
        kind="bedrock", region="eu-west-1", model="amazon.nova-pro-v1:0"
    )
    arn = "arn:aws:bedrock:us-west-2:123456789012:imported-model/abc"
    found = read_endpoint(f"bedrock:{arn}")
    assert (found.region, found.model) == ("us-west-2", arn)


@pytest.mark.parametrize("name", ["runs/x/latest", "org/model", "model.gguf", "."])
def test_other_models_are_no_endpoints(name: str) -> None:
    assert read_endpoint(name) is None


@pytest.mark.parametrize(
    ("document", "messages"),
    [
        ({**OPENAI, "kind": "local"}, ["kind: not a kind of endpoint (got 'local')"]),
        ({**OPENAI, "temperature": 1}, ["temperature: the tasks of the suite set these"]),
        ({**OPENAI, "url": "localhost:8000"}, ["url", "http://localhost:8000/v1"]),
        ({**OPENAI, "url": "http://me:key@localhost/v1"}, ["url", "api_key_env"]),
        (
            {**OPENAI, "modle": "m", "price": {"input": -1, "output": 1}},
            ["2 problems", "modle", "price.input"],
        ),
        (["kind"], ["an endpoint is a mapping"]),
    ],
)
def test_every_problem_of_a_file_is_named(document: Any, messages: list[str]) -> None:
    with pytest.raises(JobError) as raised:
        read(document)
    for message in messages:
        assert message in str(raised.value)


@pytest.mark.parametrize("name", ["nowhere.yaml", "openai:http://localhost/v1", "openai:#m"])
def test_a_model_that_cannot_be_used_ends_with_exit_code_2(
    suite: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main(["evaluate", name, str(suite)]) == 2
    assert name in capsys.readouterr().err


def test_bedrock_is_not_asked_for_log_probabilities(
    suite: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    path = str(tasks_of(suite, CHOICE, TEXT, ANSWERS))
    assert main(["evaluate", "bedrock:amazon.nova-pro-v1:0", path]) == 2
    err = capsys.readouterr().err
    assert "2 problems" in err
    assert "tasks.0: needs log-probabilities of given text, which Bedrock does not return" in err
    assert "tasks.1: needs log-probabilities" in err


def test_choices_in_a_conversation_need_a_tokenizer(
    suite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tasks_of(suite, {**CHOICE, "chat": True}))
    assert main(["evaluate", "openai:http://127.0.0.1:9/v1#m", path]) == 2
    assert "tasks.0.chat: an endpoint has no log-probabilities" in capsys.readouterr().err


def test_a_key_that_is_not_set_is_named(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("endpoint.yaml").write_text(yaml.safe_dump({**OPENAI, "api_key_env": "MY_KEY"}))
    assert main(["evaluate", "endpoint.yaml", str(suite)]) == 4
    assert "the environment variable MY_KEY is not set" in capsys.readouterr().err

"""Requests to Bedrock have the signature that AWS would compute for them."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from urllib.parse import quote

import pytest
import torch
from pydantic import TypeAdapter

from tests.fake_llm_server import FakeLlmServer, serving
from training.config.judges import AnyJudge as Section
from training.errors import RunError
from training.judges.base import JudgeContext, build_judge

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
MODEL = "us.vendor.model-v1:0"


def ask(endpoint: FakeLlmServer, folder: Path) -> list[str]:
    """Ask a judge on Bedrock one thing."""
    section = {"kind": "bedrock", "region": "eu-central-1", "model": MODEL}
    document = {**section, "url": endpoint.url.removesuffix("/v1")}
    place = JudgeContext(torch.device("cpu"), folder / "run", folder / "cache")
    judge = build_judge(TypeAdapter(Section).validate_python(document), place)
    return judge.replies([[{"role": "user", "content": "Grüße"}]])


def signature(path: str, headers: dict[str, str], body: bytes) -> str:
    """Return the expected signature, by the algorithm in AWS's page on Signature Version 4."""
    _, _, told = headers["authorization"].partition("Credential=")
    scope = told.split(",")[0].partition("/")[2]
    names = told.partition("SignedHeaders=")[2].split(",")[0].split(";")
    canonical = "\n".join(
        [
            "POST",
            quote(path, safe="/-_.~"),
            "",
            *(f"{name}:{headers[name].strip()}" for name in names),
            "",
            ";".join(names),
            hashlib.sha256(body).hexdigest(),
        ]
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", headers["x-amz-date"], scope, digest])
    key = f"AWS4{SECRET}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def test_signature_matches_the_sent_request(tmp_path: Path) -> None:
    with serving() as endpoint:
        assert ask(endpoint, tmp_path) == ["7"]
        path, headers, _ = endpoint.calls[0]
        (body,) = endpoint.bodies
    assert path == "/model/us.vendor.model-v1%3A0/converse"
    assert "AKIDEXAMPLE" in headers["authorization"]
    assert "/eu-central-1/bedrock/aws4_request" in headers["authorization"]
    assert "Grüße" in json.loads(body)["messages"][0]["content"][0]["text"]
    assert headers["authorization"].endswith(signature(path, headers, body))


def test_session_token_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-a-role")
    with serving() as endpoint:
        ask(endpoint, tmp_path)
    assert endpoint.calls[0][1]["x-amz-security-token"] == "of-a-role"


def test_no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with serving() as endpoint, pytest.raises(RunError, match="no AWS credentials") as caught:
        ask(endpoint, tmp_path)
    assert "set a Bedrock API key in AWS_BEARER_TOKEN_BEDROCK" in str(caught.value)

"""Secrets are resolved before training, or their absence is explained."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import pytest
from moto import mock_aws

from account.errors import AccountError
from account.secrets import read_secrets
from containers.entrypoint.errors import StartError
from containers.entrypoint.secrets import resolve_secrets


@pytest.fixture
def one_secret() -> Iterator[None]:
    """Create one secret in an emulated account."""
    with mock_aws():
        client = boto3.client("secretsmanager", region_name="eu-central-1")
        client.create_secret(Name="temper-dev/hub-token", SecretString="hf_abc\n")
        yield


def test_secret_is_resolved(one_secret: None) -> None:
    names = '{"HF_TOKEN": "temper-dev/hub-token"}'
    assert resolve_secrets({"TEMPER_SECRETS": names}) == {"HF_TOKEN": "hf_abc"}
    assert resolve_secrets({"TEMPER_SECRETS": names, "HF_TOKEN": "mine"}) == {}, (
        "the user's own value is kept"
    )


def test_no_secrets() -> None:
    assert resolve_secrets({}) == {}


def test_unreadable_secrets_are_all_named(one_secret: None) -> None:
    names = {"HF_TOKEN": "temper-dev/hub-token", "A": "temper-dev/a", "B": "temper-dev/b"}
    with pytest.raises(AccountError, match=r"temper-dev/a, for A, .* does not exist.*for B"):
        read_secrets(names)


def test_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StartError, match="this container has no role"):
        resolve_secrets({"TEMPER_SECRETS": '{"HF_TOKEN": "temper-dev/hub-token"}'})


def test_unreachable_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://127.0.0.1:1")
    with pytest.raises(AccountError, match="no endpoint of Secrets Manager"):
        read_secrets({"HF_TOKEN": "temper-dev/hub-token"})


@pytest.mark.parametrize("text", ["hub-token", "[1]", "3"])
def test_malformed_variable(text: str) -> None:
    with pytest.raises(StartError, match="TEMPER_SECRETS names secrets as"):
        resolve_secrets({"TEMPER_SECRETS": text})

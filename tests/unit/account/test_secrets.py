"""Secrets reach the process that needs them, or it says why not before anything is trained."""

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
def kept() -> Iterator[None]:
    """An account that keeps one secret."""
    with mock_aws():
        client = boto3.client("secretsmanager", region_name="eu-central-1")
        client.create_secret(Name="temper-dev/hub-token", SecretString="hf_abc\n")
        yield


def test_a_secret_goes_where_it_is_needed(kept: None) -> None:
    names = '{"HF_TOKEN": "temper-dev/hub-token"}'
    assert resolve_secrets({"TEMPER_SECRETS": names}) == {"HF_TOKEN": "hf_abc"}
    assert resolve_secrets({"TEMPER_SECRETS": names, "HF_TOKEN": "mine"}) == {}, (
        "a person's own stays"
    )


def test_nothing_is_asked_where_nothing_is_named() -> None:
    assert resolve_secrets({}) == {}


def test_all_that_cannot_be_read_is_named(kept: None) -> None:
    names = {"HF_TOKEN": "temper-dev/hub-token", "A": "temper-dev/a", "B": "temper-dev/b"}
    with pytest.raises(AccountError, match=r"temper-dev/a, for A, .* does not exist.*for B"):
        read_secrets(names)


def test_a_process_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StartError, match="this container has no role"):
        resolve_secrets({"TEMPER_SECRETS": '{"HF_TOKEN": "temper-dev/hub-token"}'})


def test_a_network_without_a_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://127.0.0.1:1")
    with pytest.raises(AccountError, match="no endpoint of Secrets Manager"):
        read_secrets({"HF_TOKEN": "temper-dev/hub-token"})


@pytest.mark.parametrize("text", ["hub-token", "[1]", "3"])
def test_names_that_are_none(text: str) -> None:
    with pytest.raises(StartError, match="TEMPER_SECRETS names secrets as"):
        resolve_secrets({"TEMPER_SECRETS": text})

"""Two servers, and AWS's addresses and credentials that lead to the first."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.client.fault_server import FaultServer, fault_server


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with fault_server() as running:
        yield running


@pytest.fixture
def other() -> Iterator[FaultServer]:
    with fault_server() as running:
        yield running


@pytest.fixture
def aws(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> FaultServer:
    """The first server, as the services of an AWS account."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", server.origin)
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", server.origin)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.delenv("AWS_BEARER_TOKEN_BEDROCK", raising=False)
    return server

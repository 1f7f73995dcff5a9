"""Fixture with botocore clients whose requests and stubbed responses are validated by shape."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
Stub = Callable[[str], tuple[Any, Stubber]]


@pytest.fixture
def stub() -> Iterator[Stub]:
    """Factory of clients with stubbers; at teardown every stubbed call must have been made."""
    made: list[Stubber] = []

    def make(service: str) -> tuple[Any, Stubber]:
        client = boto3.client(
            service,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        stubber = Stubber(client)
        stubber.activate()
        made.append(stubber)
        return client, stubber

    yield make
    for stubber in made:
        stubber.assert_no_pending_responses()
        stubber.deactivate()

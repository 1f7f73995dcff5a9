"""Server of S3 on this machine, for code that reaches S3 by its own client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


@contextmanager
def emulated_s3() -> Iterator[dict[str, str]]:
    """Yield the environment of clients of the server.

    All servers of a process share their buckets.
    """
    module = pytest.importorskip("moto.server", reason="the extra `infra` is not installed")
    server = module.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        yield {**KEYS, "AWS_ENDPOINT_URL": url, "AWS_REGION": "us-east-1"}
    finally:
        server.stop()


def s3_client(environment: dict[str, str]) -> Any:
    """Return a client of the server."""
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name=environment["AWS_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )

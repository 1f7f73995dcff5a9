"""Emulated S3 that records which permission each request needs."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs

import boto3

# pyarrow asks for a bucket that does not exist, to see from the header of the error which software
# answers; whether it is refused or not found makes no difference.
_PROBE = "$extremelyunlikelytoexist$"
Permission = tuple[str, str]
"""Action, and the key in the bucket; the bucket itself if it is empty."""


@dataclass
class RecordedS3:
    """Emulated S3 with one bucket, `data`.

    Attributes:
        endpoint: Its address.
        client: Client of boto3, whose requests are recorded as well.
        needed: Permissions that requests needed, in the order in which they were first needed.
    """

    endpoint: str
    client: Any
    needed: dict[Permission, None] = field(default_factory=dict)


@contextmanager
def recorded_s3() -> Iterator[RecordedS3]:
    """Start an emulated S3; end it with the block."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    application = DomainDispatcherApplication(create_backend_app)
    needed: dict[Permission, None] = {}

    def record(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = b""
        if environ.get("QUERY_STRING", "").startswith("delete"):
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input"] = BytesIO(body)
        for permission in permissions_of(
            environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("QUERY_STRING", ""), body
        ):
            needed.setdefault(permission)
        answer: Iterable[bytes] = application(environ, start_response)
        return answer

    server = make_server("127.0.0.1", 0, record, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
    try:
        client.create_bucket(Bucket="data")
        needed.clear()
        yield RecordedS3(endpoint, client, needed)
    finally:
        server.shutdown()
        thread.join()


def permissions_of(method: str, path: str, query: str, body: bytes = b"") -> list[Permission]:
    """Return the permissions that a request to S3 needs.

    docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html

    Args:
        method: HTTP method.
        path: Path, `/BUCKET/KEY`.
        query: Query string.
        body: Body of the request to delete several objects; of others it is not needed.

    Raises:
        AssertionError: The request is of a kind that this table lacks.
    """
    bucket, _, key = path.removeprefix("/").partition("/")
    if bucket == _PROBE:
        return []
    assert bucket == "data", f"{method} {path}: another bucket"
    parameters = parse_qs(query, keep_blank_values=True)
    if not key:
        if method == "POST" and "delete" in parameters:
            keys = re.findall(rb"<Key>(.*?)</Key>", body)
            assert keys, body
            return [("s3:DeleteObject", name.decode()) for name in keys]
        if method == "PUT":
            return [("s3:CreateBucket", "")]
        assert method == "HEAD" or (method == "GET" and "list-type" in parameters), (method, query)
        return [("s3:ListBucket", "")]
    if method == "DELETE":
        action = "s3:AbortMultipartUpload" if "uploadId" in parameters else "s3:DeleteObject"
    elif method == "POST":
        assert parameters.keys() & {"uploads", "uploadId"}, query
        action = "s3:PutObject"
    else:
        action = {"GET": "s3:GetObject", "HEAD": "s3:GetObject", "PUT": "s3:PutObject"}[method]
    return [(action, key)]

"""Tests of the handler that publishes lifecycle scripts, against moto's S3."""

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from stacks.handlers import publish_files

BUCKET = "sagemaker-temper-dev-111122223333-us-east-1"


@pytest.fixture
def s3() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket=BUCKET)
        client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        yield client


def send(s3: Any, request: str, prefix: str, **more: Any) -> dict[str, Any]:
    properties = {"Bucket": BUCKET, "Prefix": prefix, "Files": {"a.sh": f"echo {prefix}", "b": ""}}
    event = {"RequestType": request, "ResourceProperties": properties, **more}
    return publish_files.apply(event, s3=s3)


def keys(s3: Any) -> list[str]:
    pages = s3.list_object_versions(Bucket=BUCKET)
    return sorted(v["Key"] for v in [*pages.get("Versions", []), *pages.get("DeleteMarkers", [])])


def test_changed_files_are_a_new_prefix_and_the_old_one_goes_last(s3: Any) -> None:
    old = send(s3, "Create", "one")
    assert old == {"PhysicalResourceId": f"{BUCKET}/one"}
    assert s3.get_object(Bucket=BUCKET, Key="one/a.sh")["Body"].read() == b"echo one"
    new = send(s3, "Update", "two", PhysicalResourceId=old["PhysicalResourceId"])
    # CloudFormation deletes the old resource only because the id is another one.
    assert new["PhysicalResourceId"] != old["PhysicalResourceId"]
    assert keys(s3) == ["one/a.sh", "one/b", "two/a.sh", "two/b"]
    send(s3, "Delete", "two", **old)
    assert keys(s3) == ["two/a.sh", "two/b"]


def test_the_bucket_can_be_deleted_after_the_resource(s3: Any) -> None:
    created = send(s3, "Create", "one")
    send(s3, "Create", "one")  # a second version of each file
    send(s3, "Delete", "one", **created)
    send(s3, "Delete", "one", **created)  # repeated by CloudFormation
    s3.delete_bucket(Bucket=BUCKET)

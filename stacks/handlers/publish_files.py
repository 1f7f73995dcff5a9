"""Custom resource handler that writes small text files below a prefix of a bucket.

The prefix has a digest of the files, so changed files are a new resource: CloudFormation writes the
new prefix first, and deletes the old one only when the deployment has succeeded.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import boto3

Event = Mapping[str, Any]
OBJECTS_PER_CALL = 1000


def on_event(event: Event, context: object) -> dict[str, Any]:
    """Run as the Lambda entry point."""
    return apply(event, s3=boto3.client("s3"))


def apply(event: Event, *, s3: Any) -> dict[str, Any]:
    """Write the files or, on Delete, delete every version of them."""
    if event["RequestType"] == "Delete":
        bucket, _, prefix = event["PhysicalResourceId"].partition("/")
        _delete(s3, bucket, prefix)
        return {"PhysicalResourceId": event["PhysicalResourceId"]}
    properties = event["ResourceProperties"]
    bucket, prefix = properties["Bucket"], properties["Prefix"]
    for name, text in properties["Files"].items():
        s3.put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=text.encode())
    return {"PhysicalResourceId": f"{bucket}/{prefix}"}


def _delete(s3: Any, bucket: str, prefix: str) -> None:
    versions = list(_versions(s3, bucket, prefix))
    for start in range(0, len(versions), OBJECTS_PER_CALL):
        batch = versions[start : start + OBJECTS_PER_CALL]
        answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": batch, "Quiet": True})
        if answer.get("Errors"):
            raise RuntimeError(f"objects below {bucket}/{prefix} were not deleted: {answer}")


def _versions(s3: Any, bucket: str, prefix: str) -> Iterator[dict[str, str]]:
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=f"{prefix}/")
    for page in pages:
        for version in [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]:
            yield {"Key": version["Key"], "VersionId": version["VersionId"]}

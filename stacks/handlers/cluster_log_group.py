"""Custom resource handler for the log group of a HyperPod cluster.

HyperPod creates the group, whose name contains the id of the cluster, without a key and without a
retention period. It may exist before this handler runs, or only later. Delete keeps the group: its
events expire by themselves.
"""

from collections.abc import Mapping
from typing import Any

import boto3

Event = Mapping[str, Any]


def on_event(event: Event, context: object) -> dict[str, Any]:
    """Run as the Lambda entry point."""
    return apply(event, logs=boto3.client("logs"))


def apply(event: Event, *, logs: Any) -> dict[str, Any]:
    """Create the group if it is missing, and set its key and its retention period."""
    properties = event["ResourceProperties"]
    group, key = properties["LogGroupName"], properties["KmsKeyArn"]
    if event["RequestType"] == "Delete":
        return {"PhysicalResourceId": event["PhysicalResourceId"]}
    try:
        logs.create_log_group(logGroupName=group, kmsKeyId=key)
    except logs.exceptions.ResourceAlreadyExistsException:
        logs.associate_kms_key(logGroupName=group, kmsKeyId=key)
    # Properties of a custom resource arrive as text.
    logs.put_retention_policy(logGroupName=group, retentionInDays=int(properties["Days"]))
    return {"PhysicalResourceId": group}

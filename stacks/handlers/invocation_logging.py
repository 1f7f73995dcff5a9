"""Custom resource handler for Bedrock invocation logging, which has no CloudFormation type.

The setting exists once per account and Region. Delete removes it only if it still points to the log
group of this stack.
"""

from collections.abc import Mapping
from typing import Any

import boto3

Event = Mapping[str, Any]


def on_event(event: Event, context: object) -> dict[str, Any]:
    """Run as the Lambda entry point."""
    return apply(event, bedrock=boto3.client("bedrock"))


def apply(event: Event, *, bedrock: Any) -> dict[str, Any]:
    """Set where invocations are logged or, on Delete, remove the setting."""
    properties = event["ResourceProperties"]
    physical_id = f"invocation-logging:{properties['LogGroupName']}"
    if event["RequestType"] != "Delete":
        bedrock.put_model_invocation_logging_configuration(
            loggingConfig={
                "cloudWatchConfig": {
                    "logGroupName": properties["LogGroupName"],
                    "roleArn": properties["RoleArn"],
                },
                "textDataDeliveryEnabled": True,
                "imageDataDeliveryEnabled": False,
                "embeddingDataDeliveryEnabled": False,
            }
        )
        return {"PhysicalResourceId": physical_id}
    current = bedrock.get_model_invocation_logging_configuration().get("loggingConfig", {})
    if current.get("cloudWatchConfig", {}).get("logGroupName") == properties["LogGroupName"]:
        bedrock.delete_model_invocation_logging_configuration()
    return {"PhysicalResourceId": event["PhysicalResourceId"]}

"""CloudFormation's hands for Bedrock's invocation logging, which has no resource type.

The setting is one per account and Region. Delete takes it away only while it is still ours.
"""

from collections.abc import Mapping
from typing import Any

import boto3

Event = Mapping[str, Any]


def on_event(event: Event, context: object) -> dict[str, Any]:
    """Lambda's entry."""
    return apply(event, bedrock=boto3.client("bedrock"))


def apply(event: Event, *, bedrock: Any) -> dict[str, Any]:
    """Sets, or on Delete unsets, where invocations are logged."""
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

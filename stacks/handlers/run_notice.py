"""Notice to the person who submitted a run that it has ended.

The message has two attributes, `creator` and `state`, which a subscription filters by:
docs.aws.amazon.com/sns/latest/dg/sns-message-filtering.html
"""

from collections.abc import Callable, Mapping
from typing import Any

from .event_fields import STATE_FIELDS, first_of, flattened
from .event_message import message, subject
from .monitor.scope import is_not_found

CREATOR_TAG = "temper:creator"
JOB_EVENT = "SageMaker Training Job State Change"
CLUSTER_EVENT = "Temper Run Ended"


def publish_notice(event: Mapping[str, Any], client: Callable[[str], Any], topic: str) -> None:
    """Publish the end of a run that has a creator; do nothing for another event.

    Args:
        event: EventBridge event.
        client: Factory of clients by service name.
        topic: ARN of the topic of run notices.
    """
    creator = creator_of(event, client)
    if not creator:
        return
    state = first_of(flattened(event.get("detail", {})), STATE_FIELDS) or ""
    client("sns").publish(
        TopicArn=topic,
        Subject=subject(event),
        Message=message(event),
        MessageAttributes={
            name: {"DataType": "String", "StringValue": value}
            for name, value in (("creator", creator), ("state", state.lower()))
        },
    )


def creator_of(event: Mapping[str, Any], client: Callable[[str], Any]) -> str:
    """Return the creator of the run that ended; empty if the event is another or names none.

    Args:
        event: EventBridge event.
        client: Factory of clients by service name.
    """
    detail = event.get("detail", {})
    if event.get("detail-type") == CLUSTER_EVENT:
        return str(detail.get("creator", ""))
    if event.get("detail-type") != JOB_EVENT:
        return ""
    # AWS's examples of the event show the field `Tags`, often empty.
    tags = detail.get("Tags")
    if isinstance(tags, dict) and tags:
        return str(tags.get(CREATOR_TAG, ""))
    sagemaker = client("sagemaker")
    for arn in event.get("resources", []):
        try:
            pages = sagemaker.get_paginator("list_tags").paginate(ResourceArn=arn)
            found = {tag["Key"]: tag["Value"] for page in pages for tag in page["Tags"]}
        except sagemaker.exceptions.ClientError as error:
            if is_not_found(error):
                continue
            raise
        if CREATOR_TAG in found:
            return str(found[CREATOR_TAG])
    return ""

"""Calls of Bedrock: resources by name or None, their tags, and lists in pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from deployment.account import DeploymentAccount
from deployment.targets.base import DeploymentRequest
from launch.aws.session import explain_aws_errors

NOT_FOUND = ("ResourceNotFoundException",)
CONFLICT = ("ConflictException",)
PREFIX = "TemperPrefix"
"""Tag by which policies restrict provisioned throughput to that of its environment."""


class BedrockCalls:
    """Client of Bedrock in an environment's Region.

    Args:
        account: Account of the deployments.
    """

    def __init__(self, account: DeploymentAccount):
        self.account = account
        self.client = account.client("bedrock")

    def get(self, operation: str, **arguments: str) -> dict[str, Any] | None:
        """Return the response of a Get operation, None if the resource does not exist.

        Args:
            operation: Name of the method of the client.
            arguments: Its parameters.
        """
        with explain_aws_errors(f"reading {', '.join(arguments.values())}", ignore=NOT_FOUND):
            return dict(getattr(self.client, operation)(**arguments))
        return None

    def list(self, operation: str, key: str, **arguments: str) -> Iterator[dict[str, Any]]:
        """Yield what a List operation lists, of the environment alone.

        Args:
            operation: Name of the method of the client.
            key: Member of the response that holds the list.
            arguments: Its parameters.
        """
        prefix = self.account.environment.prefix
        with explain_aws_errors(f"listing by {operation}"):
            pages = self.client.get_paginator(operation).paginate(nameContains=prefix, **arguments)
            for page in pages:
                yield from page[key]

    def tags(self, arn: str) -> dict[str, str]:
        """Return the tags of a resource; none if it does not exist any more."""
        answer = self.get("list_tags_for_resource", resourceARN=arn) or {"tags": []}
        return {one["key"]: one["value"] for one in answer["tags"]}

    def set_tags(self, arn: str, tags: Mapping[str, str]) -> None:
        """Set tags of a resource."""
        with explain_aws_errors(f"tagging {arn}"):
            self.client.tag_resource(resourceARN=arn, tags=tag_list(tags))


def request_tags(account: DeploymentAccount, request: DeploymentRequest) -> dict[str, str]:
    """Return the tags of everything that is made for a deployment."""
    return {**account.tags, PREFIX: account.environment.prefix, **request.tags}


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Return tags as Bedrock's requests have them, whose values are ASCII."""
    return [
        {"key": key, "value": "".join(c if c.isascii() else "_" for c in value)}
        for key, value in sorted(tags.items())
    ]

"""Calls of SageMaker that may be repeated: what exists is left, what is gone is no error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from deployment.errors import DeployModelError
from launch.aws.session import error_code, explain_aws_errors, says_not_found

_TAKEN = ("already exist", "already existing")


class SageMakerCalls:
    """Repeatable calls of SageMaker.

    Args:
        client: boto3 client of `sagemaker`.
    """

    def __init__(self, client: Any):
        self.client = client

    def describe(self, kind: str, **name: str) -> dict[str, Any] | None:
        """Return the description of a resource, None if it does not exist.

        Args:
            kind: Kind of resource in the operation's name, such as `endpoint_config`.
            name: Its name, by the member of the request.
        """
        action = f"describing {', '.join(name.values())}"
        with explain_aws_errors(action, ignore=says_not_found):
            return dict(getattr(self.client, f"describe_{kind}")(**name))
        return None

    def create(self, kind: str, request: Mapping[str, Any], name_key: str) -> bool:
        """Create a resource and return True; False if one of this name exists.

        Args:
            kind: Kind of resource in the operation's name.
            request: The request.
            name_key: Member that holds the name.

        Raises:
            DeployModelError: The account's quota refuses it.
        """
        name = str(request[name_key])

        def exists(error: ClientError) -> bool:
            _explain_limit(name, error)
            return error_code(error) == "ResourceInUse" or any(t in str(error) for t in _TAKEN)

        with explain_aws_errors(f"creating {name}", ignore=exists):
            getattr(self.client, f"create_{kind}")(**request)
            return True
        return False

    def delete(self, kind: str, **name: str) -> None:
        """Delete a resource; one that does not exist is no error."""
        with explain_aws_errors(f"deleting {', '.join(name.values())}", ignore=says_not_found):
            getattr(self.client, f"delete_{kind}")(**name)

    def names(self, operation: str, contains: str) -> Iterator[Mapping[str, Any]]:
        """Yield the summaries of resources whose names contain a text.

        Args:
            operation: Operation that lists them, such as `list_models`.
            contains: The text.
        """
        with explain_aws_errors(f"listing {contains}"):
            pages = self.client.get_paginator(operation).paginate(NameContains=contains)
            summaries = [
                summary
                for page in pages
                for value in page.values()
                if isinstance(value, list)
                for summary in value
            ]
        yield from summaries

    def tags(self, arn: str) -> dict[str, str]:
        """Return the tags of a resource."""
        with explain_aws_errors(f"reading the tags of {arn}"):
            pages = self.client.get_paginator("list_tags").paginate(ResourceArn=arn)
            return {tag["Key"]: tag["Value"] for page in pages for tag in page["Tags"]}


def _explain_limit(name: str, error: ClientError) -> None:
    """Raise with a fix if the account's quota refuses a resource.

    Raises:
        DeployModelError: It does.
    """
    if error_code(error) == "ResourceLimitExceeded":
        message = str(error.response["Error"].get("Message", "")).strip()
        raise DeployModelError(
            f"the account's quota does not allow {name} ({message}). Ask for more of the instance "
            f"type's `endpoint usage` in Service Quotas, or choose another --instance"
        ) from None

"""Selection of the resources of this environment: those with its tag, or all of the account."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

TAG = "Environment"


@dataclass(frozen=True)
class Scope:
    """Scope of the monitoring.

    Attributes:
        environment: Name of the environment, the value of the tag; empty: the whole account.
    """

    environment: str

    def covers(self, tags: Iterable[Mapping[str, str]]) -> bool:
        """Return whether a resource with these tags (`Key` and `Value`) concerns us."""
        if not self.environment:
            return True
        return any(t.get("Key") == TAG and t.get("Value") == self.environment for t in tags)

    def covers_sagemaker(self, sagemaker: Any, arn: str) -> bool:
        """Return whether a resource of SageMaker concerns us; a resource that is gone does not."""
        if not self.environment:
            return True
        try:
            pages = sagemaker.get_paginator("list_tags").paginate(ResourceArn=arn)
            return self.covers([tag for page in pages for tag in page["Tags"]])
        except sagemaker.exceptions.ClientError as error:
            if is_not_found(error):
                return False
            raise


def is_not_found(error: Any) -> bool:
    """Return whether an error of AWS says that the resource does not exist."""
    details = error.response["Error"]
    code, message = str(details["Code"]), str(details.get("Message", "")).lower()
    absent = "not exist" in message or "not find" in message or "not found" in message
    return code in ("ResourceNotFound", "ResourceNotFoundException") or (
        code == "ValidationException" and absent
    )

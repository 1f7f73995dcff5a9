"""Emulated operations on tags of the hosting's resources."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from emulator.aws_service import Handler
from emulator.hosting.context import HostingContext
from emulator.request_validation import reject

_MOST = 50


class TagApi:
    """Tags of the emulated service.

    Args:
        context: Clock, account and containers.
        other: Returns the response of ListTags for other resources.
    """

    def __init__(self, context: HostingContext, other: Callable[[dict[str, Any]], dict[str, Any]]):
        self._context, self._other = context, other

    def operations(self) -> dict[str, Handler]:
        """Return the handler of each operation."""
        return {"AddTags": self._add, "ListTags": self._list, "DeleteTags": self._delete}

    def _add(self, request: dict[str, Any]) -> dict[str, Any]:
        tags = self._of(request["ResourceArn"])
        added = {tag["Key"]: tag["Value"] for tag in request["Tags"]}
        if len(tags | added) > _MOST:
            reject(f"A resource can have at most {_MOST} tags.")
        tags |= added
        return {"Tags": self._context.tags_of(request["ResourceArn"])}

    def _list(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["ResourceArn"] in self._context.tags:
            return {"Tags": self._context.tags_of(request["ResourceArn"])}
        return self._other(request)

    def _delete(self, request: dict[str, Any]) -> dict[str, Any]:
        tags = self._of(request["ResourceArn"])
        for key in request["TagKeys"]:
            tags.pop(key, None)
        return {}

    def _of(self, arn: str) -> dict[str, str]:
        if arn not in self._context.tags:
            reject(f"Could not find resource {arn}.")
        return self._context.tags[arn]

"""Named resources of the emulated hosting: creation, search by name, lists in pages, tags."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from emulator.hosting.context import HostingContext
from emulator.request_validation import reject

_PAGE = 10
_Resource = TypeVar("_Resource")


class ResourceTable(Generic[_Resource]):
    """Resources of one kind, by name.

    Args:
        context: Clock, account and containers.
        kind: Kind of the resources, as an ARN has it.
        words: Kind of the resources, as messages of the service have it.
    """

    def __init__(self, context: HostingContext, kind: str, words: str = ""):
        self._context, self._kind, self._words = context, kind, words or kind
        self._resources: dict[str, _Resource] = {}

    def arn(self, name: str) -> str:
        """Return the ARN of a name, whether or not it exists."""
        return self._context.arn(self._kind, name)

    def add(self, name: str, resource: _Resource, request: Mapping[str, Any]) -> None:
        """Add a resource whose name must be free.

        Args:
            name: Its name.
            resource: The resource.
            request: Request that created it, which may have tags.
        """
        self.check_free(name)
        self._resources[name] = resource
        tags = {tag["Key"]: tag["Value"] for tag in request.get("Tags", ())}
        self._context.tags[self.arn(name)] = tags

    def check_free(self, name: str) -> None:
        """Reject a name that is taken."""
        if name in self._resources:
            reject(f'Cannot create already existing {self._words} "{self.arn(name)}".')

    def get(self, name: str) -> _Resource:
        """Return the resource of a name, which must exist."""
        if name not in self._resources:
            reject(f'Could not find {self._words} "{self.arn(name)}".')
        return self._resources[name]

    def find(self, name: str) -> _Resource | None:
        """Return the resource of a name, if it exists."""
        return self._resources.get(name)

    def remove(self, name: str) -> _Resource:
        """Remove a resource, which must exist, and return it."""
        resource = self.get(name)
        del self._resources[name]
        self._context.tags.pop(self.arn(name), None)
        return resource

    def __iter__(self) -> Iterator[_Resource]:
        return iter(list(self._resources.values()))

    def clear(self) -> None:
        """Forget all resources."""
        self._resources.clear()


def list_page(
    request: Mapping[str, Any], summaries: list[dict[str, Any]], kind: str, key: str
) -> dict[str, Any]:
    """Return the response of a `List…` operation: filtered, sorted, one page.

    Args:
        request: Parameters of the request.
        summaries: Summaries of all resources.
        kind: Prefix of their members, such as `Endpoint`.
        key: Member of the response that holds the summaries.
    """
    part = request.get("NameContains", "").lower()
    kept = [s for s in summaries if part in s[f"{kind}Name"].lower()]
    equal = {
        "StatusEquals": f"{kind}Status",
        "EndpointNameEquals": "EndpointName",
        "VariantNameEquals": "VariantName",
    }
    for member, field in equal.items():
        if member in request:
            kept = [s for s in kept if s[field] == request[member]]
    for member, field, is_kept in _TIMES:
        if member in request:
            limit = request[member].timestamp()
            kept = [s for s in kept if field in s and is_kept(s[field], limit)]
    fields = {"Name": f"{kind}Name", "Status": f"{kind}Status"}
    field = fields.get(request.get("SortBy", "CreationTime"), "CreationTime")
    kept.sort(key=lambda s: s[field], reverse=request.get("SortOrder") != "Ascending")
    start = int(request.get("NextToken", 0))
    end = start + int(request.get("MaxResults", _PAGE))
    response: dict[str, Any] = {key: kept[start:end]}
    if end < len(kept):
        response["NextToken"] = str(end)
    return response


_TIMES: tuple[tuple[str, str, Callable[[float, float], bool]], ...] = (
    ("CreationTimeBefore", "CreationTime", lambda time, limit: time < limit),
    ("CreationTimeAfter", "CreationTime", lambda time, limit: time > limit),
    ("LastModifiedTimeBefore", "LastModifiedTime", lambda time, limit: time < limit),
    ("LastModifiedTimeAfter", "LastModifiedTime", lambda time, limit: time > limit),
)

"""Emulated lineage of SageMaker: artifacts, actions, contexts, and associations between them.

https://docs.aws.amazon.com/sagemaker/latest/dg/lineage-tracking.html. The documentation does not
name the error of a second association of the same two entities; here it is a ValidationException.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from emulator.aws_service import Handler
from emulator.moto_account import ACCOUNT
from emulator.request_validation import RequestRejected, reject

_PAGE = 10
_MAX_DEPTH = 10
_SUMMARY = ("Arn", "Name", "Source", "Type", "Status", "CreationTime", "LastModifiedTime")


class LineageApi:
    """Lineage entities of one Region.

    Args:
        region: The Region.
        now: Returns the time in seconds since the epoch.
    """

    def __init__(self, region: str, now: Callable[[], float] = time.time):
        self._prefix, self._now = f"arn:aws:sagemaker:{region}:{ACCOUNT}", now
        self._entities: dict[str, dict[str, Any]] = {}
        self._edges: dict[tuple[str, str], dict[str, Any]] = {}
        self._lock = threading.Lock()

    def operations(self) -> dict[str, Handler]:
        """Return the handler of each operation."""
        handlers: dict[str, Handler] = {
            "AddAssociation": self._add_association,
            "DeleteAssociation": self._delete_association,
            "ListAssociations": self._list_associations,
            "QueryLineage": self._query,
        }
        for kind in ("Artifact", "Action", "Context"):
            handlers[f"Create{kind}"] = self._creator(kind)
            handlers[f"Describe{kind}"] = self._describer(kind)
            handlers[f"List{kind}s"] = self._lister(kind)
            handlers[f"Delete{kind}"] = self._deleter(kind)
        return handlers

    def clear(self) -> None:
        """Forget all entities."""
        self._entities.clear()
        self._edges.clear()

    # --- entities ---------------------------------------------------------------------------

    def _creator(self, kind: str) -> Handler:
        def create(request: dict[str, Any]) -> dict[str, Any]:
            with self._lock:
                arn = self._arn(kind, request)
                if arn in self._entities:
                    reject(f"{kind} with the same name or source already exists: {arn}")
                now = self._now()
                self._entities[arn] = {
                    **{key: value for key, value in request.items() if key != "Tags"},
                    f"{kind}Arn": arn,
                    "CreationTime": now,
                    "LastModifiedTime": now,
                }
            return {f"{kind}Arn": arn}

        return create

    def _arn(self, kind: str, request: Mapping[str, Any]) -> str:
        """Return the ARN of an entity: of an artifact by its source, of others by its name."""
        if kind != "Artifact":
            return f"{self._prefix}:{kind.lower()}/{request[f'{kind}Name'].lower()}"
        digest = hashlib.md5(repr(request["Source"]).encode(), usedforsecurity=False)
        return f"{self._prefix}:artifact/{digest.hexdigest()}"

    def _describer(self, kind: str) -> Handler:
        return lambda request: dict(self._find(kind, request))

    def _find(self, kind: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the entity that a request names.

        Raises:
            RequestRejected: There is none.
        """
        arn = request.get(f"{kind}Arn") or self._arn(kind, request)
        if arn not in self._entities:
            raise RequestRejected("ResourceNotFound", f"{kind} {arn} does not exist.")
        return self._entities[arn]

    def _lister(self, kind: str) -> Handler:
        keys = [
            key if key in ("Source", "Status") or "Time" in key else kind + key for key in _SUMMARY
        ]

        def list_entities(request: dict[str, Any]) -> dict[str, Any]:
            found = [
                {key: entity[key] for key in keys if key in entity}
                for entity in list(self._entities.values())
                if f"{kind}Arn" in entity
                and request.get("SourceUri") in (None, entity["Source"]["SourceUri"])
                and request.get(f"{kind}Type") in (None, entity[f"{kind}Type"])
            ]
            return _page(request, found, f"{kind}Summaries")

        return list_entities

    def _deleter(self, kind: str) -> Handler:
        def delete(request: dict[str, Any]) -> dict[str, Any]:
            with self._lock:
                arn = self._find(kind, request)[f"{kind}Arn"]
                if any(arn in edge for edge in self._edges):
                    reject(f"{arn} has associations. Delete them first.")
                del self._entities[arn]
            return {f"{kind}Arn": arn}

        return delete

    # --- associations -----------------------------------------------------------------------

    def _add_association(self, request: dict[str, Any]) -> dict[str, Any]:
        edge = (request["SourceArn"], request["DestinationArn"])
        with self._lock:
            for arn in edge:
                if arn not in self._entities:
                    raise RequestRejected("ResourceNotFound", f"{arn} does not exist.")
            if edge in self._edges:
                reject(f"An association from {edge[0]} to {edge[1]} already exists.")
            self._edges[edge] = {**request, "CreationTime": self._now()}
        return {"SourceArn": edge[0], "DestinationArn": edge[1]}

    def _delete_association(self, request: dict[str, Any]) -> dict[str, Any]:
        edge = (request["SourceArn"], request["DestinationArn"])
        with self._lock:
            if self._edges.pop(edge, None) is None:
                raise RequestRejected("ResourceNotFound", "The association does not exist.")
        return {"SourceArn": edge[0], "DestinationArn": edge[1]}

    def _list_associations(self, request: dict[str, Any]) -> dict[str, Any]:
        keys = ("SourceArn", "DestinationArn", "AssociationType")
        found = [
            {
                **edge,
                "SourceType": self._type(edge["SourceArn"]),
                "DestinationType": self._type(edge["DestinationArn"]),
            }
            for edge in list(self._edges.values())
            if all(request.get(key) in (None, edge.get(key)) for key in keys)
        ]
        return _page(request, found, "AssociationSummaries")

    def _type(self, arn: str) -> str:
        entity = self._entities[arn]
        return str(next(entity[key] for key in entity if key.endswith("Type")))

    def _query(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return what is reached from the start, breadth first (QueryLineage).

        Raises:
            RequestRejected: The start does not exist.
        """
        reached: dict[str, None] = {}
        edges: list[dict[str, Any]] = []
        border = list(request.get("StartArns", ()))
        for arn in border:
            if arn not in self._entities:
                raise RequestRejected("ResourceNotFound", f"{arn} does not exist.")
        seen = set(border)
        for _ in range(request.get("MaxDepth", _MAX_DEPTH)):
            steps = [step for arn in border for step in self._steps(arn, request)]
            edges += [edge for edge, _ in steps if edge not in edges]
            border = list(dict.fromkeys(arn for _, arn in steps if arn not in seen))
            seen.update(border)
            reached |= dict.fromkeys(border)
        vertices = [
            {
                "Arn": arn,
                "Type": self._type(arn),
                "LineageType": arn.split(":")[5].partition("/")[0].capitalize(),
            }
            for arn in reached
        ]
        shown = (
            {"Edges": [_edge(edge) for edge in edges]} if request.get("IncludeEdges", True) else {}
        )
        return {**_page(request, self._filtered(request, vertices), "Vertices"), **shown}

    def _steps(self, arn: str, request: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
        """Yield the associations of an entity in the direction of a request, and their ends."""
        direction = request.get("Direction", "Both")
        for (source, destination), edge in self._edges.items():
            if arn == source and direction in ("Both", "Descendants"):
                yield edge, destination
            if arn == destination and direction in ("Both", "Ascendants"):
                yield edge, source

    def _filtered(
        self, request: Mapping[str, Any], vertices: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        filters = request.get("Filters", {})
        types, lineage = filters.get("Types"), filters.get("LineageTypes")
        return [
            vertex
            for vertex in vertices
            if (not types or vertex["Type"] in types)
            and (not lineage or vertex["LineageType"] in lineage)
        ]


def _edge(edge: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("SourceArn", "DestinationArn", "AssociationType")
    return {key: edge[key] for key in keys if key in edge}


def _page(request: Mapping[str, Any], found: list[dict[str, Any]], member: str) -> dict[str, Any]:
    """Return a page of results, and the token of the next one.

    Args:
        request: Parameters of the request.
        found: All results.
        member: Member of the response that holds them.
    """
    start, size = int(request.get("NextToken", 0)), int(request.get("MaxResults", _PAGE))
    more = {"NextToken": str(start + size)} if start + size < len(found) else {}
    return {member: found[start : start + size], **more}

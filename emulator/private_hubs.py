"""Emulated private hubs of SageMaker, with documents such as evaluators."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from emulator.moto_account import ACCOUNT
from emulator.request_validation import RequestRejected

_CONTENT_KEYS = (
    "HubName",
    "HubContentName",
    "HubContentType",
    "DocumentSchemaVersion",
    "HubContentDocument",
)


class PrivateHubs:
    """Private hubs of the account in one Region.

    Args:
        region: The Region.
    """

    def __init__(self, region: str):
        self._region = region
        self._hubs: dict[str, dict[str, dict[str, Any]]] = {}

    def find(self, hub: str, name: str) -> dict[str, Any] | None:
        """Return the document of a name in a hub, None if there is none."""
        return self._hubs.get(hub, {}).get(name)

    def create(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Create a private hub (CreateHub).

        Raises:
            RequestRejected: Its name is taken.
        """
        name = request["HubName"]
        if name in self._hubs:
            raise RequestRejected("ResourceInUse", f"A hub named {name} already exists")
        self._hubs[name] = {}
        return {"HubArn": f"arn:aws:sagemaker:{self._region}:{ACCOUNT}:hub/{name}"}

    def import_content(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Add a document to a private hub (ImportHubContent).

        Raises:
            RequestRejected: There is no such hub, the name is taken, or the document is no JSON.
        """
        contents = self._hubs.get(request["HubName"])
        if contents is None:
            raise RequestRejected("ResourceNotFound", f"The hub {request['HubName']} was not found")
        name = request["HubContentName"]
        if name in contents:
            raise RequestRejected("ResourceInUse", f"{name} already exists")
        json.loads(request["HubContentDocument"])
        hub = f"arn:aws:sagemaker:{self._region}:{ACCOUNT}:hub/{request['HubName']}"
        arn = f"{hub.replace(':hub/', ':hub-content/')}/JsonDoc/{name}/1.0.0"
        contents[name] = {
            **{key: request[key] for key in _CONTENT_KEYS},
            "HubContentArn": arn,
            "HubContentVersion": request.get("HubContentVersion", "1.0.0"),
            "HubArn": hub,
            "HubContentStatus": "Available",
            "CreationTime": datetime.now(UTC),
        }
        return {"HubArn": hub, "HubContentArn": arn}

    def delete_content(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Delete a document of a private hub (DeleteHubContent).

        Raises:
            RequestRejected: There is none.
        """
        if not self._hubs.get(request["HubName"], {}).pop(request["HubContentName"], None):
            raise RequestRejected("ResourceNotFound", "The hub content was not found")
        return {}

    def grader_of(self, evaluator: str) -> str | None:
        """Return the ARN of the function of an evaluator, None if there is no such evaluator."""
        for contents in self._hubs.values():
            for content in contents.values():
                if content["HubContentArn"] == evaluator:
                    document = json.loads(content["HubContentDocument"])
                    return str(json.loads(document["JsonContent"])["Reference"])
        return None

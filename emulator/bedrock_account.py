"""State that the emulated operations of Bedrock share: time, ARNs, names, tokens, tags, faults."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from emulator.clock import Clock
from emulator.moto_account import ACCOUNT
from emulator.request_validation import Client, RequestRejected

Create = Callable[[str], object]
_ENDED = ("Completed", "PartiallyCompleted", "Failed", "Stopped", "Expired")
"""Statuses of jobs that have ended."""


@dataclass
class BedrockTimings:
    """Durations of Bedrock's operations, in seconds of the emulator's clock.

    Attributes:
        import_s: Import of a model.
        create_s: Creation of a custom model, a deployment or provisioned throughput.
        update_s: Change of the model behind a deployment or provisioned throughput.
        customize_s: Customization of a foundation model.
        batch_s: Wait of a batch inference job before it starts.
        load_s: Load of an imported model that is not in memory, at least.
        idle_s: Time without requests after which an imported model is removed from memory; AWS says
            "normally one hour" (repost.aws, "ModelNotReadyException").
    """

    import_s: float = 600.0
    create_s: float = 300.0
    update_s: float = 300.0
    customize_s: float = 3600.0
    batch_s: float = 60.0
    load_s: float = 60.0
    idle_s: float = 3600.0


@dataclass
class BedrockFaults:
    """Faults that the emulated service injects. `AwsService.errors` plants single errors.

    Attributes:
        without_agreement: Foundation models whose license agreement the account has not accepted.
        failed_imports: Messages of the next imports, which fail.
        failed_creations: Messages of the next custom models, deployments or throughputs, which
            fail.
        failed_customizations: Messages of the next customizations, which fail.
        failed_updates: Number of the next updates that end with the former model in place.
        model_units: Model units that the account may still provision; None for any number.
    """

    without_agreement: set[str] = field(default_factory=set)
    failed_imports: list[str] = field(default_factory=list)
    failed_creations: list[str] = field(default_factory=list)
    failed_customizations: list[str] = field(default_factory=list)
    failed_updates: int = 0
    model_units: int | None = None


class BedrockAccount:
    """Account in one Region, as Bedrock's operations see it.

    Args:
        region: Region of the service.
        client: Returns the boto3 client of a service of the emulated account.
        clock: Source of time.
        home: Folder for the files of models.
        timings: Durations of the operations.

    Attributes:
        foundation_models: Folder of the weights that answer for each foundation model.
    """

    def __init__(
        self, region: str, client: Client, clock: Clock, home: Path, timings: BedrockTimings
    ):
        self.region, self.client, self.clock = region, client, clock
        self.home, self.timings, self.faults = home, timings, BedrockFaults()
        self.foundation_models: dict[str, Path] = {}
        self.lock = threading.Lock()
        self._ids = itertools.count(1)
        self._tokens: dict[tuple[str, str], str] = {}
        self._tags: dict[str, dict[str, str]] = {}

    def arn(self, kind: str) -> str:
        """Return a new ARN, such as that of an `imported-model`."""
        return f"arn:aws:bedrock:{self.region}:{ACCOUNT}:{kind}/{next(self._ids):012d}"

    def folder(self, kind: str, arn: str) -> Path:
        """Return the folder for the files of a model."""
        return self.home / kind / arn.rpartition("/")[2]

    def now(self) -> datetime:
        """Return the time of the emulator's clock."""
        return datetime.fromtimestamp(self.clock.now(), UTC)

    def create_once(
        self, request: Mapping[str, Any], kind: str, create: Create, start: Callable[[str], None]
    ) -> str:
        """Return the ARN of a new resource, or of that of an earlier request with the same token.

        Args:
            request: Parameters of the request.
            kind: Kind of resource.
            create: Adds the resource, given its ARN, unless it rejects the request.
            start: Starts what creates the resource in time. No lock is held while it runs.
        """
        with self.lock:
            key = (kind, request.get("clientRequestToken", ""))
            if key[1] and key in self._tokens:
                return self._tokens[key]
            arn = self.arn(kind)
            create(arn)
            if key[1]:
                self._tokens[key] = arn
        start(arn)
        return arn

    def check_agreement(self, model: str) -> None:
        """Reject a foundation model whose license agreement was not accepted.

        Raises:
            RequestRejected: It was not.
        """
        if model in self.faults.without_agreement:
            raise RequestRejected(
                "AccessDeniedException",
                "You don't have access to the model with the specified model ID.",
            )

    def next_failed_creation(self) -> str | None:
        """Return the injected message of the creation that ends now; None if it succeeds."""
        failures = self.faults.failed_creations
        return failures.pop(0) if failures else None

    def next_update_fails(self) -> bool:
        """Return whether the update that ends now fails by injection."""
        fails = self.faults.failed_updates > 0
        self.faults.failed_updates -= fails
        return fails

    def set_tags(self, arn: str, tags: Iterable[Mapping[str, str]]) -> None:
        """Set tags of a resource."""
        self._tags.setdefault(arn, {}).update({tag["key"]: tag["value"] for tag in tags})

    def forget(self, arn: str) -> None:
        """Remove the tags of a deleted resource."""
        self._tags.pop(arn, None)

    def tag_resource(self, request: dict[str, Any]) -> dict[str, Any]:
        """Add tags to a resource (TagResource)."""
        self._require_tagged(request["resourceARN"])
        self.set_tags(request["resourceARN"], request["tags"])
        return {}

    def untag_resource(self, request: dict[str, Any]) -> dict[str, Any]:
        """Remove tags from a resource (UntagResource)."""
        tags = self._require_tagged(request["resourceARN"])
        for key in request["tagKeys"]:
            tags.pop(key, None)
        return {}

    def list_tags(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the tags of a resource (ListTagsForResource)."""
        tags = self._require_tagged(request["resourceARN"])
        return {"tags": [{"key": key, "value": value} for key, value in sorted(tags.items())]}

    def _require_tagged(self, arn: str) -> dict[str, str]:
        if arn not in self._tags:
            reject_missing(arn)
        return self._tags[arn]


class BedrockResources:
    """Resources of one kind, which requests name by ARN or by name.

    Args:
        account: The account.
        arn_key: Member of a description that holds the ARN.
        name_key: Member that holds the name.
    """

    def __init__(self, account: BedrockAccount, arn_key: str, name_key: str):
        self._account, self._arn_key, self._name_key = account, arn_key, name_key
        self._descriptions: dict[str, dict[str, Any]] = {}

    def add(self, description: dict[str, Any], tags: Iterable[Mapping[str, str]] = ()) -> str:
        """Add a resource and return its ARN."""
        arn = str(description[self._arn_key])
        self._descriptions[arn] = description
        self._account.set_tags(arn, tags)
        return arn

    def all(self) -> list[dict[str, Any]]:
        """Return the descriptions of all resources, oldest first."""
        return list(self._descriptions.values())

    def find(self, identifier: str) -> dict[str, Any] | None:
        """Return the description of an ARN or a name; None if there is none."""
        by_arn = self._descriptions.get(identifier)
        named = (one for one in self.all() if one[self._name_key] == identifier)
        return by_arn or next(named, None)

    def get(self, identifier: str) -> dict[str, Any]:
        """Return the description of an ARN or a name.

        Raises:
            RequestRejected: There is none.
        """
        description = self.find(identifier)
        if description is None:
            reject_missing(identifier)
        return description

    def remove(self, description: Mapping[str, Any]) -> None:
        """Remove a resource."""
        arn = str(description[self._arn_key])
        self._descriptions.pop(arn, None)
        self._account.forget(arn)

    def stop(self, job: dict[str, Any]) -> None:
        """Begin to stop a job.

        Raises:
            RequestRejected: It has ended.
        """
        if job["status"] in _ENDED:
            reject_conflict(f"The job has the status {job['status']}")
        job["status"] = "Stopping"

    def page(
        self, request: Mapping[str, Any], created: str, **equals: str
    ) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """Return a page of descriptions, newest first, and the token of the next one.

        Args:
            request: Parameters of a List operation.
            created: Member with the time of creation.
            equals: Members to compare, by the parameter that they are compared with.
        """
        part = request.get("nameContains", "")
        found = [
            one
            for one in self.all()
            if part in one[self._name_key]
            and all(request.get(key) in (None, one.get(member)) for key, member in equals.items())
            and request.get("creationTimeAfter", one[created]) <= one[created]
            and request.get("creationTimeBefore", one[created]) >= one[created]
        ]
        descending = request.get("sortOrder", "Descending") == "Descending"
        found.sort(key=lambda one: (one[created], one[self._arn_key]), reverse=descending)
        start, size = int(request.get("nextToken", 0)), int(request.get("maxResults", 100))
        more = {"nextToken": str(start + size)} if start + size < len(found) else {}
        return found[start : start + size], more


def reject_missing(identifier: str) -> NoReturn:
    """Reject a request that names what does not exist.

    Raises:
        RequestRejected: Always.
    """
    message = f"The specified resource {identifier} was not found"
    raise RequestRejected("ResourceNotFoundException", message)


def reject_conflict(message: str) -> NoReturn:
    """Reject a request that the state of a resource does not allow.

    Raises:
        RequestRejected: Always.
    """
    raise RequestRejected("ConflictException", message)


def arn_kind(identifier: str) -> str:
    """Return the kind of resource of an ARN, such as `imported-model`; empty for another text."""
    head = identifier.split("/")[0].rpartition(":")
    return head[2] if identifier.startswith("arn:") else ""

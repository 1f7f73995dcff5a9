"""A deployment as it is found on AWS, by the tags of its resources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import catalog.deployment_tags as tag
from deployment.spec import DeploymentSpec, End
from launch.aws.tags import tag_value

DeploymentState = Literal[
    "not deployed", "deploying", "deployed", "failed", "rolled back", "undeploying"
]


@dataclass(frozen=True)
class Deployment:
    """A deployment on AWS.

    Attributes:
        name: Name of the deployment.
        to: Kind of the deployment.
        state: State.
        model: NAME@VERSION of the version that serves, from the tags; empty if it has none.
        address: ARN or name by which applications call it.
        detail: More about the state, such as the service's reason for a failure.
        tags: Tags of its resource.
        instances: Instances that run now, by type.
        created: Time of creation; None if it is not known.
    """

    name: str
    to: str
    state: DeploymentState
    model: str = ""
    address: str = ""
    detail: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    instances: Mapping[str, int] = field(default_factory=dict)
    created: datetime | None = None

    @property
    def end(self) -> str:
        """When it is removed, in words."""
        return end_words(self.tags)

    @property
    def end_values(self) -> dict[str, Any]:
        """Its end as a specification has it."""
        hours = self.tags.get(tag.IDLE_HOURS)
        return {
            "until": self.tags.get(tag.UNTIL),
            "idle_hours": int(hours) if hours else None,
            "forever": self.tags.get(tag.FOREVER),
        }


def deployment_tags(spec: DeploymentSpec, model: str, version: str, owner: str) -> dict[str, str]:
    """Return the tags of a deployment's resources.

    Args:
        spec: The deployment.
        model: Name of the registered model.
        version: Its version.
        owner: Who deploys it.
    """
    return {
        tag.DEPLOYMENT: spec.name,
        tag.MODEL: model,
        tag.VERSION: version,
        tag.OWNER: tag_value(owner),
        **({tag.FORM: spec.form} if spec.form else {}),
        **({} if spec.chat else {tag.CHAT: "false"}),
        **end_tags(spec.end),
    }


def kept_by_tags(tags: Mapping[str, str]) -> dict[str, Any]:
    """Return the keys of a specification that only the tags of a version's resources show."""
    form = {"form": tags[tag.FORM]} if tag.FORM in tags else {}
    return {**form, **({"chat": False} if tags.get(tag.CHAT) == "false" else {})}


def end_tags(end: End) -> dict[str, str]:
    """Return the tags by which the platform removes a deployment."""
    tags = {}
    if end.until is not None:
        tags[tag.UNTIL] = end.until.astimezone(UTC).strftime("%FT%TZ")
    if end.idle_hours is not None:
        tags[tag.IDLE_HOURS] = str(end.idle_hours)
    if end.forever is not None:
        tags[tag.FOREVER] = tag_value(end.forever)
    return tags


def end_words(tags: Mapping[str, str]) -> str:
    """Return when a deployment is removed, from its tags."""
    if reason := tags.get(tag.FOREVER):
        return f"never ({reason})"
    words = []
    if until := tags.get(tag.UNTIL):
        words.append(f"at {until}")
    if hours := tags.get(tag.IDLE_HOURS):
        words.append(f"after {hours} h without a call")
    return " or ".join(words) or "no end: it has no tag of one"


def model_of_tags(tags: Mapping[str, str]) -> str:
    """Return the NAME@VERSION that tags name; empty if they name none."""
    name, version = tags.get(tag.MODEL), tags.get(tag.VERSION)
    return f"{name}@{version}" if name and version else ""


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Return tags as SageMaker's requests have them."""
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]

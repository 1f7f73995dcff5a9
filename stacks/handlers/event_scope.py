"""Selection of the events that concern this environment.

EventBridge delivers the events of the whole account. A resource concerns an environment if it
carries its tag, has a name with its prefix, or is one of its keys.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .event_fields import flattened
from .monitor.scope import Scope, is_not_found


@dataclass(frozen=True)
class EventScope:
    """Scope of the events.

    Attributes:
        scope: Environment whose tag a resource must carry, or the whole account.
        prefix: Prefix of the environment.
        keys: ARNs of its KMS keys.
    """

    scope: Scope
    prefix: str
    keys: tuple[str, ...]

    @classmethod
    def from_variables(cls, variables: Mapping[str, str]) -> "EventScope":
        """Return the scope that the function's environment variables describe."""
        scope = Scope(variables["ENVIRONMENT"])
        return cls(scope, variables["PREFIX"], tuple(json.loads(variables["KEYS"])))

    def covers(self, event: Mapping[str, Any], client: Callable[[str], Any]) -> bool:
        """Return whether an event concerns the environment.

        Args:
            event: EventBridge event.
            client: Factory of clients by service name.
        """
        if not self.scope.environment:
            return True
        detail = flattened(event.get("detail", {}))
        match event.get("source"):
            case "aws.kms":
                return self._covers_key(event, detail)
            case "aws.sagemaker" if "ClusterName" in detail:
                return str(detail["ClusterName"]).startswith(f"{self.prefix}-")
            case "aws.sagemaker" if detail.get("ModelPackageGroupName") == f"{self.prefix}-models":
                return True  # a version of a group has no tags of its own
            case "aws.sagemaker":
                return self._covers_tagged(event, detail, client)
            case "aws.bedrock":
                return self._covers_bedrock(detail, client)
        return True  # the rules of the other sources name the resources of the environment

    def _covers_key(self, event: Mapping[str, Any], detail: Mapping[str, Any]) -> bool:
        named = [str(detail.get("keyId", ""))]
        named += [str(r.get("ARN", "")) for r in event.get("detail", {}).get("resources") or []]
        return any(
            name and (name == key or name == key.rpartition("/")[2])
            for name in named
            for key in self.keys
        )

    def _covers_tagged(
        self, event: Mapping[str, Any], detail: Mapping[str, Any], client: Callable[[str], Any]
    ) -> bool:
        """Look into the event's own tags first; AWS's examples show the field, often empty."""
        tags = detail.get("Tags")
        if isinstance(tags, dict) and tags:
            return self.scope.covers([{"Key": k, "Value": str(v)} for k, v in tags.items()])
        arns = event.get("resources", [])
        return any(self.scope.covers_sagemaker(client("sagemaker"), arn) for arn in arns)

    def _covers_bedrock(self, detail: Mapping[str, Any], client: Callable[[str], Any]) -> bool:
        arn = detail.get("jobArn") or detail.get("batchJobArn")
        if not arn:
            return False
        bedrock = client("bedrock")
        try:
            tags = bedrock.list_tags_for_resource(resourceARN=arn).get("tags", [])
        except bedrock.exceptions.ClientError as error:
            if is_not_found(error):
                return False
            raise
        return self.scope.covers([{"Key": t["key"], "Value": t["value"]} for t in tags])

"""Lineage of a version in SageMaker: its data, base and evaluations, the run, and the model.

https://docs.aws.amazon.com/sagemaker/latest/dg/lineage-tracking.html. Entities that exist are
found by their source, so that versions of the same data or base share them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from launch.aws.session import explain_aws_errors
from registry.record import ModelRecord

ACTION_TYPE = "TrainingJob"
_WORDS = re.compile(r"[^A-Za-z0-9]+")
_DIGEST = 10


@dataclass(frozen=True)
class LineageEntities:
    """Requests that record the lineage of a version.

    Attributes:
        inputs: Requests CreateArtifact of what the run used.
        action: Request CreateAction of the run.
        model: Request CreateArtifact of the model.
        results: Requests CreateArtifact of the evaluations.
    """

    inputs: tuple[dict[str, Any], ...]
    action: dict[str, Any]
    model: dict[str, Any]
    results: tuple[dict[str, Any], ...]


def lineage_entities(record: ModelRecord, package: str) -> LineageEntities:
    """Return the requests that record the lineage of a version.

    Args:
        record: The version.
        package: ARN of its model package.
    """
    origin = record.provenance
    data: Mapping[str, Any] = origin.data
    sets = {part: data.get(part) for part in ("train", "validation")}
    sets |= data.get("prepared") or {}
    inputs = [
        _artifact("DataSet", f"sha256:{digest}", str(digest), name=part)
        for part, digest in sets.items()
        if digest
    ]
    if origin.base != "scratch":
        inputs.append(_artifact("Model", origin.base, origin.base_digest, name=origin.base))
    properties = {
        "method": origin.method,
        "adapter": origin.adapter,
        "seed": origin.seed,
        "job-sha256": origin.job_sha256,
        "temper": origin.code.get("temper"),
    }
    commit = origin.code.get("commit")
    action = {
        "ActionName": _entity_name(record, origin.run),
        "Source": {"SourceUri": origin.run[:2048], "SourceType": "Temper run"},
        "ActionType": ACTION_TYPE,
        "Status": "Completed",
        "Properties": _texts(properties),
        **({"MetadataProperties": {"CommitId": str(commit)}} if commit else {}),
    }
    model = _artifact("Model", package, None, name=record.id)
    model["Properties"] = _texts({"version": record.id, "registered-by": record.registered_by})
    results = [
        _artifact(
            "EvaluationReport",
            f"{package}#{result.get('suite')}",
            None,
            name=f"{record.id} {result.get('suite')}",
        )
        for result in record.evaluations
    ]
    return LineageEntities(tuple(inputs), action, model, tuple(results))


def write_lineage(client: Any, entities: LineageEntities) -> None:
    """Create the entities and associations that do not exist.

    Args:
        client: boto3 client of `sagemaker`.
        entities: The entities.

    Raises:
        LaunchError: AWS refused.
    """
    with explain_aws_errors("recording the lineage"):
        action, model = _ensure_action(client, entities.action), _ensure(client, entities.model)
        for request in entities.inputs:
            _associate(client, _ensure(client, request), action, "ContributedTo")
        _associate(client, action, model, "Produced")
        for request in entities.results:
            _associate(client, _ensure(client, request), model, "AssociatedWith")


def _ensure(client: Any, request: Mapping[str, Any]) -> str:
    """Return the ARN of an artifact, which is created unless its source has one of its type."""
    answer = client.list_artifacts(
        SourceUri=request["Source"]["SourceUri"], ArtifactType=request["ArtifactType"]
    )
    found = answer["ArtifactSummaries"]
    return str((found[0] if found else client.create_artifact(**request))["ArtifactArn"])


def _ensure_action(client: Any, request: Mapping[str, Any]) -> str:
    answer = client.list_actions(SourceUri=request["Source"]["SourceUri"], ActionType=ACTION_TYPE)
    found = answer["ActionSummaries"]
    return str((found[0] if found else client.create_action(**request))["ActionArn"])


def _associate(client: Any, source: str, destination: str, kind: str) -> None:
    """Associate two entities unless they are.

    Args:
        client: boto3 client of `sagemaker`.
        source: ARN of the source.
        destination: ARN of the destination.
        kind: Type of the association.
    """
    ends = {"SourceArn": source, "DestinationArn": destination}
    if not client.list_associations(**ends)["AssociationSummaries"]:
        client.add_association(**ends, AssociationType=kind)


def _artifact(kind: str, uri: str, digest: str | None, *, name: str) -> dict[str, Any]:
    """Return the request CreateArtifact.

    Args:
        kind: Type of the artifact.
        uri: Its source.
        digest: Digest of its content, if it is known.
        name: Words of its name.
    """
    types = [{"SourceIdType": "Custom", "Value": digest[:256]}] if digest else []
    return {
        "ArtifactName": _name(name),
        "ArtifactType": kind,
        "Source": {"SourceUri": uri[:2048], **({"SourceTypes": types} if types else {})},
    }


def _entity_name(record: ModelRecord, run: str) -> str:
    """Return the name of the action of a run, which is unique in an account."""
    digest = hashlib.sha256(f"{run} {record.provenance.job_sha256}".encode()).hexdigest()
    return f"{_name(run)[: 119 - _DIGEST]}-{digest[:_DIGEST]}"


def _name(words: str) -> str:
    """Return words as the name of an entity: letters, digits and single hyphens."""
    return _WORDS.sub("-", words).strip("-")[:120].rstrip("-") or "entity"


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value)[:2500] for key, value in values.items() if value is not None}

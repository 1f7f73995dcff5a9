"""Start of a pipeline when there is a reason: new data, a schedule, an alarm, feedback, a base.

The function decides by what AWS knows of earlier executions, and keeps nothing itself. The token
of a start is a digest of the pipeline, the data and the newest execution, so that two events at the
same time, which see the same executions, start one. The name of an execution ends with a digest of
its event, so that an event that is delivered again starts none.
"""

import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import boto3
from botocore.exceptions import ClientError

_MISSING = ("404", "NoSuchKey", "NotFound")
_NAME_CHARACTERS = 12
_DONE, _RUNNING = "Succeeded", ("Executing", "Stopping")


@dataclass(frozen=True)
class TriggerSettings:
    """Settings of a pipeline's start.

    Attributes:
        pipeline: Name of the pipeline in AWS.
        bucket: Bucket of the manifests.
        manifest: Key of the manifest of approved data.
        cooldown_s: Least time between two starts.
        monthly_runs: Most starts in a calendar month.
        monthly_usd: Most US dollars in a calendar month; None for no limit.
        usd: Estimated cost of one execution.
        feedback_rows: Rows of feedback from which they are a reason.
    """

    pipeline: str
    bucket: str
    manifest: str
    cooldown_s: int
    monthly_runs: int
    monthly_usd: float | None
    usd: float
    feedback_rows: int


@dataclass(frozen=True)
class TriggerReason:
    """Reason to start.

    Attributes:
        kind: `data`, `feedback`, `base-model`, `schedule` or `alarm`.
        detail: What happened, for the description of the execution.
        event: Id of the event.
    """

    kind: str
    detail: str
    event: str


def handler(event: dict[str, Any], context: object) -> dict[str, str]:
    """Run as the Lambda entry point."""
    settings = TriggerSettings(**json.loads(os.environ["SETTINGS"]))
    outcome = start(event, settings, boto3.client, datetime.now(UTC))
    sys.stdout.write(json.dumps({"pipeline": settings.pipeline, **outcome}) + "\n")
    return outcome


def start(
    event: dict[str, Any],
    settings: TriggerSettings,
    client: Callable[[str], Any],
    now: datetime,
) -> dict[str, str]:
    """Start an execution unless a limit forbids it, and return the outcome with its reason.

    Args:
        event: Event of EventBridge, or the input of a schedule.
        settings: Settings of the pipeline.
        client: Factory of clients by service name.
        now: The time.
    """
    reason = read_reason(event)
    manifest = _manifest(client("s3"), settings, event)
    if reason.kind == "feedback" and int(manifest.get("rows", 0)) < settings.feedback_rows:
        few = f"{manifest.get('rows', 0)} rows of feedback, and {settings.feedback_rows} are needed"
        return {"outcome": "too little feedback", "detail": few}
    sagemaker = client("sagemaker")
    digest = str(manifest.get("digest", ""))
    executions = list(_executions(sagemaker, settings, now))
    event_digest = _digest(reason.event)[:_NAME_CHARACTERS]
    seen = [one for one in executions if _name(one).endswith(f"-{event_digest}")]
    if seen:
        return {"outcome": "delivered again", "detail": _arn(seen[0])}
    refused = _refusal(executions, settings, digest, now, after_failure=reason.kind != "alarm")
    if refused:
        return refused
    newest = _arn(executions[0]) if executions else "none"
    # A name has letters, digits and hyphens only, and a digest may be `sha256:…`.
    short = re.sub("[^A-Za-z0-9]", "", digest)[:_NAME_CHARACTERS] or "unknown"
    answer = sagemaker.start_pipeline_execution(
        PipelineName=settings.pipeline,
        PipelineExecutionDisplayName=f"{reason.kind}-{short}-{event_digest}",
        PipelineExecutionDescription=f"{reason.detail} [data {digest or 'unknown'}]",
        PipelineParameters=[{"Name": "Reason", "Value": reason.detail}],
        ClientRequestToken=_digest(settings.pipeline, digest, newest),
    )
    return {"outcome": "started", "detail": str(answer["PipelineExecutionArn"])}


def read_reason(event: dict[str, Any]) -> TriggerReason:
    """Return the reason that an event gives.

    Raises:
        ValueError: If it is not an event that the rules of the platform send.
    """
    kind, detail = event.get("detail-type"), event.get("detail", {})
    if kind == "Object Created":
        key = str(detail["object"]["key"])
        name = key.rpartition("/")[2].removesuffix(".json")
        known = {"manifest": "data", "feedback": "feedback", "base-model": "base-model"}
        if name in known:
            return TriggerReason(known[name], f"new object {key}", str(event["id"]))
    if kind == "CloudWatch Alarm State Change":
        return TriggerReason("alarm", f"alarm {detail['alarmName']}", str(event["id"]))
    if event.get("reason") == "schedule":
        return TriggerReason("schedule", "schedule", str(event["time"]))
    raise ValueError(f"not an event that starts a pipeline: {json.dumps(event)[:300]}")


def _manifest(s3: Any, settings: TriggerSettings, event: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest that an event names, or that of the approved data; {} if there is none.

    A manifest without a digest has that of its content.

    Raises:
        ClientError: If it cannot be read.
    """
    detail = event.get("detail", {})
    key = str(detail["object"]["key"]) if "object" in detail else settings.manifest
    try:
        body = s3.get_object(Bucket=settings.bucket, Key=key)["Body"].read()
    except ClientError as error:
        if error.response["Error"]["Code"] in _MISSING:
            return {}
        raise
    document: dict[str, Any] = {"digest": hashlib.sha256(body).hexdigest(), **json.loads(body)}
    return document


def _executions(
    sagemaker: Any, settings: TriggerSettings, now: datetime
) -> Iterator[dict[str, Any]]:
    """Yield executions, newest first: those of this month, and back to the last that succeeded."""
    pages = sagemaker.get_paginator("list_pipeline_executions").paginate(
        PipelineName=settings.pipeline, SortBy="CreationTime", SortOrder="Descending"
    )
    succeeded = False
    for page in pages:
        for execution in page["PipelineExecutionSummaries"]:
            yield execution
            succeeded = succeeded or execution["PipelineExecutionStatus"] == _DONE
            if succeeded and _month(execution["StartTime"].astimezone(UTC)) != _month(now):
                return


def _refusal(
    executions: list[dict[str, Any]],
    settings: TriggerSettings,
    digest: str,
    now: datetime,
    *,
    after_failure: bool,
) -> dict[str, str] | None:
    """Return why nothing is started; None if nothing forbids it.

    Args:
        executions: Executions, newest first.
        settings: Settings of the pipeline.
        digest: Digest of the approved data; empty if it is not known.
        now: The time.
        after_failure: An execution that failed can be repeated at once. An alarm cannot: one that
            comes and goes would start execution after execution.
    """
    running = [one for one in executions if one["PipelineExecutionStatus"] in _RUNNING]
    if running:
        return {"outcome": "running", "detail": running[0]["PipelineExecutionArn"]}
    newest = executions[0] if executions else None
    done = [one for one in executions if one["PipelineExecutionStatus"] == _DONE]
    known = str(done[0].get("PipelineExecutionDescription", "")) if done else ""
    if digest and known.endswith(f"[data {digest}]"):
        return {"outcome": "unchanged", "detail": f"the data are those of {_arn(done[0])}"}
    if newest is not None:
        age = (now - newest["StartTime"]).total_seconds()
        failed = newest["PipelineExecutionStatus"] not in (_DONE, *_RUNNING)
        if age < settings.cooldown_s and not (failed and after_failure):
            left = round((settings.cooldown_s - age) / 60)
            return {"outcome": "cooling down", "detail": f"{left} min are left"}
    month = [one for one in executions if _month(one["StartTime"].astimezone(UTC)) == _month(now)]
    if len(month) >= settings.monthly_runs:
        return {"outcome": "over budget", "detail": f"{len(month)} executions this month"}
    spent = (len(month) + 1) * settings.usd
    if settings.monthly_usd is not None and spent > settings.monthly_usd:
        limit = f"${spent:.2f} with this execution, and ${settings.monthly_usd:.2f} are allowed"
        return {"outcome": "over budget", "detail": limit}
    return None


def _digest(*texts: str) -> str:
    return hashlib.sha256("|".join(texts).encode()).hexdigest()


def _name(execution: dict[str, Any]) -> str:
    return str(execution.get("PipelineExecutionDisplayName", ""))


def _month(moment: datetime) -> tuple[int, int]:
    return moment.year, moment.month


def _arn(execution: dict[str, Any]) -> str:
    return str(execution["PipelineExecutionArn"])

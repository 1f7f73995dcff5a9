"""Lambda function that promotes a scanned image to the one that jobs use.

Jobs use the image, by digest, in the parameter `/<prefix>/images/<kind>/uri`. A finished scan
promotes the newest image, unless it has findings of a refused severity. If the environment requires
approvals, only the image is promoted whose digest an approver wrote to
`/<prefix>/images/<kind>/approved`, and no approver may approve an image that they built.
Every refusal is reported as an event, and so is a severe finding in the image that jobs use.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import boto3

BLOCKING_SEVERITIES = {"CRITICAL": ("CRITICAL",), "HIGH": ("CRITICAL", "HIGH")}
# Final states in the events of basic scanning and of Amazon Inspector, and in the ECR API.
# docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ImageScanStatus.html
SCANNED = ("COMPLETE", "INITIAL_SCAN_COMPLETE", "ACTIVE")
SCANNING = ("IN_PROGRESS", "PENDING")
MOST_BUILDS = 1000
"""Number of recent builds among which the build of an image is looked for."""


@dataclass(frozen=True)
class PromotionGate:
    """Rules of the environment, and the clients to apply them with.

    Attributes:
        prefix: Prefix of the environment, which begins the names of repositories and parameters.
        refuse_from: Lowest severity that blocks promotion.
        project: CodeBuild project that builds the images; empty if there is none.
        approver_role: Name of the role whose approvals count; empty if no approval is required.
        source: Source of the events that report refusals.
        ssm: Systems Manager client.
        ecr: ECR client.
        codebuild: CodeBuild client.
        events: EventBridge client.
    """

    prefix: str
    refuse_from: str
    project: str
    approver_role: str
    source: str
    ssm: Any
    ecr: Any
    codebuild: Any
    events: Any


@dataclass(frozen=True)
class PushedImage:
    """Image in a repository of the environment."""

    registry: str
    repository: str
    digest: str

    @property
    def uri(self) -> str:
        """Address of the image, by digest."""
        return f"{self.registry}/{self.repository}@{self.digest}"


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Run as the Lambda entry point, for events of ECR, Amazon Inspector and Parameter Store."""
    gate = PromotionGate(
        prefix=os.environ["PREFIX"],
        refuse_from=os.environ["REFUSE_FROM"],
        project=os.environ.get("PROJECT", ""),
        approver_role=os.environ.get("APPROVER_ROLE", ""),
        source=os.environ["SOURCE"],
        **{name: boto3.client(name) for name in ("ssm", "ecr", "codebuild", "events")},
    )
    return promote(event, gate)


def promote(event: Mapping[str, Any], gate: PromotionGate) -> dict[str, Any]:
    """Promote the image of an event, refuse it, or leave everything as it is.

    Args:
        event: `ECR Image Scan`, `Inspector2 Scan`, `Inspector2 Finding`, or
            `Parameter Store Change` of an approval.
        gate: Rules and clients.

    Returns:
        Whether the image was promoted, and why not.

    Raises:
        ValueError: The event is of another type.
    """
    kind = event["detail-type"]
    if kind in ("ECR Image Scan", "Inspector2 Scan"):
        return _on_scan(event, gate)
    if kind == "Inspector2 Finding":
        return _on_finding(event, gate)
    if kind == "Parameter Store Change":
        return _on_approval(event, gate)
    raise ValueError(f"no rule sends events of type {kind!r}")


def _on_scan(event: Mapping[str, Any], gate: PromotionGate) -> dict[str, Any]:
    detail = event["detail"]
    # Amazon Inspector names the repository by its ARN.
    # docs.aws.amazon.com/AmazonECR/latest/userguide/image-scanning-enhanced-events.html
    repository = detail["repository-name"].rpartition(":repository/")[2]
    image = PushedImage(_registry(event), repository, detail["image-digest"])
    state = detail["scan-status"]
    return _decide(image, state, detail.get("finding-severity-counts") or {}, gate)


def _on_approval(event: Mapping[str, Any], gate: PromotionGate) -> dict[str, Any]:
    kind = event["detail"]["name"].split("/")[-2]
    approval = _approval(gate, kind)
    if approval is None:
        return {"promoted": False, "why": "the approval was withdrawn"}
    digest, _ = approval
    image = PushedImage(_registry(event), f"{gate.prefix}/{kind}", digest)
    try:
        scan = gate.ecr.describe_image_scan_findings(
            repositoryName=image.repository, imageId={"imageDigest": digest}
        )
    except gate.ecr.exceptions.ImageNotFoundException:
        return _refuse(image, "approved, but not in the repository", gate)
    except gate.ecr.exceptions.ScanNotFoundException:
        return {"promoted": False, "why": "approved, and not scanned yet"}
    counts = scan.get("imageScanFindings", {}).get("findingSeverityCounts", {})
    return _decide(image, scan["imageScanStatus"]["status"], counts, gate)


def _on_finding(event: Mapping[str, Any], gate: PromotionGate) -> dict[str, Any]:
    """Report a severe finding in the image that jobs use; others wait for their own scan."""
    detail = event["detail"]
    if detail["status"] != "ACTIVE" or detail["severity"] not in _blocking(gate):
        return {"promoted": False, "why": f"{detail['status']} {detail['severity']} finding"}
    for resource in detail["resources"]:
        found = resource.get("details", {}).get("awsEcrContainerImage")
        if not found:
            continue
        image = PushedImage(_registry(event), found["repositoryName"], found["imageHash"])
        if _promoted(gate, image) == image.uri:
            why = f"{detail['severity']} found in the image in use: {detail['title']}"
            return _refuse(image, why, gate)
    return {"promoted": False, "why": "the finding is in no image that jobs use"}


def _decide(
    image: PushedImage, state: str, counts: Mapping[str, int], gate: PromotionGate
) -> dict[str, Any]:
    """Promote a scanned image if everything allows it.

    Args:
        image: The image.
        state: State of its scan.
        counts: Number of its findings by severity.
        gate: Rules and clients.
    """
    if state in SCANNING:
        return {"promoted": False, "why": f"scan {state}"}
    current = _promoted(gate, image)
    where = ", in the image in use" if current == image.uri else ""
    if state not in SCANNED:
        return _refuse(image, f"scan {state}{where}", gate)
    blocking = {level: counts[level] for level in _blocking(gate) if counts.get(level)}
    if blocking:
        return _refuse(image, f"scan {state}, findings {blocking}{where}", gate)
    pushed = _describe(gate, image)
    if pushed is None or not pushed.get("imageTags"):
        return {"promoted": False, "why": "deleted" if pushed is None else "untagged"}
    if current == image.uri:
        return {"promoted": True, "image": image.uri}
    if gate.approver_role:
        why = _why_not_approved(image, pushed["imageTags"], gate)
        if why is not None:
            return why
    elif _is_older(pushed, current, image, gate):
        return {"promoted": False, "why": f"older than the image in use, {current}"}
    kind = image.repository.rpartition("/")[2]
    gate.ssm.put_parameter(
        Name=f"/{gate.prefix}/images/{kind}/uri", Value=image.uri, Type="String", Overwrite=True
    )
    _report(image, "Temper Image", {"status": "promoted"}, gate)
    return {"promoted": True, "image": image.uri}


def _is_older(
    pushed: Mapping[str, Any], current: str | None, image: PushedImage, gate: PromotionGate
) -> bool:
    """Return whether an image was pushed before the one in use.

    An older image is scanned again on request, and by Amazon Inspector when a vulnerability
    becomes known.
    """
    if current is None or not current.startswith(f"{image.registry}/{image.repository}@"):
        return False
    in_use = _describe(
        gate, PushedImage(image.registry, image.repository, current.rpartition("@")[2])
    )
    return in_use is not None and bool(in_use["imagePushedAt"] > pushed["imagePushedAt"])


def _why_not_approved(
    image: PushedImage, tags: list[str], gate: PromotionGate
) -> dict[str, Any] | None:
    """Return the answer for an image that lacks a valid approval, or None if it has one.

    Parameter Store records the identity that wrote a parameter, and CodeBuild the one that
    started a build, so neither can be forged by whoever approves.
    """
    kind = image.repository.rpartition("/")[2]
    approval = _approval(gate, kind)
    if approval is None or approval[0] != image.digest:
        reason = f"waiting for an approval: temper approve-image {kind} {image.digest}"
        _report(image, "Temper Image", {"status": "waiting for approval", "reason": reason}, gate)
        return {"promoted": False, "why": "waiting for approval"}
    approver = approval[1]
    if f":assumed-role/{gate.approver_role}/" not in approver:
        return _refuse(image, f"approved by {approver}, not by {gate.approver_role}", gate)
    builders = sorted(_builders(gate, kind, tags))
    if not builders:
        return _refuse(image, f"no build of {gate.project or 'a project'} pushed it", gate)
    if any(_session(builder) == _session(approver) for builder in builders):
        return _refuse(image, f"built and approved by {_session(approver)}", gate)
    return None


def _session(identity: str) -> str:
    """Return the user or session of an ARN, or of the initiator of a build, in lower case."""
    return identity.rpartition("/")[2].lower()


def _approval(gate: PromotionGate, kind: str) -> tuple[str, str] | None:
    """Return the approved digest and the ARN of the identity that wrote it, or None."""
    pages = gate.ssm.get_paginator("get_parameter_history").paginate(
        Name=f"/{gate.prefix}/images/{kind}/approved"
    )
    try:
        history = [version for page in pages for version in page["Parameters"]]
    except gate.ssm.exceptions.ParameterNotFound:
        return None
    if not history:
        return None
    newest = max(history, key=lambda version: version["Version"])
    return newest["Value"], newest["LastModifiedUser"]


def _builders(gate: PromotionGate, kind: str, tags: list[str]) -> Iterator[str]:
    """Yield who started the builds that push one of these tags."""
    if not gate.project:
        return
    pages = gate.codebuild.get_paginator("list_builds_for_project").paginate(
        projectName=gate.project,
        sortOrder="DESCENDING",
        PaginationConfig={"MaxItems": MOST_BUILDS},
    )
    for page in pages:
        if not page["ids"]:
            return
        for build in gate.codebuild.batch_get_builds(ids=page["ids"])["builds"]:
            variables = {
                variable["name"]: variable["value"]
                for variable in build["environment"]["environmentVariables"]
            }
            tag = f"{variables.get('VERSION')}-{variables.get('COMMIT', '')[:12]}"
            if variables.get("KIND") == kind and tag in tags:
                yield build["initiator"]


def _promoted(gate: PromotionGate, image: PushedImage) -> str | None:
    """Return the image in use of the same kind, or None if there is none yet."""
    kind = image.repository.rpartition("/")[2]
    try:
        answer = gate.ssm.get_parameter(Name=f"/{gate.prefix}/images/{kind}/uri")
    except gate.ssm.exceptions.ParameterNotFound:
        return None
    return str(answer["Parameter"]["Value"])


def _describe(gate: PromotionGate, image: PushedImage) -> dict[str, Any] | None:
    """Return what the registry knows of an image, or None if it was deleted."""
    try:
        answer = gate.ecr.describe_images(
            repositoryName=image.repository, imageIds=[{"imageDigest": image.digest}]
        )
    except gate.ecr.exceptions.ImageNotFoundException:
        return None
    details: dict[str, Any] = answer["imageDetails"][0]
    return details


def _blocking(gate: PromotionGate) -> tuple[str, ...]:
    return BLOCKING_SEVERITIES[gate.refuse_from]


def _registry(event: Mapping[str, Any]) -> str:
    suffix = "amazonaws.com.cn" if event["region"].startswith("cn-") else "amazonaws.com"
    return f"{event['account']}.dkr.ecr.{event['region']}.{suffix}"


def _refuse(image: PushedImage, why: str, gate: PromotionGate) -> dict[str, Any]:
    fault = {"fault": "image-scan-findings", "reason": why}
    _report(image, "Temper Fault", fault, gate)
    return {"promoted": False, "why": why}


def _report(image: PushedImage, kind: str, detail: Mapping[str, str], gate: PromotionGate) -> None:
    """Put an event about an image.

    Raises:
        RuntimeError: EventBridge did not accept it, so that Lambda retries.
    """
    entry = {
        "Source": gate.source,
        "DetailType": kind,
        "Detail": json.dumps({"image": image.uri, **detail}),
    }
    if gate.events.put_events(Entries=[entry])["FailedEntryCount"]:
        raise RuntimeError(f"{image.uri}: EventBridge did not accept the event {detail}")

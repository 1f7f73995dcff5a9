"""Emulated account in which images are built, scanned and promoted, for tests.

moto keeps S3, ECR and Parameter Store. Its CodeBuild neither runs builds nor keeps their variables,
and its ECR scans at once, so both are driven here; every request still passes boto3's validation.
When a scan ends, the platform's own function gets the event that AWS documents for it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from moto.codebuild import codebuild_backends
from moto.ecr import ecr_backends
from moto.logs import logs_backends
from moto.s3 import s3_backends
from moto.ssm import ssm_backends

from launch.aws.session import AwsSession
from launch.images.gate import GateTimings
from launch.images.publish import ImagePublisher
from launch.images.source import ImageSource, read_source
from stacks.handlers.promote_image import PromotionGate, promote
from tests.infra.handlers.emulated_images import PROJECT, create_build_project, put_image
from tests.infra.handlers.image_events import ACCOUNT, basic_scan, enhanced_scan
from tests.unit.launch.fake_accounts import DEV, VALUES

# A Region of its own: the emulated account of the other tests is in the same process.
ENVIRONMENT = dataclasses.replace(DEV, region="eu-west-2")
REPOSITORY = f"{ACCOUNT}.dkr.ecr.{ENVIRONMENT.region}.amazonaws.com/temper-dev/gpu"
APPROVER_ROLE = "approvers"
BASIC = (["IN_PROGRESS", "COMPLETE"], basic_scan)
ENHANCED = (["PENDING", "ACTIVE"], enhanced_scan)
_PHASES = ("SUBMITTED", "QUEUED", "PROVISIONING", "DOWNLOAD_SOURCE", "BUILD", "COMPLETED")


class ImageAccount:
    """Account of the environment `dev`.

    Attributes:
        outcome: Status with which builds end.
        scan_states: States of a scan, one per request; the last one remains.
        event: Returns the event of the end of a scan; None if none is sent.
        counts: Findings of every scan.
        initiator: Identity that CodeBuild records for the next build.
        approver_role: Role whose approvals count; empty if none is required.
        lines: What was reported to the user.
        started: Requests to start a build.
        reported: Events of the platform's function.
    """

    def __init__(self, session: AwsSession):
        self.session = session
        self.outcome = "SUCCEEDED"
        self.scan_states, self.event = list(BASIC[0]), BASIC[1]
        self.counts: dict[str, int] = {"MEDIUM": 4}
        self.initiator, self.approver_role = "engineers/bob@example.com", ""
        self.lines: list[str] = []
        self.started: list[dict[str, Any]] = []
        self.reported: list[dict[str, Any]] = []
        self._deploy()
        self._drive()

    def client(self, service: str) -> Any:
        return self.session.client(service)

    def publish(self, source: ImageSource, **options: Any) -> str:
        return self.publisher().publish(source, **options)

    def publisher(self, **timings: float) -> ImagePublisher:
        chosen = GateTimings(**{"poll_s": 0.0, "promotion_s": 0.5, **timings})
        return ImagePublisher(self.session, "gpu", chosen, self.lines.append)

    def set_parameter(self, name: str, value: str) -> None:
        self.client("ssm").put_parameter(
            Name=f"/temper-dev/{name}", Value=value, Type="String", Overwrite=True
        )

    def parameter(self, name: str) -> str | None:
        ssm = self.client("ssm")
        try:
            return str(ssm.get_parameter(Name=f"/temper-dev/{name}")["Parameter"]["Value"])
        except ssm.exceptions.ParameterNotFound:
            return None

    def promote(self, event: dict[str, Any]) -> dict[str, Any]:
        """Give an event to the platform's function."""
        gate = PromotionGate(
            "temper-dev",
            "CRITICAL",
            PROJECT,
            self.approver_role,
            "temper.temper-dev",
            *(self.client(name) for name in ("ssm", "ecr", "codebuild", "events")),
        )
        text = json.dumps(event).replace(DEV.region, ENVIRONMENT.region)
        return promote(json.loads(text), gate)

    def remove(self) -> None:
        """Remove what was created, and nothing of the other tests."""
        for backends in (ssm_backends, ecr_backends, codebuild_backends, logs_backends):
            backends[ACCOUNT][ENVIRONMENT.region].reset()
        s3_backends[ACCOUNT]["aws"].buckets.pop(VALUES["buckets/runs"])
        s3_backends.bucket_accounts.pop(VALUES["buckets/runs"])
        start = "provide-client-params.codebuild.StartBuild"
        self.client("codebuild").meta.events.unregister(start, unique_id="start")
        put = "provide-client-params.events.PutEvents"
        self.client("events").meta.events.unregister(put, unique_id="reported")

    def push(self, tag: str) -> str:
        """Push an image, newer than all others, and return its digest."""
        put_image(self.client("ecr"), tag)
        images = ecr_backends[ACCOUNT][ENVIRONMENT.region].repositories["temper-dev/gpu"].images
        images[-1].image_pushed_at = 1_700_000_000 + 60 * len(images)
        return images[-1].get_image_digest()

    def _deploy(self) -> None:
        values = {name: value for name, value in VALUES.items() if not name.startswith("images/")}
        images = {
            "images/gpu/repository": REPOSITORY,
            "images/build-project": PROJECT,
            "images/build-compute": "large",
            "images/approval": "none",
            "images/refuse-findings-from": "CRITICAL",
        }
        for name, value in {**values, **images}.items():
            self.set_parameter(name, value)
        bucket = VALUES["buckets/runs"]
        self.client("s3").create_bucket(
            Bucket=bucket,
            CreateBucketConfiguration={"LocationConstraint": ENVIRONMENT.region},
        )
        self.client("s3").put_bucket_versioning(
            Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
        )
        self.client("ecr").create_repository(repositoryName="temper-dev/gpu")
        self.client("logs").create_log_group(logGroupName="/temper/temper-dev/image-build")
        self.client("logs").create_log_stream(
            logGroupName="/temper/temper-dev/image-build", logStreamName="one"
        )
        create_build_project(self.client("codebuild"), bucket)

    def _drive(self) -> None:
        builds = codebuild_backends[ACCOUNT][ENVIRONMENT.region]
        registry = ecr_backends[ACCOUNT][ENVIRONMENT.region]
        plain_start, events = builds.start_build, self.client("codebuild").meta.events

        def remember(params: dict[str, Any], **_: Any) -> None:
            self.started.append(params)

        def start(*arguments: Any, **named: Any) -> dict[str, Any]:
            build: dict[str, Any] = plain_start(*arguments, **named)
            build["phases"] = []
            build["initiator"] = self.initiator
            build["environment"]["environmentVariables"] = self.started[-1][
                "environmentVariablesOverride"
            ]
            group = "/temper/temper-dev/image-build"
            build["logs"] = {**build["logs"], "groupName": group, "streamName": "one"}
            return build

        events.register("provide-client-params.codebuild.StartBuild", remember, unique_id="start")
        # `remove` discards the backends, with these attributes.
        vars(builds).update(start_build=start, batch_get_builds=self._advance)
        vars(registry)["describe_image_scan_findings"] = self._scan
        bus = self.client("events").meta.events
        bus.register(
            "provide-client-params.events.PutEvents",
            lambda params, **_: self.reported.extend(params["Entries"]),
            unique_id="reported",
        )

    def _advance(self, ids: list[str]) -> list[dict[str, Any]]:
        """Let one phase of each build pass per request."""
        history = codebuild_backends[ACCOUNT][ENVIRONMENT.region].build_metadata_history[PROJECT]
        builds = [build for build in history if build["id"] in ids]
        for build in builds:
            if build["buildStatus"] != "IN_PROGRESS":
                continue
            phase = _PHASES[len(build["phases"])]
            failed = phase == "BUILD" and self.outcome != "SUCCEEDED"
            last = failed or phase == _PHASES[-1]
            contexts = [{"message": "make image: exit status 2"}] if failed else []
            build["phases"].append(
                {
                    "phaseType": phase,
                    "phaseStatus": "FAILED" if failed else "SUCCEEDED",
                    "durationInSeconds": 3,
                    "contexts": contexts,
                }
            )
            if last:
                build["buildStatus"] = self.outcome
                build["endTime"] = datetime.now(UTC).isoformat()
            if last and not failed:
                values = {
                    v["name"]: v["value"] for v in build["environment"]["environmentVariables"]
                }
                self.push(f"{values['VERSION']}-{values['COMMIT'][:12]}")
        return builds

    def _scan(
        self, registry_id: str, repository_name: str, image_id: dict[str, str]
    ) -> dict[str, Any]:
        """Let one state of the scan pass per request, and send the event of its end."""
        state = self.scan_states.pop(0) if len(self.scan_states) > 1 else self.scan_states[0]
        if len(self.scan_states) == 1 and self.event is not None:
            event, self.event = self.event, None
            status = {} if event is enhanced_scan else {"status": self.scan_states[0]}
            self.promote(event(image_id["imageDigest"], **status, **self.counts))
        return {
            "registryId": ACCOUNT,
            "repositoryName": repository_name,
            "imageId": image_id,
            "imageScanStatus": {"status": state, "description": "why"},
            "imageScanFindings": {"findingSeverityCounts": self.counts},
        }


def make_source(folder: Path, git: Callable[..., None]) -> ImageSource:
    """Return the source of a checkout with one commit."""
    folder.mkdir()
    (folder / "containers").mkdir()
    (folder / "containers" / "build.sh").write_text("#!/bin/sh\n")
    git(folder, "init", "--quiet")
    git(folder, "add", "-A")
    git(folder, "commit", "--quiet", "-m", "one")
    return read_source(folder, "1.2.3")

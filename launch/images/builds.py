"""Builds of images in CodeBuild: start one, attach to one, follow it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from launch.aws.session import explain_aws_errors
from launch.errors import LaunchError
from launch.images.source import ImageSource

TIMEOUT_MINUTES = 120
"""Timeout of the build project (`stacks/constructs/image_build.py`)."""
# Linux on-demand, us-east-1, as of 2026-05: https://c3x.dev/resources/aws/aws_codebuild_project/,
# which agrees with https://hivebook.wiki/wiki/aws-codebuild-managed-build-service
USD_PER_MINUTE = {"small": 0.005, "medium": 0.01, "large": 0.02}
PRICE_PAGE = "https://aws.amazon.com/codebuild/pricing"
_LAST_LINES = 30


@dataclass(frozen=True)
class Build:
    """Build of an image, as CodeBuild describes it."""

    description: Mapping[str, Any]

    @property
    def id(self) -> str:
        """Id of the build."""
        return str(self.description["id"])

    @property
    def status(self) -> str:
        """Status: IN_PROGRESS, SUCCEEDED, FAILED, FAULT, TIMED_OUT or STOPPED."""
        return str(self.description["buildStatus"])

    @property
    def initiator(self) -> str:
        """Identity that started the build."""
        return str(self.description.get("initiator", "unknown"))

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables that were given to the build."""
        variables = self.description.get("environment", {}).get("environmentVariables", ())
        return {variable["name"]: variable["value"] for variable in variables}

    @property
    def minutes(self) -> float | None:
        """Duration in minutes; None while the build is in progress."""
        start, end = self.description.get("startTime"), self.description.get("endTime")
        return (end - start).total_seconds() / 60 if start and end else None

    def is_of(self, kind: str, tag: str) -> bool:
        """Return whether the build makes this image."""
        variables = self.variables
        made = f"{variables.get('VERSION')}-{variables.get('COMMIT', '')[:12]}"
        return variables.get("KIND") == kind and made == tag

    @property
    def reason(self) -> str:
        """Message of the phase that failed, empty if none did."""
        failed = [
            context.get("message", "")
            for phase in self.description.get("phases", ())
            if phase.get("phaseStatus") not in (None, "SUCCEEDED")
            for context in phase.get("contexts", ())
        ]
        return "; ".join(message for message in failed if message)


class ImageBuilds:
    """Builds of the project of one environment.

    Args:
        codebuild: boto3 client of `codebuild`.
        logs: boto3 client of `logs`.
        project: Name of the build project.
    """

    def __init__(self, codebuild: Any, logs: Any, project: str):
        self._codebuild, self._logs = codebuild, logs
        self.project = project

    def recent(self) -> list[Build]:
        """Return the last hundred builds, newest first."""
        with explain_aws_errors(f"listing the builds of {self.project}"):
            ids = self._codebuild.list_builds_for_project(
                projectName=self.project, sortOrder="DESCENDING"
            )["ids"]
            if not ids:
                return []
            builds = self._codebuild.batch_get_builds(ids=ids)["builds"]
        position = {id_: index for index, id_ in enumerate(ids)}
        return [Build(build) for build in sorted(builds, key=lambda b: position[b["id"]])]

    def start(self, kind: str, source: ImageSource, object_version: str) -> Build:
        """Start a build.

        Args:
            kind: Kind of image.
            source: Commit and version to build.
            object_version: Version of the uploaded source object.
        """
        variables = {"KIND": kind, "VERSION": source.version, "COMMIT": source.commit}
        with explain_aws_errors(f"starting a build of {self.project}"):
            answer = self._codebuild.start_build(
                projectName=self.project,
                sourceVersion=object_version,
                environmentVariablesOverride=[
                    {"name": name, "value": value, "type": "PLAINTEXT"}
                    for name, value in variables.items()
                ],
                # A repeated request, after a lost reply, starts no second build.
                idempotencyToken=f"{kind}-{source.commit[:12]}-{object_version}"[:64],
            )
        return Build(answer["build"])

    def follow(self, build: Build, report: Callable[[str], None], poll_interval_s: float) -> Build:
        """Report each phase of a build until it ends, and return the ended build.

        Args:
            build: The build.
            report: Called with one line per phase.
            poll_interval_s: Seconds between two requests.

        Raises:
            LaunchError: The build failed; the message has the end of its log.
        """
        reported = 0
        while True:
            with explain_aws_errors(f"reading the build {build.id}"):
                answer = self._codebuild.batch_get_builds(ids=[build.id])
            build = Build(answer["builds"][0])
            phases = [p for p in build.description.get("phases", ()) if p.get("phaseStatus")]
            for phase in phases[reported:]:
                report(_phase_line(phase))
            reported = len(phases)
            if build.status != "IN_PROGRESS":
                break
            time.sleep(poll_interval_s)
        if build.status != "SUCCEEDED":
            log = build.description.get("logs", {})
            reason = f": {build.reason}" if build.reason else ""
            ended = (
                f"the build {build.id} ended as {build.status}{reason}. Its log is the stream "
                f"{log.get('streamName')} of {log.get('groupName')}; run the same command to build "
                "again"
            )
            raise LaunchError("\n".join([*self.last_lines(build), ended]))
        return build

    def last_lines(self, build: Build) -> Iterator[str]:
        """Yield the last lines of a build's log; nothing if it has none yet."""
        log = build.description.get("logs", {})
        if not (log.get("groupName") and log.get("streamName")):
            return
        with explain_aws_errors(
            f"reading the log of {build.id}", ignore=("ResourceNotFoundException",)
        ):
            answer = self._logs.get_log_events(
                logGroupName=log["groupName"],
                logStreamName=log["streamName"],
                limit=_LAST_LINES,
                startFromHead=False,
            )
            for event in answer["events"]:
                yield f"  {event['message'].rstrip()}"


def cost_statement(builds: list[Build], kind: str, compute: str) -> str:
    """Return what a build costs at most, and what the last one of its kind cost.

    Args:
        builds: Builds of the project, newest first.
        kind: Kind of image.
        compute: Compute size of the project, as in `images.build_compute`.
    """
    price = USD_PER_MINUTE.get(compute)
    if price is None:
        return (
            f"CodeBuild bills at most {TIMEOUT_MINUTES} minutes of size {compute}, whose price "
            f"is not in Temper's table: {PRICE_PAGE}"
        )
    most = f"at most {TIMEOUT_MINUTES} min of CodeBuild = ${price * TIMEOUT_MINUTES:.2f}"
    last = next(
        (
            build.minutes
            for build in builds
            if build.variables.get("KIND") == kind and build.status == "SUCCEEDED"
        ),
        None,
    )
    if last is None:
        return f"{most} ({compute}, us-east-1)"
    return f"{most} ({compute}, us-east-1); the last one took {last:.0f} min = ${price * last:.2f}"


def _phase_line(phase: Mapping[str, Any]) -> str:
    seconds = phase.get("durationInSeconds")
    duration = f" in {seconds} s" if seconds else ""
    return f"build: {phase['phaseType']} {phase['phaseStatus']}{duration}"

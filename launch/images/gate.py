"""Wait for the scan and the promotion of an image."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from catalog.exit_codes import SAFETY_GATE
from launch.aws.session import explain_aws_errors
from launch.environment import LaunchEnvironment
from launch.errors import LaunchError
from launch.images.registry import (
    SCANNED,
    SCANNING,
    EcrRepository,
    RegistryImage,
    ScanResult,
    count_findings,
)


class ImageRefusedError(LaunchError):
    """An image has findings of a severity that the environment refuses."""

    exit_code = SAFETY_GATE


class ApprovalNeededError(LaunchError):
    """An image waits for its approval by another person."""


@dataclass(frozen=True)
class GateTimings:
    """Periods of waiting, in seconds.

    Attributes:
        poll_s: Seconds between two requests.
        scan_start_s: Time after which a scan that has not started will not start.
        scan_s: Time that a scan may take.
        promotion_s: Time that the promotion may take after the scan.
    """

    poll_s: float = 5.0
    scan_start_s: float = 900.0
    scan_s: float = 3600.0
    promotion_s: float = 300.0


class ImageGate:
    """Gate between a pushed image and the jobs of an environment.

    Args:
        environment: The environment.
        ssm: boto3 client of `ssm`.
        repository: Repository of the image.
        kind: Kind of the image.
        timings: Periods of waiting.
        report: Called with one line per change of state.
    """

    def __init__(
        self,
        environment: LaunchEnvironment,
        ssm: Any,
        repository: EcrRepository,
        kind: str,
        timings: GateTimings,
        report: Callable[[str], None],
    ):
        self.environment, self.repository, self.kind = environment, repository, kind
        self._ssm, self._timings, self._report = ssm, timings, report

    @property
    def policy(self) -> str:
        """Lowest severity that blocks an image."""
        return self._parameter("refuse-findings-from") or self.environment.refuse_findings_from

    @property
    def needs_approval(self) -> bool:
        """True if jobs use an image only after its approval."""
        return self._parameter("approval") == "required"

    @property
    def approved(self) -> str | None:
        """Digest that was approved last, or None."""
        return self._parameter(f"{self.kind}/approved")

    @property
    def promoted(self) -> str | None:
        """Address of the image that jobs use, or None."""
        return self._parameter(f"{self.kind}/uri")

    def approve(self, digest: str) -> None:
        """Write the approval of an image."""
        name = f"/{self.environment.prefix}/images/{self.kind}/approved"
        with explain_aws_errors(f"writing {name}"):
            self._ssm.put_parameter(Name=name, Value=digest, Type="String", Overwrite=True)

    def await_scan(self, image: RegistryImage) -> ScanResult:
        """Wait until the scan of an image has a result, and return it.

        Raises:
            LaunchError: There is no scan, it failed, or it takes too long.
            ImageRefusedError: It found something that the environment refuses.
        """
        start, last = time.monotonic(), None
        while True:
            scan = self.repository.scan(image.digest)
            if scan.state != last:
                self._report(f"scan: {scan.state or 'not started yet'}")
                last = scan.state
            if scan.state and scan.state not in SCANNING:
                break
            waited_s = time.monotonic() - start
            if waited_s > (self._timings.scan_s if scan.state else self._timings.scan_start_s):
                raise LaunchError(self._why_no_scan(scan, waited_s))
            time.sleep(self._timings.poll_s)
        self.require_good(scan, image)
        return scan

    def require_good(self, scan: ScanResult, image: RegistryImage) -> None:
        """Raise unless the scan of an image finished without findings that block it.

        Raises:
            LaunchError: The scan failed, or ECR cannot scan the image.
            ImageRefusedError: It found something that the environment refuses.
        """
        link = self.repository.link(image.digest)
        if scan.state not in SCANNED:
            why = f" ({scan.description})" if scan.description else ""
            raise LaunchError(f"the scan of the image is {scan.state or 'missing'}{why}: {link}")
        if blocking := scan.blocking(self.policy):
            raise ImageRefusedError(
                f"the scan found {blocking}; the environment {self.environment.name} refuses "
                f"{self.policy} findings: {link}"
            )
        self._report(f"findings: {count_findings(scan.counts) or 'none'}; {link}")

    def await_promotion(self, image: RegistryImage) -> str:
        """Wait until jobs use an image, and return its address.

        Raises:
            ApprovalNeededError: The image waits for its approval.
            LaunchError: A newer image is in use, or the image was not promoted in time.
        """
        uri, start = f"{self.repository.uri}@{image.digest}", time.monotonic()
        while self.promoted != uri:
            if self.needs_approval and self.approved != image.digest:
                raise ApprovalNeededError(
                    "waiting for approval: a person with the image approver role (its ARN is the "
                    "parameter roles/image-approver) who did not build it runs\n  temper "
                    f"approve-image {self.kind} {image.digest} --env {self.environment.name}"
                )
            self._require_newest(image)
            if time.monotonic() - start > self._timings.promotion_s:
                raise LaunchError(
                    f"the image was not promoted within {self._timings.promotion_s:.0f} s of its "
                    "scan. The reason is in the log group "
                    f"/temper/{self.environment.prefix}/promote-image and on the events topic; "
                    "run the same command to look again"
                )
            time.sleep(self._timings.poll_s)
        self._report(f"promoted: jobs of {self.environment.name} use {uri}")
        return uri

    def _require_newest(self, image: RegistryImage) -> None:
        current = self.promoted
        if self.needs_approval or not current or not current.startswith(self.repository.uri + "@"):
            return
        in_use = self.repository.find(current.rpartition("@")[2])
        if in_use and in_use.pushed_at > image.pushed_at:
            raise LaunchError(
                f"a newer image is in use: {', '.join(in_use.tags)}, pushed {in_use.pushed_at}. "
                "An older one does not replace it; publish a newer commit"
            )

    def _why_no_scan(self, scan: ScanResult, waited_s: float) -> str:
        region = self.environment.region
        if scan.state:
            return (
                f"the scan is {scan.state} after {waited_s / 60:.0f} minutes; run the same command "
                "to look again"
            )
        return (
            f"no scan started within {waited_s / 60:.0f} minutes. The filters of the registry must "
            f"include {self.repository.name}: aws ecr get-registry-scanning-configuration "
            f"--region {region}"
        )

    def _parameter(self, name: str) -> str | None:
        full = f"/{self.environment.prefix}/images/{name}"
        with explain_aws_errors(f"reading {full}", ignore=("ParameterNotFound",)):
            return str(self._ssm.get_parameter(Name=full)["Parameter"]["Value"])
        return None

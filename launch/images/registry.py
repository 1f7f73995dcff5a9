"""Images of one kind in the registry of the account: digests, scans, links."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from launch.aws.session import explain_aws_errors

BLOCKING_SEVERITIES = {"CRITICAL": ("CRITICAL",), "HIGH": ("CRITICAL", "HIGH")}
"""Severities that block an image, by the setting `images.refuse_findings_from`."""
SEVERITIES = ("CRITICAL", "HIGH", "MEDIUM", "LOW", "INFORMATIONAL", "UNDEFINED", "UNTRIAGED")
# https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ImageScanStatus.html
SCANNED = ("COMPLETE", "ACTIVE")
"""States of a finished scan: of basic scanning, and of enhanced scanning, which never ends."""
SCANNING = ("IN_PROGRESS", "PENDING")
_NO_IMAGE = ("ImageNotFoundException", "RepositoryNotFoundException")


@dataclass(frozen=True)
class RegistryImage:
    """Image in a repository.

    Attributes:
        digest: Digest of its manifest.
        tags: Its tags.
        pushed_at: Time at which it was pushed.
    """

    digest: str
    tags: tuple[str, ...]
    pushed_at: datetime


@dataclass(frozen=True)
class ScanResult:
    """State and findings of the vulnerability scan of an image.

    Attributes:
        state: State, as ECR names it; empty if there is no scan.
        description: Reason that ECR gives for the state.
        counts: Number of findings by severity.
    """

    state: str
    description: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)

    def blocking(self, policy: str) -> str:
        """Return the findings that the policy refuses as text, empty if there are none."""
        severities = BLOCKING_SEVERITIES.get(policy, BLOCKING_SEVERITIES["HIGH"])
        return count_findings(self.counts, severities)


class EcrRepository:
    """Repository of the images of one kind.

    Args:
        ecr: boto3 client of `ecr`.
        uri: Address of the repository, without a tag.
    """

    def __init__(self, ecr: Any, uri: str):
        self._ecr = ecr
        self.uri = uri
        self.name = uri.partition("/")[2]

    def find(self, tag_or_digest: str) -> RegistryImage | None:
        """Return the image with a tag or digest, or None."""
        key = "imageDigest" if tag_or_digest.startswith("sha256:") else "imageTag"
        with explain_aws_errors(f"looking for {self.name}:{tag_or_digest}", ignore=_NO_IMAGE):
            answer = self._ecr.describe_images(
                repositoryName=self.name, imageIds=[{key: tag_or_digest}]
            )
            return _image(answer["imageDetails"][0])
        return None

    def newest(self) -> RegistryImage | None:
        """Return the tagged image that was pushed last, or None."""
        with explain_aws_errors(f"listing the images of {self.name}"):
            pages = self._ecr.get_paginator("describe_images").paginate(
                repositoryName=self.name, filter={"tagStatus": "TAGGED"}
            )
            images = [_image(detail) for page in pages for detail in page["imageDetails"]]
        return max(images, key=lambda image: image.pushed_at, default=None)

    def scan(self, digest: str) -> ScanResult:
        """Return the scan of an image.

        DescribeImageScanFindings is asked, because DescribeImages no longer reports scans of the
        current basic scanning:
        https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ImageDetail.html
        """
        with explain_aws_errors(
            f"reading the scan of {self.name}@{digest[:19]}", ignore=("ScanNotFoundException",)
        ):
            answer = self._ecr.describe_image_scan_findings(
                repositoryName=self.name, imageId={"imageDigest": digest}, maxResults=1
            )
            status = answer.get("imageScanStatus", {})
            return ScanResult(
                status.get("status", "UNKNOWN"),
                status.get("description", ""),
                answer.get("imageScanFindings", {}).get("findingSeverityCounts", {}),
            )
        return ScanResult("")

    def link(self, digest: str) -> str:
        """Return the address of the image, with its findings, in the AWS console."""
        account, region = self.uri.split(".")[0], self.uri.split(".")[3]
        return (
            f"https://{region}.console.aws.amazon.com/ecr/repositories/private/{account}/"
            f"{self.name}/_/image/{digest}/details?region={region}"
        )


def count_findings(counts: Mapping[str, int], severities: Collection[str] = SEVERITIES) -> str:
    """Return the numbers of findings as text, empty if there are none of these severities."""
    return ", ".join(
        f"{counts[level]} {level.lower()}" for level in severities if counts.get(level)
    )


def _image(detail: Mapping[str, Any]) -> RegistryImage:
    return RegistryImage(
        detail["imageDigest"], tuple(detail.get("imageTags", ())), detail["imagePushedAt"]
    )

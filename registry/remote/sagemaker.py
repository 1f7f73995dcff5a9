"""SageMaker Model Registry: a version is a package in the environment's model package group.

One group holds all models: it exists with the platform, its resource policy names the accounts that
read it, and no role needs the right to create groups. Name and semantic version are in the metadata
of the package, and begin its description.

boto3 sends the requests. The typed `ModelPackage` of the SageMaker SDK has all their members
(sagemaker-core 2.27), but needs protobuf below 7, which the rest of this project does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from launch.aws.platform_parameters import PlatformParameters, read_platform_parameters
from launch.aws.session import DENIED, AwsSession, explain_aws_errors
from launch.environment import read_environment
from launch.errors import LaunchError
from registry.errors import RegistryError
from registry.record import ModelRecord, StageChange
from registry.remote.base import RemoteVersion, digest_differences
from registry.remote.lineage import lineage_entities, write_lineage
from registry.remote.model_package import PackageFiles, create_request
from registry.remote.package_metadata import (
    checksums_of,
    recorded_change,
    remote_version,
    update_request,
)
from registry.remote.s3_files import S3Files
from registry.remote.version_files import check_folders, check_version, upload_version
from registry.store import LocalRegistry
from training.console import say


def connect(environment: str | None) -> SageMakerRegistry:
    """Return the registry of an environment of the platform.

    Raises:
        RegistryError: No environment is named, or it has no model package group.
        LaunchError: It is not deployed, or the credentials are of another account.
    """
    if environment is None:
        raise RegistryError("name the environment of the SageMaker registry: --env dev")
    session = AwsSession(read_environment(environment))
    session.caller()
    platform = read_platform_parameters(session.environment, session.client("ssm"))
    return SageMakerRegistry(platform, session.client("sagemaker"), session.client("s3"))


class SageMakerRegistry:
    """Model package group of an environment.

    Args:
        platform: Parameters of the environment.
        client: boto3 client of `sagemaker`.
        s3: boto3 client of `s3`.

    Raises:
        RegistryError: The environment has no model package group.
    """

    one_per_stage = False

    def __init__(self, platform: PlatformParameters, client: Any, s3: Any):
        self.environment = platform.environment.name
        self.title = f"SageMaker ({self.environment})"
        group = platform.get("training/model-package-group")
        if group is None:
            raise RegistryError(
                f"the environment {platform.environment.name} has no model package group. Deploy "
                f"it again: make deploy ENV={platform.environment.name}"
            )
        self._group = group.rpartition("/")[2]
        self._platform = platform
        self._client = client
        self._files = S3Files(s3, platform["buckets/models"], platform["keys/models"])

    def push(self, record: ModelRecord, store: LocalRegistry) -> RemoteVersion:
        """Upload the files of a version and create its package; an existing one is returned.

        Args:
            record: The version.
            store: Registry that has its files.

        Raises:
            RegistryError: The version exists with other files, or a file was changed.
            LaunchError: AWS refused, or the environment has no image.
        """
        image = self._platform.image("gpu")
        existing = self._find(record)
        if existing is not None:
            self._refuse_other_files(record, existing)
        files = upload_version(self._files, record, store)
        if existing is not None:
            self._record_lineage(record, existing)
            return _version_of(existing)
        request = create_request(record, PackageFiles(self._group, image, files))
        with explain_aws_errors(f"registering {record.id} in {self.title}"):
            self._client.create_model_package(**request)
        created = self._find(record)
        if created is None:
            raise RegistryError(f"{record.id} was registered in {self.title}, but is not listed")
        # Another push may have been first: the service numbers the packages.
        self._refuse_other_files(record, created)
        self._record_lineage(record, created)
        return _version_of(created)

    def _record_lineage(self, record: ModelRecord, package: Mapping[str, Any]) -> None:
        """Record what a version was made of; a version without it is registered all the same."""
        try:
            write_lineage(self._client, lineage_entities(record, package["ModelPackageArn"]))
        except LaunchError as error:
            say(f"{record.id} is registered without its lineage: {error}")

    def versions(self, name: str | None = None) -> list[RemoteVersion]:
        """Return all versions that were pushed, or those of a name, oldest version first."""
        found: dict[str, RemoteVersion] = {}
        for summary in self._summaries():
            words = str(summary.get("ModelPackageDescription", "")).split(" ", 1)
            if name is None or words[0].partition("@")[0] == name:
                version = remote_version(self._describe(summary["ModelPackageArn"]))
                if version is not None and (name is None or version.name == name):
                    found.setdefault(version.id, version)
        return sorted(found.values(), key=lambda version: (version.name, version.version))

    def set_stage(self, record: ModelRecord, transition: StageChange) -> RemoteVersion:
        """Change the approval of a version's package: production approves it, archived rejects it.

        Args:
            record: The version.
            transition: The change.

        Raises:
            RegistryError: The version was not pushed, its files in S3 were changed, or the caller
                may not approve.
            LaunchError: AWS refused.
        """
        package = self._find(record)
        if package is None:
            raise RegistryError(
                f"{record.id} is not in {self.title}. Push it: temper push-model {record.id} "
                f"--to sagemaker --env {self._platform.environment.name}"
            )
        self._refuse_other_files(record, package)
        version, recorded = _version_of(package), recorded_change(package)
        same = (recorded.stage, recorded.time) == (transition.stage, transition.time)
        if same and version.stage == transition.stage:
            return version
        if transition.stage == "production":
            check_version(self._files, record, checksums_of(package))
        action = f"changing {record.id} in {self.title} to {transition.stage}"
        with explain_aws_errors(action, ignore=DENIED):
            self._client.update_model_package(**update_request(package, transition))
            return _version_of(self._describe(version.address))
        prefix = self._platform.environment.prefix
        raise RegistryError(
            f"{action}: not allowed. With training.model_approval: required, only the role in the "
            f"parameter /{prefix}/roles/model-approver approves a version; others may reject one"
        )

    def check_files(self, version: RemoteVersion) -> None:
        """Raise if the files of a version in S3 are not those that were pushed.

        Raises:
            RegistryError: A file is missing, was changed or was added.
        """
        checksums = checksums_of(self._describe(version.address))
        check_folders(self._files, version.id, version.trees, checksums)

    def metadata(self, version: RemoteVersion) -> dict[str, str]:
        """Return the metadata of a version's package."""
        return dict(self._describe(version.address).get("CustomerMetadataProperties") or {})

    def _find(self, record: ModelRecord) -> Mapping[str, Any] | None:
        """Return the first package that holds a version, or None."""
        for summary in self._summaries():
            words = str(summary.get("ModelPackageDescription", "")).split(" ", 1)
            if words[0] == record.id:
                package = self._describe(summary["ModelPackageArn"])
                version = remote_version(package)
                if version is not None and version.id == record.id:
                    return package
        return None

    def _summaries(self) -> Iterator[Mapping[str, Any]]:
        """Yield the packages of the group, oldest first."""
        with explain_aws_errors(f"listing the versions in {self.title}"):
            pages = self._client.get_paginator("list_model_packages").paginate(
                ModelPackageGroupName=self._group, SortBy="CreationTime", SortOrder="Ascending"
            )
            summaries = [one for page in pages for one in page["ModelPackageSummaryList"]]
        yield from sorted(summaries, key=lambda one: int(one["ModelPackageVersion"]))

    def _describe(self, arn: str) -> Mapping[str, Any]:
        with explain_aws_errors(f"reading {arn}"):
            description: Mapping[str, Any] = self._client.describe_model_package(
                ModelPackageName=arn
            )
        return description

    def _refuse_other_files(self, record: ModelRecord, package: Mapping[str, Any]) -> None:
        """Raise if a package holds other files than the version of the same number.

        Raises:
            RegistryError: It does.
        """
        version = _version_of(package)
        if lines := digest_differences(record, version):
            raise RegistryError(
                "\n".join(
                    [
                        f"{record.id} exists in {self.title} with other files ({version.address}):",
                        *(f"  {line}" for line in lines),
                        "Register this model as another version: --version",
                    ]
                )
            )


def _version_of(package: Mapping[str, Any]) -> RemoteVersion:
    version = remote_version(package)
    if version is None:
        raise RegistryError(f"{package['ModelPackageArn']} has lost the metadata of its version")
    return version

"""SageMaker Model Registry: a version is a package in the environment's model package group.

One group holds all models: it exists with the platform, its resource policy names the accounts that
read it, and no role needs the right to create groups. Name and semantic version are in the metadata
of the package, and begin its description.

boto3 sends the requests. The typed `ModelPackage` of the SageMaker SDK has all their members
(sagemaker-core 2.27), but needs protobuf below 7, which the rest of this project does not.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from launch.aws.platform_parameters import PlatformParameters, read_platform_parameters
from launch.aws.session import DENIED, AwsSession, explain_aws_errors
from launch.environment import read_environment
from registry.blobs import blob_path
from registry.errors import RegistryError
from registry.record import ModelRecord, StageChange
from registry.remote.base import RemoteVersion, digest_differences, trees_of
from registry.remote.model_package import (
    PackageFiles,
    checksums_of,
    create_request,
    recorded_change,
    remote_version,
    update_request,
)
from registry.remote.s3_files import S3Files
from registry.store import LocalRegistry

_FOLDER = "registry/sha256"


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
        self.title = f"SageMaker ({platform.environment.name})"
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
        checksums = self._upload(record, store)
        if existing is not None:
            return _version_of(existing)
        metrics, metrics_sha256 = self._upload_metrics(record)
        files = PackageFiles(
            self._group,
            image,
            {form: self._address(f"{tree}/") for form, tree in trees_of(record).items()},
            metrics,
            metrics_sha256,
            _digest(checksums),
        )
        with explain_aws_errors(f"registering {record.id} in {self.title}"):
            self._client.create_model_package(**create_request(record, files))
        created = self._find(record)
        if created is None:
            raise RegistryError(f"{record.id} was registered in {self.title}, but is not listed")
        # Another push may have been first: the service numbers the packages.
        self._refuse_other_files(record, created)
        return _version_of(created)

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
            self._check_files(record, package)
        action = f"changing {record.id} in {self.title} to {transition.stage}"
        with explain_aws_errors(action, ignore=DENIED):
            self._client.update_model_package(**update_request(package, transition))
            return _version_of(self._describe(version.address))
        prefix = self._platform.environment.prefix
        raise RegistryError(
            f"{action}: not allowed. With training.model_approval: required, only the role in the "
            f"parameter /{prefix}/roles/model-approver approves a version; others may reject one"
        )

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

    def _upload(self, record: ModelRecord, store: LocalRegistry) -> dict[str, str]:
        """Upload the files of all forms, and return their checksums by key.

        Raises:
            RegistryError: A file is missing or was changed, here or in S3.
        """
        checksums = {}
        for form, tree in trees_of(record).items():
            for path, file in record.forms[form].items():
                key = f"{_FOLDER}/{tree}/{path}"
                local = blob_path(store.root, file.sha256)
                if not local.is_file():
                    raise RegistryError(f"{local} is missing. Register the run again")
                checksums[key] = self._files.put(local, key, file.sha256)
        return checksums

    def _upload_metrics(self, record: ModelRecord) -> tuple[str | None, str | None]:
        """Upload the results on all suites as one file; a package refers to one."""
        if not record.evaluations:
            return None, None
        text = json.dumps({"evaluations": record.evaluations}, indent=1, sort_keys=True)
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "evaluations.json"
            file.write_text(text)
            self._files.put(file, f"{_FOLDER}/{sha256}/evaluations.json", sha256)
        return self._address(f"{sha256}/evaluations.json"), sha256

    def _check_files(self, record: ModelRecord, package: Mapping[str, Any]) -> None:
        """Raise if a file in S3 is not the one that was pushed.

        Raises:
            RegistryError: A file is missing or was changed.
        """
        keys = [
            f"{_FOLDER}/{tree}/{path}"
            for form, tree in trees_of(record).items()
            for path in record.forms[form]
        ]
        checksums = {key: self._files.checksum(key) for key in keys}
        missing = [key for key, checksum in checksums.items() if checksum is None]
        if missing or _digest(checksums) != checksums_of(package):
            which = f"{', '.join(missing)} missing" if missing else "a file was changed"
            raise RegistryError(
                f"the files of {record.id} in {self._address('')} are not those that were pushed: "
                f"{which}. `temper push-model {record.id}` names it"
            )

    def _address(self, path: str) -> str:
        return f"s3://{self._files.bucket}/{_FOLDER}/{path}"


def _version_of(package: Mapping[str, Any]) -> RemoteVersion:
    version = remote_version(package)
    if version is None:
        raise RegistryError(f"{package['ModelPackageArn']} has lost the metadata of its version")
    return version


def _digest(checksums: Mapping[str, str | None]) -> str:
    text = "".join(f"{checksums[key]}  {key}\n" for key in sorted(checksums))
    return hashlib.sha256(text.encode()).hexdigest()

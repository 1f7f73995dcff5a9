"""An emulated account with a model package group, for tests of SageMaker's model registry.

moto 5.2.5 differs from the service in ways that the tests would notice: an update without an
approval erases it, and one without metadata erases that; `ClientToken` and `ModelLifeCycle` are
ignored. The first two and the token are mended here, after the API reference: members that are not
in an update stay, and a token makes a request idempotent.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from unittest.mock import patch

import boto3
from moto import mock_aws
from moto.sagemaker.models import ModelPackage, SageMakerModelBackend

from launch.aws.platform_parameters import PlatformParameters
from registry.remote.sagemaker import SageMakerRegistry
from tests.lineage_in_moto import lineage_in_moto
from tests.unit.launch.fake_accounts import DEV, VALUES

GROUP = "temper-dev-models"
BUCKET = VALUES["buckets/models"]


@cache
def _client(service: str) -> Any:
    """Return a client; moto also answers those that were made before it started."""
    return boto3.Session("test", "test", region_name="us-east-1").client(service)


@contextmanager
def emulated_registry() -> Iterator[SageMakerRegistry]:
    """Yield the registry of an empty group; its clients are `_client` and `_files.s3`."""
    approve, create = (
        ModelPackage.set_model_approval_status,
        SageMakerModelBackend.create_model_package,
    )
    update = SageMakerModelBackend.update_model_package
    tokens: dict[str, str] = {}

    def set_approval(self: Any, status: str | None) -> None:
        if status is not None:
            approve(self, status)

    def create_once(self: Any, **members: Any) -> str:
        token = members["client_token"]
        if token not in tokens:
            tokens[token] = create(self, **members)
        return tokens[token]

    def update_given(self: Any, **members: Any) -> str:
        package = self.model_packages[members["model_package_arn"]]
        old, new = package.customer_metadata_properties, members["customer_metadata_properties"]
        described = members["approval_description"] or package.approval_description
        members |= {"customer_metadata_properties": {**old, **(new or {})}}
        return str(update(self, **members | {"approval_description": described}))

    with (
        patch.object(ModelPackage, "set_model_approval_status", set_approval),
        patch.object(SageMakerModelBackend, "create_model_package", create_once),
        patch.object(SageMakerModelBackend, "update_model_package", update_given),
        lineage_in_moto(),
        mock_aws(),
    ):
        client, s3, kms, ssm = map(_client, ("sagemaker", "s3", "kms", "ssm"))
        client.create_model_package_group(ModelPackageGroupName=GROUP)
        s3.create_bucket(Bucket=BUCKET)
        key = kms.create_key()["KeyMetadata"]["Arn"]
        values = {**VALUES, "keys/models": key}
        for name, value in values.items():
            ssm.put_parameter(Name=f"/{DEV.prefix}/{name}", Value=value, Type="String")
        platform = PlatformParameters(DEV, values)
        yield SageMakerRegistry(platform, client, s3)

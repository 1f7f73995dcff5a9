"""Emulated operations on models: create, describe, list, delete.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateModel.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from emulator.aws_service import Handler
from emulator.hosting.context import HostingContext
from emulator.hosting.resources import ResourceTable, list_page
from emulator.request_validation import check_image, check_network, check_role, reject
from launch.aws.s3 import S3Uri

_NOT_EMULATED = ("MultiModelConfig", "ImageConfig", "AdditionalModelDataSources")
_APPROVED = "Approved"


@dataclass(frozen=True)
class EmulatedModel:
    """Model: image, place of its files, variables.

    Attributes:
        request: The CreateModel request.
        container: The container that runs, after a model package was looked up.
        arn: ARN of the model.
        created: Time of its creation.
    """

    request: Mapping[str, Any]
    container: Mapping[str, Any]
    arn: str
    created: float


class ModelApi:
    """Models of the emulated service.

    Args:
        context: Clock, account and containers.
    """

    def __init__(self, context: HostingContext):
        self._context = context
        self.table = ResourceTable[EmulatedModel](context, "model")

    def operations(self) -> dict[str, Handler]:
        """Return the handler of each operation."""
        return {
            "CreateModel": self._create,
            "DescribeModel": self._describe,
            "ListModels": self._list,
            "DeleteModel": self._delete,
        }

    def _create(self, request: dict[str, Any]) -> dict[str, Any]:
        name = request["ModelName"]
        with self._context.lock:
            self.table.check_free(name)
            container = self._container(request)
            self._check_container(container)
            if "ExecutionRoleArn" in request:
                check_role(request["ExecutionRoleArn"], self._context.client)
            check_network(request.get("VpcConfig"), self._context.client)
            arn = self.table.arn(name)
            model = EmulatedModel(request, container, arn, self._context.clock.now())
            self.table.add(name, model, request)
        return {"ModelArn": arn}

    def _container(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        given = [key for key in ("PrimaryContainer", "Containers") if request.get(key)]
        if len(given) != 1:
            reject("Exactly one of PrimaryContainer and Containers must be specified.")
        if given == ["Containers"]:
            if len(request["Containers"]) != 1:
                reject("several containers in one model are not emulated")
            container = request["Containers"][0]
        else:
            container = request["PrimaryContainer"]
        if "ModelPackageName" in container:
            return self._from_package(container)
        if "Image" not in container:
            reject("Image is required for a container without ModelPackageName.")
        return dict(container)

    def _from_package(self, container: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the container that a version of the model registry specifies."""
        name = container["ModelPackageName"]
        try:
            package = self._context.client("sagemaker").describe_model_package(
                ModelPackageName=name
            )
        except ClientError:
            reject(f'Could not find model package "{name}".')
        if package.get("ModelApprovalStatus", _APPROVED) != _APPROVED:
            reject(f"The model package {name} is not approved for deployment.")
        specifications = {"": package.get("InferenceSpecification")}
        for more in package.get("AdditionalInferenceSpecifications", ()):
            specifications[more["Name"]] = more
        wanted = container.get("InferenceSpecificationName", "")
        specification = specifications.get(wanted)
        if not specification:
            reject(f"The model package {name} has no inference specification {wanted!r}.")
        (packaged,) = specification["Containers"][:1]
        keys = ("Image", "ModelDataUrl", "ModelDataSource", "Environment")
        found = {key: packaged[key] for key in keys if key in packaged}
        environment = {**found.get("Environment", {}), **container.get("Environment", {})}
        return {**found, "Environment": environment}

    def _check_container(self, container: Mapping[str, Any]) -> None:
        for key in _NOT_EMULATED:
            if key in container:
                reject(f"{key} is not emulated")
        if container.get("Mode", "SingleModel") != "SingleModel":
            reject("Mode MultiModel is not emulated")
        check_image(container["Image"], self._context.client)
        if "ModelDataUrl" in container and "ModelDataSource" in container:
            reject("Only one of ModelDataUrl and ModelDataSource can be specified.")
        # https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ContainerDefinition.html
        for value in container.get("Environment", {}).values():
            if len(value) > 1024:
                reject("A value of Environment has more than 1024 characters.")
        self.check_files(container)

    def check_files(self, container: Mapping[str, Any]) -> None:
        """Reject a place of model files that is malformed, empty or needs an accepted license.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_S3ModelDataSource.html
        """
        source = container.get("ModelDataSource", {}).get("S3DataSource", {})
        address = source.get("S3Uri") or container.get("ModelDataUrl")
        if not address:
            return
        if source.get("S3DataType") == "S3Prefix" and not address.endswith("/"):
            reject(f"S3Uri {address} of S3DataType S3Prefix must end with a forward slash.")
        if source and (source["S3DataType"] == "S3Prefix") != (source["CompressionType"] == "None"):
            reject("CompressionType Gzip needs S3DataType S3Object; None needs S3Prefix.")
        accepted = source.get("ModelAccessConfig", {}).get("AcceptEula", False)
        if address.startswith(self._context.faults.gated or ("\0",)) and not accepted:
            reject(
                f"The model at {address} has an end-user license agreement. Set "
                "ModelAccessConfig.AcceptEula to true to accept it."
            )
        if not self._exists(S3Uri.parse(address)):
            reject(f"Could not find model data at {address}.")

    def _exists(self, address: S3Uri) -> bool:
        try:
            listed = self._context.client("s3").list_objects_v2(
                Bucket=address.bucket, Prefix=address.key, MaxKeys=1
            )
        except ClientError:
            return False
        return bool(listed.get("Contents"))

    def _describe(self, request: dict[str, Any]) -> dict[str, Any]:
        model = self.table.get(request["ModelName"])
        described = {key: value for key, value in model.request.items() if key != "Tags"}
        return {**described, "ModelArn": model.arn, "CreationTime": model.created}

    def _list(self, request: dict[str, Any]) -> dict[str, Any]:
        summaries = [
            {"ModelName": m.request["ModelName"], "ModelArn": m.arn, "CreationTime": m.created}
            for m in self.table
        ]
        return list_page(request, summaries, "Model", "Models")

    def _delete(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._context.lock:
            self.table.remove(request["ModelName"])
        return {}

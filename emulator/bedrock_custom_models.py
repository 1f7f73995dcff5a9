"""Emulated custom models of Bedrock that SageMaker trained, and their on-demand deployments.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_CreateCustomModel.html: only models that
were trained from Amazon Nova become custom models; others are imported.
https://docs.aws.amazon.com/bedrock/latest/userguide/deploy-custom-model-on-demand.html: Regions of
on-demand deployments.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from catalog.bedrock_custom_models import ON_DEMAND_REGIONS, base_of_package
from emulator.bedrock_account import BedrockAccount, BedrockResources, reject_conflict
from emulator.request_validation import check_role, reject
from emulator.s3_sync import EmulatedBucket
from launch.aws.s3 import S3Uri

_SUMMARY = (
    *("modelArn", "modelName", "creationTime", "baseModelArn", "baseModelName"),
    *("customizationType", "modelStatus"),
)


class CustomModelApi:
    """Custom models.

    Args:
        account: The account.

    Attributes:
        users: Each returns the descriptions of the resources that serve custom models.
    """

    def __init__(self, account: BedrockAccount):
        self._account = account
        self.models = BedrockResources(account, "modelArn", "modelName")
        self.users: list[Callable[[], list[dict[str, Any]]]] = []

    def folder(self, model: dict[str, Any]) -> Path:
        """Return the folder of a custom model's files."""
        return self._account.folder("custom", model["modelArn"])

    def create(self, request: dict[str, Any]) -> dict[str, Any]:
        """Create a custom model (CreateCustomModel).

        Raises:
            RequestRejected: The name is in use, the role cannot be assumed, or no source is named.
        """
        account = self._account
        if "roleArn" in request:
            check_role(request["roleArn"], account.client, "bedrock.amazonaws.com")
        package = request.get("customModelDataSource", {}).get("modelPackageArnDataSource")
        if package is None:
            reject("the source of a model is emulated as a modelPackageArnDataSource")

        def create(arn: str) -> None:
            if self.models.find(request["modelName"]):
                reject_conflict(f"A custom model named {request['modelName']} already exists")
            base_arn = f"arn:aws:bedrock:{account.region}::foundation-model/{base}"
            self.models.add(
                {
                    "modelArn": arn,
                    "modelName": request["modelName"],
                    **({"baseModelArn": base_arn} if base else {}),
                    "customizationType": "IMPORTED",
                    "creationTime": account.now(),
                    "modelStatus": "Creating",
                },
                request.get("modelTags", ()),
            )

        def start(arn: str) -> None:
            model, source = self.models.get(arn), package["modelPackageArn"]
            account.clock.call_later(account.timings.create_s, lambda: self._finish(model, source))

        base = base_of_package(self._describe(package["modelPackageArn"]))
        return {"modelArn": account.create_once(request, "custom-model/imported", create, start)}

    def _describe(self, package: str) -> dict[str, Any]:
        try:
            answer = self._account.client("sagemaker").describe_model_package(
                ModelPackageName=package
            )
        except ClientError as error:
            reject(f"The model package {package} cannot be read ({error})")
        return dict(answer)

    def _finish(self, model: dict[str, Any], package: str) -> None:
        """Read the model of a package, and end its creation."""
        failure = self._account.next_failed_creation() or self._read(model, package)
        model["modelStatus"] = "Failed" if failure else "Active"
        if failure:
            model["failureMessage"] = failure

    def _read(self, model: dict[str, Any], package: str) -> str:
        description = self._describe(package)
        if base_of_package(description) is None:
            return "The model was not trained from a supported Amazon Nova model"
        (container,) = description["InferenceSpecification"]["Containers"]
        address = container["ModelDataSource"]["S3DataSource"]["S3Uri"].rstrip("/") + "/"
        s3 = EmulatedBucket(self._account.client("s3"))
        if not s3.download(S3Uri.parse(address), self.folder(model)):
            return f"There are no files at {address}"
        return ""

    def get(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return a custom model (GetCustomModel)."""
        return self.models.get(request["modelIdentifier"])

    def list(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return custom models (ListCustomModels), without those that have no base.

        A summary must name a base, and the service does not document one for a model that failed
        because its base is not supported.
        """
        models, more = self.models.page(request, "creationTime", modelStatus="modelStatus")
        summaries = [
            {
                **{key: m[key] for key in _SUMMARY if key in m},
                "baseModelName": base_name(m).partition(":")[0],
            }
            for m in models
            if "baseModelArn" in m
        ]
        return {"modelSummaries": summaries, **more}

    def delete(self, request: dict[str, Any]) -> dict[str, Any]:
        """Delete a custom model (DeleteCustomModel).

        Raises:
            RequestRejected: It is being created, or something serves it.
        """
        model = self.models.get(request["modelIdentifier"])
        if model["modelStatus"] == "Creating":
            reject_conflict("The model is being created")
        if any(one["modelArn"] == model["modelArn"] for users in self.users for one in users()):
            reject_conflict("The model is in use by a deployment or provisioned throughput")
        self.models.remove(model)
        return {}

    def require_active(self, identifier: str) -> dict[str, Any]:
        """Return a custom model that can be deployed.

        Raises:
            RequestRejected: It does not exist, or is not active.
        """
        model = self.models.get(identifier)
        if model["modelStatus"] != "Active":
            reject(f"The model {identifier} is {model['modelStatus']}, not Active")
        return model


class DeploymentApi:
    """On-demand deployments of custom models.

    Args:
        account: The account.
        custom_models: Its custom models.
    """

    def __init__(self, account: BedrockAccount, custom_models: CustomModelApi):
        self._account, self._models = account, custom_models
        self.deployments = BedrockResources(
            account, "customModelDeploymentArn", "modelDeploymentName"
        )
        custom_models.users.append(self.deployments.all)

    def create(self, request: dict[str, Any]) -> dict[str, Any]:
        """Deploy a custom model (CreateCustomModelDeployment).

        Raises:
            RequestRejected: The name is in use, the model is not active, or the Region has no
                on-demand deployments.
        """
        account = self._account
        if account.region not in ON_DEMAND_REGIONS:
            reject(f"Custom models are not deployed on demand in {account.region}")

        def create(arn: str) -> None:
            name = request["modelDeploymentName"]
            if self.deployments.find(name):
                reject(f"A deployment named {name} already exists")
            model = self._models.require_active(request["modelArn"])
            account.check_agreement(base_name(model))
            text = request.get("description")
            self.deployments.add(
                {
                    "customModelDeploymentArn": arn,
                    "modelDeploymentName": name,
                    "modelArn": model["modelArn"],
                    "createdAt": account.now(),
                    "status": "Creating",
                    **({"description": text} if text else {}),
                },
                request.get("tags", ()),
            )

        def start(arn: str) -> None:
            deployment = self.deployments.get(arn)
            account.clock.call_later(account.timings.create_s, lambda: self._finish(deployment))

        kind = "custom-model-deployment"
        return {"customModelDeploymentArn": account.create_once(request, kind, create, start)}

    def _finish(self, deployment: dict[str, Any]) -> None:
        failure = self._account.next_failed_creation()
        deployment["status"] = "Failed" if failure else "Active"
        if failure:
            deployment["failureMessage"] = failure

    def get(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return a deployment (GetCustomModelDeployment)."""
        return self.deployments.get(request["customModelDeploymentIdentifier"])

    def list(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return deployments (ListCustomModelDeployments)."""
        found, more = self.deployments.page(
            request, "createdAt", statusEquals="status", modelArnEquals="modelArn"
        )
        keys = ("customModelDeploymentArn", "modelArn", "createdAt", "status", "failureMessage")
        summaries = [
            {
                **{key: one[key] for key in keys if key in one},
                "customModelDeploymentName": one["modelDeploymentName"],
            }
            for one in found
        ]
        return {"modelDeploymentSummaries": summaries, **more}

    def update(self, request: dict[str, Any]) -> dict[str, Any]:
        """Put another model behind a deployment (UpdateCustomModelDeployment).

        The former model answers until the update has completed.

        Raises:
            RequestRejected: The deployment is being changed, or the model is not active.
        """
        deployment = self.deployments.get(request["customModelDeploymentIdentifier"])
        if deployment["status"] != "Active" or self._is_updating(deployment):
            reject("The deployment is not Active, or is being updated")
        model = self._models.require_active(request["modelArn"])
        deployment["updateDetails"] = {"modelArn": model["modelArn"], "updateStatus": "Updating"}
        deployment["lastUpdatedAt"] = self._account.now()

        def finish() -> None:
            failed = self._account.next_update_fails()
            details = deployment["updateDetails"]
            details["updateStatus"] = "UpdateFailed" if failed else "UpdateCompleted"
            if not failed:
                deployment["modelArn"] = model["modelArn"]

        self._account.clock.call_later(self._account.timings.update_s, finish)
        return {"customModelDeploymentArn": deployment["customModelDeploymentArn"]}

    def delete(self, request: dict[str, Any]) -> dict[str, Any]:
        """Delete a deployment (DeleteCustomModelDeployment).

        Raises:
            RequestRejected: It is being created or changed.
        """
        deployment = self.deployments.get(request["customModelDeploymentIdentifier"])
        if deployment["status"] == "Creating" or self._is_updating(deployment):
            reject_conflict("The deployment is being created or updated")
        self.deployments.remove(deployment)
        return {}

    @staticmethod
    def _is_updating(deployment: dict[str, Any]) -> bool:
        details: dict[str, Any] = deployment.get("updateDetails", {})
        return details.get("updateStatus") == "Updating"


def base_name(model: dict[str, Any]) -> str:
    """Return the foundation model that a custom model was trained from."""
    return str(model["baseModelArn"].rpartition("/")[2])

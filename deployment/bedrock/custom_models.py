"""Custom models of deployments: made of the model packages of models that SageMaker trained.

Bedrock makes custom models of models that were trained from Amazon Nova; others are imported.
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_CreateCustomModel.html
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import catalog.deployment_tags as tag
from catalog.bedrock_custom_models import BASES, base_of_package
from deployment.account import DeploymentAccount
from deployment.bedrock.calls import (
    CONFLICT,
    NOT_FOUND,
    BedrockCalls,
    request_tags,
    tag_list,
)
from deployment.bedrock.imported_models import ROLE
from deployment.errors import DeployModelError
from deployment.targets.base import DeploymentRequest, versioned_name
from launch.aws.session import explain_aws_errors
from training.console import say
from training.errors import Problem

_HOURS = 6 * 3600.0


class CustomModels:
    """Custom models of an environment.

    Args:
        account: Account of the deployments.
    """

    def __init__(self, account: DeploymentAccount):
        self._account, self.calls = account, BedrockCalls(account)

    def base(self, request: DeploymentRequest) -> str | None:
        """Return the foundation model that a version was trained from, None for another model."""
        if request.model.managed.get("custom_model"):
            return str(request.model.managed["base"]).rpartition("/")[2]
        name = _package(request)
        with explain_aws_errors(f"reading {name}"):
            package = self._account.client("sagemaker").describe_model_package(
                ModelPackageName=name
            )
        return base_of_package(package)

    def problems(self, request: DeploymentRequest) -> Iterator[Problem]:
        """Yield a problem if Bedrock makes no custom model of a version."""
        if self.base(request) is None:
            yield Problem(
                "to",
                f"Bedrock takes models that were trained from Amazon Nova ({', '.join(BASES)}) and "
                f"no others; an imported model has neither provisioned throughput nor a deployment "
                f"or inference profile, so that no ARN stays when its version changes",
                request.spec.to,
                "Import it: --to bedrock-import, or, to keep a name, --to endpoint or component",
            )
        if self._account.platform.get(ROLE) is None:
            name = self._account.environment.name
            yield Problem("--env", f"the environment has no {ROLE}", name, "Deploy it again")

    def ensure(self, request: DeploymentRequest) -> str:
        """Create the custom model of a version unless it exists, and return its ARN.

        A model that Bedrock trained is one already.

        Raises:
            DeployModelError: The creation failed.
        """
        if trained := request.model.managed.get("custom_model"):
            return str(trained)
        name = versioned_name(self._account, request)
        if self.calls.get("get_custom_model", modelIdentifier=name) is None:
            self._create(name, request)
        model = self._created(name)
        if model.get("modelStatus") != "Active":
            reason = model.get("failureMessage") or "Bedrock gives no reason"
            self._delete(name)  # its name is in use until then
            raise DeployModelError(
                f"the custom model {name} failed: {reason}. The same command creates it again"
            )
        return str(model["modelArn"])

    def _create(self, name: str, request: DeploymentRequest) -> None:
        say(f"creating the custom model {name} of {_package(request)}")
        package = {"modelPackageArn": _package(request)}
        with explain_aws_errors(f"creating {name}", ignore=CONFLICT):  # another process was faster
            self.calls.client.create_custom_model(
                modelName=name,
                customModelDataSource={"modelPackageArnDataSource": package},
                roleArn=self._account.platform[ROLE],
                modelTags=tag_list(request_tags(self._account, request)),
                clientRequestToken=uuid.uuid4().hex,  # repeated by boto3 alone
            )

    def delete_all(self, deployment: str, *, keep: str | None = None) -> None:
        """Delete the custom models of a deployment.

        Args:
            deployment: Name of the deployment.
            keep: ARN of one that remains.
        """
        for summary in list(self.calls.list("list_custom_models", "modelSummaries")):
            arn = summary["modelArn"]
            if arn != keep and self.calls.tags(arn).get(tag.DEPLOYMENT) == deployment:
                if summary.get("modelStatus") == "Creating":
                    self._created(summary["modelName"])
                self._delete(arn)

    def _created(self, name: str) -> dict[str, Any]:
        """Return a custom model whose creation has ended; empty if it does not exist."""
        return self._account.polling.until(
            lambda: self.calls.get("get_custom_model", modelIdentifier=name) or {},
            lambda found: found.get("modelStatus") != "Creating",
            what=f"the creation of {name}",
            timeout_s=_HOURS,
        )

    def _delete(self, identifier: str) -> None:
        with explain_aws_errors(f"deleting {identifier}", ignore=NOT_FOUND):
            self.calls.client.delete_custom_model(modelIdentifier=identifier)


def _package(request: DeploymentRequest) -> str:
    """Return the model package that holds the weights: that of the training, or of the version."""
    return str(request.model.managed.get("model_package") or request.model.package)

"""Emulated account of the deployment rehearsal: moto's server with five extensions.

The report of the rehearsal distinguishes them from what moto creates itself:

- a resource type that moto lacks, but whose attributes others refer to, gets stub attributes;
- custom resources run the handlers of the platform in this process, as CDK's provider would;
- Bedrock has provisioned throughput, which is in service at the second request;
- CloudWatch Logs has AssociateKmsKey;
- SageMaker has ListInferenceComponents, and no components.
"""

import importlib
import json
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import moto.bedrock.urls
import moto.cloudformation.parsing
import moto.logs.responses
import moto.sagemaker.responses
import moto.server
from moto.awslambda.utils import get_backend
from moto.core.common_models import CloudFormationModel

from emulator import cloudformation_rules

ACCOUNT, REGION = "123456789012", "us-east-1"
# Attributes of types that moto does not support.
STUB_ATTRIBUTES: dict[str, dict[str, str]] = {
    "AWS::Bedrock::Guardrail": {"GuardrailId": "abcdefghijkl", "Version": "DRAFT"},
    "AWS::FSx::FileSystem": {
        "DNSName": f"fs-0123456789abcdef0.fsx.{REGION}.amazonaws.com",
        "LustreMountName": "abcdefgh",
    },
    "AWS::SageMaker::MlflowApp": {
        "Arn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:mlflow-app/app-ABCDEFGHIJKL"
    },
    "AWS::SageMaker::Cluster": {
        "ClusterArn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:cluster/abcdefghijkl"
    },
}
CUSTOM_TYPES = (
    "Custom::ProvisionedThroughput",
    "Custom::InvocationLogging",
    "Custom::LifecycleScripts",
    "Custom::ClusterLogGroup",
)
MAX_POLLS = 20
# Variables in which CDK's provider finds the functions to call; the second only with `wait`.
FUNCTION_VARIABLES = ("USER_ON_EVENT_FUNCTION_ARN", "USER_IS_COMPLETE_FUNCTION_ARN")


class _StubResource(CloudFormationModel):
    """Resource that consists of a name and stub attributes."""

    kind = ""

    def __init__(self, name: str) -> None:
        self.physical_resource_id = name

    @classmethod
    def cloudformation_type(cls) -> str:  # type: ignore[override]
        return cls.kind

    @staticmethod
    def cloudformation_name_type() -> str:
        return ""

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return attr in STUB_ATTRIBUTES[cls.kind]

    def get_cfn_attribute(self, attribute_name: str) -> str:
        return STUB_ATTRIBUTES[self.kind][attribute_name]

    @classmethod
    def create_from_cloudformation_json(cls, resource_name: str, *_: Any, **__: Any) -> Any:
        return cls(resource_name)

    def delete(self, _account: str, _region: str) -> None:
        """Do nothing: there is no resource."""

    def is_created(self) -> bool:
        return True


class EmulatedCustomResource(CloudFormationModel):
    """Custom resource that calls the platform's handlers as CDK's provider calls them."""

    def __init__(self, event: dict[str, Any]) -> None:
        self.event = event
        # Resolved now: the deletion of a stack may delete the functions before the custom resource.
        variables = _function(event["ResourceProperties"]["ServiceToken"]).environment_vars
        self.entries = [
            _function(variables[name]).handler for name in FUNCTION_VARIABLES if name in variables
        ]
        result = self._until_done("Create")
        self.physical_resource_id = result["PhysicalResourceId"]
        self.data = result.get("Data", {})

    @staticmethod
    def cloudformation_type() -> str:
        return "?"

    @staticmethod
    def cloudformation_name_type() -> str:
        return ""

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return True

    def get_cfn_attribute(self, attribute_name: str) -> Any:
        return self.data.get(attribute_name)

    @classmethod
    def create_from_cloudformation_json(
        cls,
        resource_name: str,
        cloudformation_json: dict[str, Any],
        account_id: str,
        region_name: str,
        **kwargs: Any,
    ) -> Any:
        return cls(
            {
                "StackId": kwargs["StackId"],
                "RequestId": str(uuid.uuid4()),
                "LogicalResourceId": kwargs["LogicalId"],
                "ResourceType": kwargs["ResourceType"],
                # CloudFormation sends every value as text.
                "ResourceProperties": _as_text(cloudformation_json["Properties"]),
            }
        )

    def delete(self, _account: str, _region: str) -> None:
        """Send the Delete request to the handler."""
        self._until_done("Delete", PhysicalResourceId=self.physical_resource_id)

    def is_created(self) -> bool:
        return True

    def _until_done(self, request: str, **more: str) -> dict[str, Any]:
        event = {**self.event, "RequestType": request, **more}
        started = _call(self.entries[0], event)
        event["PhysicalResourceId"] = started["PhysicalResourceId"]
        if len(self.entries) == 1:
            return started
        for _ in range(MAX_POLLS):
            status = _call(self.entries[1], event)
            if status["IsComplete"]:
                return {**started, "Data": status.get("Data", {})}
            time.sleep(0.2)
        raise RuntimeError(f"{event['LogicalResourceId']} was not done after {request}")


def _as_text(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _as_text(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_as_text(each) for each in value]
    return json.dumps(value) if isinstance(value, bool) else str(value)


def _function(arn: str) -> Any:
    return get_backend(ACCOUNT, REGION).get_function(arn)


def _call(handler: str, event: dict[str, Any]) -> dict[str, Any]:
    module, _, entry = handler.rpartition(".")
    code = importlib.import_module(f"stacks.{module}")
    result: dict[str, Any] = getattr(code, entry)(event, None)
    return result


def _associate_kms_key(response: Any) -> str:
    """Set the key of a log group, and return the empty response of CloudWatch Logs."""
    request = json.loads(response.body)
    response.logs_backend.groups[request["logGroupName"]].kms_key_id = request["kmsKeyId"]
    return ""


class EmulatedThroughput:
    """Provisioned throughput of Bedrock, as far as the handlers use it."""

    def __init__(self) -> None:
        self.by_arn: dict[str, dict[str, Any]] = {}

    def create(self, request: Any, _url: str, _headers: Any) -> tuple[int, dict[str, str], str]:
        """Handle POST: create a throughput."""
        parameters = json.loads(request.data)
        arn = f"arn:aws:bedrock:{REGION}:{ACCOUNT}:provisioned-model/{len(self.by_arn):012d}"
        now = datetime.now(UTC).isoformat()
        self.by_arn[arn] = {
            "provisionedModelArn": arn,
            "provisionedModelName": parameters["provisionedModelName"],
            "modelArn": parameters["modelId"],
            "desiredModelArn": parameters["modelId"],
            "foundationModelArn": parameters["modelId"],
            "modelUnits": parameters["modelUnits"],
            "desiredModelUnits": parameters["modelUnits"],
            "status": "Creating",
            "creationTime": now,
            "lastModifiedTime": now,
        }
        return 201, {}, json.dumps({"provisionedModelArn": arn})

    def get_or_delete(
        self, request: Any, url: str, _headers: Any
    ) -> tuple[int, dict[str, str], str]:
        """Handle GET and DELETE; the first GET completes the creation."""
        arn = unquote(urlsplit(url).path).partition("provisioned-model-throughput/")[2]
        throughput = self.by_arn.get(arn)
        if throughput is None:
            kind = {"x-amzn-errortype": "ResourceNotFoundException"}
            return 404, kind, json.dumps({"message": f"there is no {arn}"})
        if request.method == "DELETE":
            del self.by_arn[arn]
            return 200, {}, "{}"
        body = json.dumps(throughput)
        throughput["status"] = "InService"
        return 200, {}, body


def main() -> None:
    """Extend moto and run its server."""
    for kind in STUB_ATTRIBUTES:
        # Moto finds types among the direct subclasses of its model.
        type(kind.replace("::", ""), (_StubResource, CloudFormationModel), {"kind": kind})
    moto.cloudformation.parsing.CustomModel = EmulatedCustomResource  # type: ignore[misc,assignment]
    cloudformation_rules.install()
    # Moto has no AssociateKmsKey of CloudWatch Logs.
    moto.logs.responses.LogsResponse.associate_kms_key = _associate_kms_key
    # Moto has no inference components.
    moto.sagemaker.responses.SageMakerResponse.list_inference_components = lambda _: (
        '{"InferenceComponents": []}'
    )
    throughputs = EmulatedThroughput()
    moto.bedrock.urls.url_paths.update(
        {
            "{0}/provisioned-model-throughput$": throughputs.create,
            "{0}/provisioned-model-throughput/(?P<arn>.+)$": throughputs.get_or_delete,
        }
    )
    moto.server.main()

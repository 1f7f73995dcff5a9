"""The emulated account of the rehearsal: moto's server, and what it lacks to deploy all of ours.

Three things are added, and the rehearsal's report
names them apart from what moto makes itself:

- types of which another resource asks for an attribute get attributes that are made up;
- custom resources run the code of our own functions, in this process, as CDK's provider would;
- Bedrock keeps provisioned throughput, which is created at the second look.
"""

import importlib
import json
import time
import uuid
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any
from urllib.parse import unquote, urlsplit

import moto.bedrock.urls
import moto.cloudformation.parsing
import moto.server
from moto.awslambda.utils import get_backend
from moto.core.common_models import CloudFormationModel

ACCOUNT, REGION = "123456789012", "us-east-1"
# Attributes that the emulator cannot give, because it does not know the type.
MADE_UP: dict[str, dict[str, str]] = {
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
CUSTOM = ("Custom::ProvisionedThroughput", "Custom::InvocationLogging")
LOOKS_UNTIL_DONE = 20
# Where CDK's provider finds the functions that it calls: the second only where there is a wait.
ASKED = ("USER_ON_EVENT_FUNCTION_ARN", "USER_IS_COMPLETE_FUNCTION_ARN")


class _MadeUp(CloudFormationModel):
    """A resource that is nothing but a name and a few attributes."""

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
        return attr in MADE_UP[cls.kind]

    def get_cfn_attribute(self, attribute_name: str) -> str:
        return MADE_UP[self.kind][attribute_name]

    @classmethod
    def create_from_cloudformation_json(cls, resource_name: str, *_: Any, **__: Any) -> Any:
        return cls(resource_name)

    def delete(self, _account: str, _region: str) -> None:
        """Nothing was there."""

    def is_created(self) -> bool:
        return True


class RunByUs(CloudFormationModel):
    """A custom resource: our functions' own code, called as CDK's provider calls it."""

    def __init__(self, event: dict[str, Any]) -> None:
        self.event = event
        # Looked up now: a stack that goes may lose its functions before it asks them to clean up.
        asked = _function(event["ResourceProperties"]["ServiceToken"]).environment_vars
        self.entries = [_function(asked[name]).handler for name in ASKED if name in asked]
        answer = self._until_done("Create")
        self.physical_resource_id = answer["PhysicalResourceId"]
        self.data = answer.get("Data", {})

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
                # CloudFormation hands every value over as text.
                "ResourceProperties": _as_text(cloudformation_json["Properties"]),
            }
        )

    def delete(self, _account: str, _region: str) -> None:
        """Takes it away as it was made."""
        self._until_done("Delete", PhysicalResourceId=self.physical_resource_id)

    def is_created(self) -> bool:
        return True

    def _until_done(self, request: str, **more: str) -> dict[str, Any]:
        event = {**self.event, "RequestType": request, **more}
        started = _call(self.entries[0], event)
        event["PhysicalResourceId"] = started["PhysicalResourceId"]
        if len(self.entries) == 1:
            return started
        for _ in range(LOOKS_UNTIL_DONE):
            seen = _call(self.entries[1], event)
            if seen["IsComplete"]:
                return {**started, "Data": seen.get("Data", {})}
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
    module, _, entry = handler.partition(".")
    code = importlib.import_module(f"stacks.handlers.{module}")
    answer: dict[str, Any] = getattr(code, entry)(event, None)
    return answer


class Throughputs:
    """Bedrock's provisioned throughput, as far as our functions ask for it."""

    def __init__(self) -> None:
        self.made: dict[str, dict[str, Any]] = {}

    def several(self, request: Any, _url: str, _headers: Any) -> tuple[int, dict[str, str], str]:
        """POST: makes one."""
        wanted = json.loads(request.data)
        arn = f"arn:aws:bedrock:{REGION}:{ACCOUNT}:provisioned-model/{len(self.made):012d}"
        now = datetime.now(timezone.utc).isoformat()  # noqa: UP017 - as the handlers write it
        self.made[arn] = {
            "provisionedModelArn": arn,
            "provisionedModelName": wanted["provisionedModelName"],
            "modelArn": wanted["modelId"],
            "desiredModelArn": wanted["modelId"],
            "foundationModelArn": wanted["modelId"],
            "modelUnits": wanted["modelUnits"],
            "desiredModelUnits": wanted["modelUnits"],
            "status": "Creating",
            "creationTime": now,
            "lastModifiedTime": now,
        }
        return 201, {}, json.dumps({"provisionedModelArn": arn})

    def one(self, request: Any, url: str, _headers: Any) -> tuple[int, dict[str, str], str]:
        """GET and DELETE; being looked at once is what finishes it."""
        arn = unquote(urlsplit(url).path).partition("provisioned-model-throughput/")[2]
        found = self.made.get(arn)
        if found is None:
            kind = {"x-amzn-errortype": "ResourceNotFoundException"}
            return 404, kind, json.dumps({"message": f"there is no {arn}"})
        if request.method == "DELETE":
            del self.made[arn]
            return 200, {}, "{}"
        said = json.dumps(found)
        found["status"] = "InService"
        return 200, {}, said


def main() -> None:
    """Adds what is missing, and serves."""
    for kind in MADE_UP:
        # Moto finds types among the direct subclasses of its model.
        type(kind.replace("::", ""), (_MadeUp, CloudFormationModel), {"kind": kind})
    moto.cloudformation.parsing.CustomModel = RunByUs  # type: ignore[misc,assignment]
    throughputs = Throughputs()
    moto.bedrock.urls.url_paths.update(
        {
            "{0}/provisioned-model-throughput$": throughputs.several,
            "{0}/provisioned-model-throughput/(?P<arn>.+)$": throughputs.one,
        }
    )
    moto.server.main()

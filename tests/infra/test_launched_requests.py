"""Tests that the engineer role may send what the launcher sends, on every instance type.

The condition keys are derived from the requests as the Service Authorization Reference describes
them: docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsagemakerai.html
"""

import json
from typing import Any

import botocore.session
import pytest

from launch.aws.create_training_job import JobRequirements, create_request
from launch.aws.platform_parameters import PlatformParameters
from launch.submission import attempt_name
from tests.infra.conftest import Assembly
from tests.infra.permissions.cases import SM, Case
from tests.infra.permissions.resolved import ResolvedRoles
from tests.infra.permissions.simulator import fill, simulated, simulation
from tests.unit.launch.fake_accounts import DEV, VALUES
from tests.unit.launch.test_create_training_job import CASES, GOLDEN, RUN, SUBMISSION
from training.config.runtime import Resources

NAME = attempt_name(RUN, 1, DEV.prefix)


def _context(roles: ResolvedRoles, request: dict[str, Any]) -> dict[str, Any]:
    """Return the condition keys that SageMaker derives from a CreateTrainingJob request."""
    resources = request["ResourceConfig"]
    preferences = resources.get("InstancePreferences", [resources])
    context = {
        "sagemaker:VpcSubnets": ["{subnet}"],
        "sagemaker:VpcSecurityGroupIds": ["{group}"],
        "sagemaker:OutputKmsKeyArn": "{key:models}",
        "sagemaker:InstanceTypes": [each["InstanceType"] for each in preferences],
        "sagemaker:MaxRuntimeInSeconds": str(request["StoppingCondition"]["MaxRuntimeInSeconds"]),
        "sagemaker:NetworkIsolation": str(request["EnableNetworkIsolation"]).lower(),
        "sagemaker:InterContainerTrafficEncryption": str(
            request["EnableInterContainerTrafficEncryption"]
        ).lower(),
        **{f"aws:RequestTag/{tag['Key']}": tag["Value"] for tag in request["Tags"]},
    }
    if "VolumeKmsKeyId" in resources:
        context["sagemaker:VolumeKmsKeyArn"] = "{key:data}"
    return {key: fill(roles, value) for key, value in context.items()}


def _verdicts(roles: ResolvedRoles, requests: list[dict[str, Any]]) -> list[str]:
    cases: list[Case] = [
        ("Engineer", True, "sagemaker:CreateTrainingJob", SM + f"training-job/{NAME}", context)
        for context in (_context(roles, request) for request in requests)
    ]
    return [v["verdict"] for v in simulated([simulation(roles, case) for case in cases])]


def test_every_golden_request_is_allowed(dev: Assembly) -> None:
    requests = [json.loads((GOLDEN / f"{name}.json").read_text()) for name in CASES]
    verdicts = _verdicts(ResolvedRoles(dev), requests)
    assert dict(zip(CASES, verdicts, strict=True)) == dict.fromkeys(CASES, "Allowed")


def test_every_instance_type_is_allowed_with_the_volume_key_it_gets(dev: Assembly) -> None:
    model = botocore.session.get_session().get_service_model("sagemaker")
    shape: Any = model.shape_for("TrainingInstanceType")
    types = sorted(shape.enum)
    platform = PlatformParameters(DEV, VALUES)
    requests = [
        create_request(
            SUBMISSION,
            JobRequirements(),
            Resources.model_validate({"instance": instance_type}),
            platform,
        )
        for instance_type in types
    ]
    verdicts = _verdicts(ResolvedRoles(dev), requests)
    refused = [t for t, verdict in zip(types, verdicts, strict=True) if verdict != "Allowed"]
    assert refused == []


@pytest.mark.parametrize("without", ["VolumeKmsKeyId", "VpcConfig"])
def test_the_context_is_what_the_denials_read(dev: Assembly, without: str) -> None:
    roles = ResolvedRoles(dev)
    request = json.loads((GOLDEN / "on-demand.json").read_text())
    context = _context(roles, request)
    dropped = {"VolumeKmsKeyId": "sagemaker:VolumeKmsKeyArn", "VpcConfig": "sagemaker:VpcSubnets"}
    del context[dropped[without]]
    case: Case = (
        "Engineer",
        False,
        "sagemaker:CreateTrainingJob",
        SM + f"training-job/{NAME}",
        context,
    )
    [verdict] = simulated([simulation(roles, case)])
    assert verdict["verdict"] == "ExplicitlyDenied"

"""Deployment of models that a provider trained and keeps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deployment.targets.bedrock_on_demand import BedrockOnDemandTarget
from emulator.bedrock_account import BedrockTimings
from emulator.clock import FakeClock
from tests.unit.deployment.bedrock import BedrockDeployments, bedrock_deployments
from tests.unit.emulator.bedrock import BUCKET
from training.export.managed_model import MANAGED_MODEL


@pytest.fixture
def deployments(tmp_path: Path) -> Iterator[BedrockDeployments]:
    clock = FakeClock(time.time())
    timings = BedrockTimings(create_s=300, update_s=100)
    with bedrock_deployments(clock, clock.advance, tmp_path, timings) as made:
        # The content of the model does not matter: no request reaches it.
        made.here.s3.put_object(Bucket=BUCKET, Key="registry/llama/config.json", Body=b"{}")
        yield made


def test_a_model_that_bedrock_trained_is_deployed_as_it_is(
    deployments: BedrockDeployments,
) -> None:
    here = deployments.here
    trained = here.custom_model("temper-dev-support-1", here.package())
    deployments.clock.advance(400)
    base = here.bedrock.get_custom_model(modelIdentifier=trained)["baseModelArn"]
    facts: dict[str, Any] = {"custom_model": trained, "base": base}
    model = deployments.model(form="managed", documents={MANAGED_MODEL: facts})
    target = BedrockOnDemandTarget(deployments.account)
    request = deployments.request("bedrock-on-demand", model)
    assert list(target.problems(request)) == []
    made = target.deploy(request)
    described = here.bedrock.get_custom_model_deployment(
        customModelDeploymentIdentifier=made.address
    )
    assert described["modelArn"] == trained
    assert deployments.calls("CreateCustomModel") == 1
    target.undeploy("support")
    # The model is that of the run, and stays.
    assert here.bedrock.get_custom_model(modelIdentifier=trained)["modelStatus"] == "Active"


def test_a_model_that_sagemaker_trained_is_made_of_its_own_package(
    deployments: BedrockDeployments,
) -> None:
    package = deployments.here.package()
    model = deployments.model(
        form="managed", documents={MANAGED_MODEL: {"model_package": package, "base": "nova"}}
    )
    target = BedrockOnDemandTarget(deployments.account)
    request = deployments.request("bedrock-on-demand", model)
    assert list(target.problems(request)) == []
    assert target.deploy(request).state == "deployed"

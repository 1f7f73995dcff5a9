"""Inference components and adapters on them, in an emulated account."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from deployment.errors import DeployModelError, RolledBackError
from deployment.targets.component import ComponentTarget
from deployment.targets.endpoint import EndpointTarget
from tests.unit.deployment.conftest import Deployments, reply

pytestmark = pytest.mark.slow
NAME = "temper-dev-support"


def deploy(
    deployments: Deployments, model: str = "support@1.0.0", **values: Any
) -> ComponentTarget:
    """Deploy a version and return the target."""
    target = ComponentTarget(deployments.account)
    request = deployments.request(model, to="component", **values)
    assert list(target.problems(request)) == []
    assert target.deploy(request).state == "deployed"
    return target


def ask(deployments: Deployments, component: str = NAME) -> str:
    """Return the answer of a component on the endpoint of the base."""
    return deployments.hosted.ask(endpoint=NAME, InferenceComponentName=component)


def test_a_component_serves_scales_to_zero_and_wakes(deployments: Deployments) -> None:
    deployments.register("a")
    target = deploy(deployments, scaling={"min": 0, "max": 2})
    assert ask(deployments) == "a"
    found = target.find("support")
    assert found is not None
    assert (found.model, found.state, found.to) == ("support@1.0.0", "deployed", "component")
    assert found.instances == {"ml.g5.xlarge": 1}
    assert target.list() == [found]
    assert EndpointTarget(deployments.account).list() == []
    hosted = deployments.hosted
    (scaled,) = hosted.client("application-autoscaling").describe_scalable_targets(
        ServiceNamespace="sagemaker"
    )["ScalableTargets"]
    assert (scaled["MinCapacity"], scaled["MaxCapacity"]) == (0, 2)
    policies = hosted.client("application-autoscaling").describe_scaling_policies(
        ServiceNamespace="sagemaker"
    )["ScalingPolicies"]
    alarm = hosted.client("cloudwatch").describe_alarms(AlarmNames=[f"{NAME}-wake"])
    (from_zero,) = [p["PolicyARN"] for p in policies if p["PolicyName"] == "from-zero"]
    assert alarm["MetricAlarms"][0]["AlarmActions"] == [from_zero]
    target.undeploy("support")
    target.undeploy("support")
    assert deployments.names("Endpoint") == deployments.names("Model") == []
    assert deployments.names("EndpointConfig") == []
    assert (
        hosted.client("cloudwatch").describe_alarms(AlarmNames=[f"{NAME}-wake"])["MetricAlarms"]
        == []
    )


def test_a_swap_replaces_the_copies(deployments: Deployments) -> None:
    deployments.register("a")
    target = deploy(deployments)
    deployments.register("b")
    found = target.swap(deployments.request("support@1.0.1", to="component"))
    assert (found.model, ask(deployments)) == ("support@1.0.1", "b")
    assert len(deployments.names("Model")) == 1
    assert len(deployments.names("EndpointConfig")) == 1


def test_a_version_that_cannot_start_leaves_the_one_before(deployments: Deployments) -> None:
    deployments.register("a")
    target = deploy(deployments)
    deployments.register("b", crash__txt="x")
    with pytest.raises(RolledBackError, match=r"rolled .* back.*support@1\.0\.0 serves"):
        target.swap(deployments.request("support@1.0.1", to="component"))
    assert ask(deployments) == "a"
    assert len(deployments.names("Model")) == 1


def test_answers_that_differ_restore_the_version_before(deployments: Deployments) -> None:
    deployments.register("a", reply__json=reply("one"))
    target = deploy(deployments)
    deployments.register("b", reply__json=reply("two"))

    def verify() -> None:
        answer = target.ask("support", {"prompt": "x"})["choices"][0]["text"]
        raise DeployModelError(f"the answer is {answer}")

    request = deployments.request("support@1.0.1", to="component")
    with pytest.raises(RolledBackError, match="the answer is two"):
        target.swap(replace(request, verify=verify))
    assert "one" in ask(deployments)


@pytest.mark.parametrize("pauses", [1, 8])
def test_the_same_command_continues_after_a_kill(deployments: Deployments, pauses: int) -> None:
    deployments.register("a")
    target = ComponentTarget(deployments.killed_after(pauses))
    with pytest.raises(KeyboardInterrupt):
        target.deploy(deployments.request("support@1.0.0", to="component"))
    found = ComponentTarget(deployments.account).find("support")
    assert found is not None
    assert found.state == "deploying"
    deploy(deployments)
    assert deployments.calls("CreateEndpoint") == deployments.calls("CreateInferenceComponent") == 1


def adapter(deployments: Deployments, name: str, **config: Any) -> str:
    """Register an adapter and return its version."""
    text = json.dumps({"r": 16, **config})
    return deployments.register(name, template=False, adapter_config__json=text).id


def test_adapters_share_the_copies_of_their_base(deployments: Deployments) -> None:
    deployments.register("a")
    target = deploy(deployments)
    on_base: dict[str, Any] = {"name": "legal", "adapter_of": "support", "instance": None}
    first = adapter(deployments, "b")
    deploy(deployments, first, **on_base)
    component = "temper-dev-legal"
    assert (ask(deployments), ask(deployments, component)) == ("a", "b")
    found = target.find("legal")
    assert found is not None
    assert (found.model, found.instances) == (first, {})
    assert sorted(d.name for d in target.list()) == ["legal", "support"]
    second = adapter(deployments, "c")
    swapped = target.swap(deployments.request(second, to="component", name="legal", instance=None))
    assert (swapped.model, ask(deployments, component)) == (second, "c")
    with pytest.raises(DeployModelError, match="support is the base of legal"):
        target.undeploy("support")
    target.undeploy("legal")
    assert ask(deployments) == "a"
    target.undeploy("support")


@pytest.mark.parametrize(
    ("rank", "values", "words"),
    [
        (16, {"adapter_of": "none"}, "adapter_of: is not deployed as a component"),
        (1024, {"adapter_of": "support"}, "has rank 1024, and the engine of support loads up to"),
    ],
)
def test_an_adapter_that_cannot_be_added_is_refused(
    deployments: Deployments, rank: int, values: dict[str, Any], words: str
) -> None:
    deployments.register("a")
    target = deploy(deployments)
    version = adapter(deployments, "b", r=rank)
    request = deployments.request(version, to="component", name="legal", **values)
    found = "\n".join(map(str, target.problems(request)))
    assert words in found


def test_an_adapter_of_other_weights_is_refused(deployments: Deployments) -> None:
    deployments.register("a")
    target = deploy(deployments)
    version = adapter(deployments, "b")
    request = deployments.request(version, to="component", name="legal", adapter_of="support")
    metadata = {**request.model.metadata, "temper-base-digest": "f" * 64}
    other = replace(request, model=replace(request.model, metadata=metadata))
    assert "whose weights are not those" in "\n".join(map(str, target.problems(other)))
    whole = deployments.request("support@1.0.0", to="component", name="x", adapter_of="support")
    assert "is not an adapter" in "\n".join(map(str, target.problems(whole)))

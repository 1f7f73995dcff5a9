"""Deployments on a HyperPod cluster: the object, its states, swaps, restorations, bad input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deployment.account import DeploymentAccount
from deployment.errors import DeployModelError, RolledBackError
from deployment.model import DeployedModel
from deployment.polling import Polling
from deployment.spec import read_spec
from deployment.targets.base import DeploymentRequest
from deployment.targets.hyperpod import HyperPodTarget
from emulator.kubernetes.inference_schema import schema_problems
from launch.aws.platform_parameters import PlatformParameters
from launch.aws.session import AwsSession
from tests.unit.deployment.inference_operator import OperatorKubectl
from tests.unit.launch.fake_accounts import DEV, VALUES

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/temper-dev/serve-gpu@sha256:" + "a" * 64
CLUSTER = {
    "ClusterName": "temper-dev",
    "ClusterStatus": "InService",
    "InstanceGroups": [{"InstanceGroupName": "gpu", "InstanceType": "ml.g5.12xlarge"}],
}


class ClusterSession(AwsSession):
    """Session whose account has a cluster."""

    def client(self, service: str) -> Any:
        class SageMaker:
            def describe_cluster(self, ClusterName: str) -> dict[str, Any]:  # noqa: N803
                return CLUSTER

        return SageMaker()


@pytest.fixture
def target() -> HyperPodTarget:
    values = {
        **VALUES,
        "images/serve-gpu/uri": IMAGE,
        "hyperpod/cluster": "temper-dev",
        "hyperpod/eks": "temper-dev-eks",
        "hyperpod/namespaces": "hyperpod-ns-research",
    }
    platform = PlatformParameters(DEV, values)
    polling = Polling(sleep=lambda seconds: None)
    account = DeploymentAccount(ClusterSession(DEV), platform, "arn:x/anna", polling)
    return HyperPodTarget(account, OperatorKubectl())


def cluster(target: HyperPodTarget) -> OperatorKubectl:
    assert isinstance(target.kubectl, OperatorKubectl)
    return target.kubectl


def request(version: str = "1.0.0", **values: Any) -> DeploymentRequest:
    given = {
        "model": f"support@{version}",
        "to": "hyperpod",
        "instance": "ml.g5.12xlarge",
        "end": {"forever": "serves the shop"},
        **values,
    }
    folder = f"s3://temper-dev-models/trees/{version}/"
    files = ("config.json", "model.safetensors", "chat_template.jinja")
    model = DeployedModel(
        "support", version, "safetensors", folder, "arn:p", "tree", 1000, files, forms=("x",)
    )
    return DeploymentRequest(read_spec(None, given), model, "anna")


def test_a_deployment_goes_up_is_found_and_comes_down(target: HyperPodTarget) -> None:
    asked = request(settings={"MAX_CONTEXT": "4096"}, copies=2)
    assert list(target.problems(asked)) == []
    made = target.deploy(asked)
    assert (made.state, made.model, made.address) == (
        "deployed",
        "support@1.0.0",
        "temper-dev-support",
    )
    assert made.instances == {"ml.g5.12xlarge": 2}
    assert made.end == "never (serves the shop)"
    assert target.list() == [made] == [target.find("support")]
    item = cluster(target).objects["support"]
    assert item["metadata"]["namespace"] == "hyperpod-ns-research"
    spec = item["spec"]
    assert spec["modelSourceConfig"]["modelLocation"] == "trees/1.0.0"
    assert {"name": "TEMPER_SERVE_MAX_CONTEXT", "value": "4096"} in (
        spec["worker"]["environmentVariables"]
    )
    assert spec["worker"]["resources"]["limits"] == {"nvidia.com/gpu": "4"}
    tags = {entry["name"]: entry["value"] for entry in spec["tags"]}
    assert (tags["temper:target"], tags["CostCentre"]) == ("hyperpod", "research")
    target.undeploy("support")
    assert target.find("support") is None
    target.undeploy("support")


def test_what_a_swap_keeps_is_read_from_the_object(target: HyperPodTarget) -> None:
    scaling = {"min": 1, "max": 4, "concurrent_requests": 8.0}
    values = {"settings": {"MAX_CONTEXT": "4096"}, "devices": 2, "scaling": scaling, "chat": False}
    target.deploy(request(**values))
    assert target.kept("support") == {**values, "instance": "ml.g5.12xlarge", "copies": 1}
    assert target.kept("another") == {}


def test_the_same_command_continues(target: HyperPodTarget, monkeypatch: Any) -> None:
    """A kill while waiting leaves an object, which the same command waits for."""

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(target, "_wait", killed)
    with pytest.raises(KeyboardInterrupt):
        target.deploy(request())
    monkeypatch.undo()
    found = target.find("support")
    assert found is not None and found.state == "deploying"
    assert target.deploy(request()).state == "deployed"
    assert cluster(target).objects["support"]["metadata"]["generation"] == 1
    with pytest.raises(DeployModelError, match=r"exists with support@1\.0\.0.*temper swap"):
        target.deploy(request("1.1.0"))


def test_a_swap(target: HyperPodTarget) -> None:
    with pytest.raises(DeployModelError, match="does not exist"):
        target.swap(request("1.1.0"))
    target.deploy(request())
    swapped = target.swap(request("1.1.0"))
    assert (swapped.model, swapped.state) == ("support@1.1.0", "deployed")
    assert cluster(target).objects["support"]["spec"]["modelName"] == "temper-dev-support-1-1-0"


def test_a_version_that_does_not_start_is_taken_back(target: HyperPodTarget) -> None:
    target.deploy(request())
    before = cluster(target).objects["support"]["spec"]

    def fails(item: dict[str, Any]) -> str | None:
        bad = item["spec"]["modelSourceConfig"]["modelLocation"] == "trees/1.1.0"
        return "CrashLoopBackOff: out of memory" if bad else None

    cluster(target).fails = fails
    with pytest.raises(RolledBackError, match=r"out of memory.*support@1\.0\.0 serves"):
        target.swap(request("1.1.0"))
    found = target.find("support")
    assert found is not None
    assert (found.model, found.state) == ("support@1.0.0", "deployed")
    assert cluster(target).objects["support"]["spec"] == before


def test_a_version_that_answers_wrongly_is_taken_back(target: HyperPodTarget) -> None:
    target.deploy(request())

    def verify() -> None:
        raise DeployModelError("3 of 5 golden prompts differ")

    with pytest.raises(RolledBackError, match="3 of 5 golden prompts differ"):
        target.swap(replace(request("1.1.0"), verify=verify))
    found = target.find("support")
    assert found is not None and found.model == "support@1.0.0"


def test_a_failure_is_told_with_the_reason(target: HyperPodTarget) -> None:
    cluster(target).fails = lambda item: "0/3 nodes are available"
    with pytest.raises(DeployModelError, match="does not start: 0/3 nodes are available"):
        target.deploy(request())
    found = target.find("support")
    assert found is not None
    assert (found.state, found.detail) == ("failed", "0/3 nodes are available")


def test_a_deployment_that_another_changed_meanwhile(
    target: HyperPodTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubectl = cluster(target)
    target.deploy(request())
    run = kubectl.run

    def changed(*arguments: str, stdin: str = "") -> str:
        answer = run(*arguments, stdin=stdin)
        if arguments[0] == "apply":
            kubectl.objects["support"]["spec"]["modelSourceConfig"]["modelLocation"] = "trees/9"
        return answer

    monkeypatch.setattr(kubectl, "run", changed)
    with pytest.raises(DeployModelError, match="runs s3://temper-dev-models/trees/9, not"):
        target.deploy(request())


def test_scaling_to_zero(target: HyperPodTarget) -> None:
    asked = request(scaling={"min": 0, "max": 3, "concurrent_requests": 8}, devices=2)
    assert list(target.problems(asked)) == []
    target.deploy(asked)
    spec = cluster(target).objects["support"]["spec"]
    assert spec["autoScalingSpec"]["minReplicaCount"] == 0
    assert spec["autoScalingSpec"]["cloudWatchTrigger"]["targetValue"] == 8
    assert spec["worker"]["resources"]["limits"] == {"nvidia.com/gpu": "2"}
    quote = target.quote(asked)
    assert quote.idle_usd in (0, None)
    assert "cost nothing more" in quote.notes[0]


def test_all_problems_at_once(target: HyperPodTarget) -> None:
    kubectl = cluster(target)
    asked = request(
        end={"idle_hours": 6}, instance="ml.g5.xlarge", capture="10%", adapter_of="base"
    )
    found = {problem.path for problem in target.problems(asked)}
    assert found == {"end", "instance", "capture", "adapter_of"}
    (devices,) = target.problems(request(devices=9))
    assert "has 4 accelerators" in str(devices)
    kubectl.allowed = {"get"}
    (rights,) = target.problems(request())
    assert "you may not patch or delete" in str(rights)
    kubectl.installed = False
    (missing,) = target.problems(request())
    assert "AWS's inference operator is not installed" in str(missing)


def test_the_definition_refuses_other_fields() -> None:
    assert schema_problems({"modelName": "-", "x": 1}) != []
    assert {"spec.x is unknown", "spec.worker is missing"} <= set(
        schema_problems({"modelName": "a", "x": 1})
    )


def test_an_environment_without_a_cluster(tmp_path: Path) -> None:
    platform = PlatformParameters(DEV, dict(VALUES))
    target = HyperPodTarget(DeploymentAccount(AwsSession(DEV), platform, "arn:x/anna"))
    assert target.list() == []
    (problem,) = target.problems(request())
    assert "has no EKS cluster" in str(problem)

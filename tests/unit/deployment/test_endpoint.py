"""Endpoints of SageMaker: deployed, swapped, rolled back and removed in an emulated account."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from deployment.errors import DeployModelError, RolledBackError
from deployment.golden import GoldenCheck, read_golden
from deployment.polling import Polling
from deployment.spec import GoldenPrompts
from deployment.targets.endpoint import EndpointTarget
from tests.unit.deployment.conftest import Deployments, reply

pytestmark = pytest.mark.slow
NAME = "temper-dev-support"


def deploy(deployments: Deployments, model: str = "support@1.0.0", **values: Any) -> EndpointTarget:
    """Deploy a version and return the target."""
    target = EndpointTarget(deployments.account)
    request = deployments.request(model, **values)
    assert list(target.problems(request)) == []
    assert target.deploy(request).state == "deployed"
    return target


def two_versions(deployments: Deployments, **values: Any) -> EndpointTarget:
    """Deploy one version, and register another one."""
    deployments.register("a")
    target = deploy(deployments, **values)
    deployments.register("b")
    return target


def test_a_deployment_serves_the_files_of_its_version(deployments: Deployments) -> None:
    deployments.register("a")
    until = datetime.now(UTC) + timedelta(hours=5)
    target = deploy(deployments, end={"until": until.isoformat()}, capture="10%")
    found = target.find("support")
    assert found is not None
    assert (found.model, found.to, found.state) == ("support@1.0.0", "endpoint", "deployed")
    assert (found.address, found.instances) == (NAME, {"ml.g5.xlarge": 1})
    assert found.tags["temper:owner"] == "anna"
    assert found.tags["Environment"] == "dev"
    assert found.end == f"at {until:%FT%TZ}"
    assert deployments.hosted.ask(endpoint=NAME) == "a"
    assert target.list() == [found]
    schedule = deployments.hosted.client("scheduler").get_schedule(
        Name=f"{NAME}-end", GroupName="temper-dev-deployments"
    )
    assert schedule["ScheduleExpression"].startswith(f"at({until + timedelta(minutes=1):%FT%H:%M}")
    target.undeploy("support")


def test_the_container_has_no_network_of_its_own(deployments: Deployments) -> None:
    deployments.register("a")
    deploy(deployments, settings={"MAX_CONTEXT": "512"})
    sagemaker, platform = deployments.hosted.client("sagemaker"), deployments.account.platform
    model = sagemaker.describe_model(ModelName=deployments.names("Model")[0])
    assert model["EnableNetworkIsolation"] is True
    assert model["VpcConfig"]["SecurityGroupIds"] == [platform["serving/security-group"]]
    variables = model["PrimaryContainer"]["Environment"]
    assert variables == {"TEMPER_SERVE_NAME": "support", "TEMPER_SERVE_MAX_CONTEXT": "512"}
    config = sagemaker.describe_endpoint_config(
        EndpointConfigName=deployments.names("EndpointConfig")[0]
    )
    (variant,) = config["ProductionVariants"]
    assert variant["InferenceAmiVersion"] == "al2023-ami-sagemaker-inference-gpu-4-1"
    assert "KmsKeyId" not in config, "instances with local disks accept none"


@pytest.mark.parametrize("pauses", [0, 1, 3])
def test_the_same_command_continues_after_a_kill(deployments: Deployments, pauses: int) -> None:
    deployments.register("a")
    target = EndpointTarget(deployments.killed_after(pauses))
    with pytest.raises(KeyboardInterrupt):
        target.deploy(deployments.request("support@1.0.0"))
    deploy(deployments)
    assert deployments.calls("CreateEndpoint") == 1
    assert len(deployments.names("Model")) == len(deployments.names("EndpointConfig")) == 1


@pytest.mark.parametrize("operation", ["CreateModel", "CreateEndpointConfig", "CreateEndpoint"])
def test_a_lost_reply_is_no_second_resource(deployments: Deployments, operation: str) -> None:
    deployments.register("a")
    deployments.hosted.emulator.errors.lose_replies(operation)
    with pytest.raises(Exception, match="could not be reached"):
        deploy(deployments)
    deploy(deployments)
    assert deployments.hosted.ask(endpoint=NAME) == "a"
    assert len(deployments.names("Model")) == len(deployments.names("EndpointConfig")) == 1


def test_a_failure_says_why_and_the_same_command_tries_again(deployments: Deployments) -> None:
    deployments.register("a")
    faults = deployments.hosted.emulator.hosting.context.faults
    faults.no_capacity.add("ml.g5.xlarge")
    with pytest.raises(DeployModelError, match=r"is Failed: .*choose another --instance"):
        deploy(deployments)
    found = EndpointTarget(deployments.account).find("support")
    assert found is not None
    assert found.state == "failed"
    faults.no_capacity.clear()
    deploy(deployments)


def test_a_container_that_ends_fails_the_deployment(deployments: Deployments) -> None:
    deployments.register("a", crash__txt="x")
    with pytest.raises(DeployModelError, match=r"health check.*/aws/sagemaker/Endpoints/"):
        deploy(deployments)


def test_a_swap_shifts_the_traffic_and_removes_what_was_before(deployments: Deployments) -> None:
    target = two_versions(deployments)
    before = deployments.names("EndpointConfig")
    found = target.swap(deployments.request("support@1.0.1"))
    assert (found.model, found.state) == ("support@1.0.1", "deployed")
    assert deployments.hosted.ask(endpoint=NAME) == "b"
    assert len(deployments.names("Model")) == len(deployments.names("EndpointConfig")) == 1
    assert deployments.names("EndpointConfig") != before
    again = target.swap(deployments.request("support@1.0.1"))
    assert again == found, "the same command changes nothing"
    assert deployments.calls("UpdateEndpoint") == 1


@pytest.mark.parametrize("kind", ["canary", "linear", "all-at-once"])
def test_each_kind_of_shift_is_accepted(deployments: Deployments, kind: str) -> None:
    target = two_versions(deployments, copies=4)
    rollout = {"kind": kind, "size": "25%", "wait": "1min", "keep_old": "0s"}
    found = target.swap(deployments.request("support@1.0.1", copies=4, rollout=rollout))
    assert found.model == "support@1.0.1"
    config = deployments.hosted.describe(NAME)["LastDeploymentConfig"]
    routing = config["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    assert routing["Type"] == kind.upper().replace("-", "_")


def test_an_interrupted_swap_continues(deployments: Deployments) -> None:
    target = two_versions(deployments)
    other = EndpointTarget(deployments.killed_after(2))
    request = deployments.request("support@1.0.1")
    with pytest.raises(KeyboardInterrupt):
        other.swap(request)
    assert target.swap(request).model == "support@1.0.1"
    assert deployments.calls("UpdateEndpoint") == 1


def test_a_silent_rollback_is_no_success(deployments: Deployments) -> None:
    target = two_versions(deployments)
    deployments.hosted.emulator.hosting.context.faults.silent_rollbacks = 1
    with pytest.raises(RolledBackError, match=r"rolled .* back, and gives no reason") as caught:
        target.swap(deployments.request("support@1.0.1"))
    assert "support@1.0.0 serves" in str(caught.value)
    assert deployments.hosted.ask(endpoint=NAME) == "a"
    assert len(deployments.names("Model")) == 1, "what the failed swap made is removed"
    assert target.swap(deployments.request("support@1.0.1")).model == "support@1.0.1"


def test_an_alarm_rolls_back_and_is_named(deployments: Deployments) -> None:
    target = two_versions(deployments)
    cloudwatch, hosted = deployments.hosted.client("cloudwatch"), deployments.hosted

    def ring(seconds: float) -> None:
        hosted.advance(seconds)
        if "PendingDeploymentSummary" in hosted.describe(NAME):
            cloudwatch.set_alarm_state(
                AlarmName=f"{NAME}-errors", StateValue="ALARM", StateReason="planted"
            )

    polling = Polling(sleep=ring, now=hosted.clock.now)
    ringing = EndpointTarget(replace(deployments.account, polling=polling))
    with pytest.raises(RolledBackError, match=f"In alarm: {NAME}-errors"):
        ringing.swap(deployments.request("support@1.0.1"))
    found = target.find("support")
    assert found is not None
    assert (found.model, found.state) == ("support@1.0.0", "rolled back")
    with pytest.raises(DeployModelError, match="rolled back at once"):
        target.swap(deployments.request("support@1.0.1"))


def test_another_change_in_progress_is_awaited_by_the_user(deployments: Deployments) -> None:
    target = two_versions(deployments)
    hosted = deployments.hosted
    config = hosted.config("other", hosted.model("other"))
    hosted.client("sagemaker").update_endpoint(EndpointName=NAME, EndpointConfigName=config)
    with pytest.raises(DeployModelError, match="is being changed to other"):
        target.swap(deployments.request("support@1.0.1"))
    target.undeploy("support")  # waits for the change, which SageMaker refuses to interrupt


def golden(target: EndpointTarget, tmp: Any, *rows: dict[str, Any]) -> GoldenCheck:
    """Return a check of prompts."""
    file = tmp / "golden.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return GoldenCheck(read_golden(file), GoldenPrompts(file=file), target, "support")


def test_golden_prompts_that_differ_restore_the_version_before(deployments: Deployments) -> None:
    deployments.register("a", reply__json=reply("one"))
    target = deploy(deployments)
    deployments.register("b", reply__json=reply("two"))
    row = {"prompt": "x", "tokens": ["three"], "log_probs": [-3.0]}
    check = golden(target, deployments.root, row)
    request = replace(deployments.request("support@1.0.1"), verify=lambda: check.after("b"))
    with pytest.raises(RolledBackError, match=r"1 of 1 differ: line 1: token 1 is 'two'"):
        target.swap(request)
    assert "one" in deployments.hosted.ask(endpoint=NAME)
    assert len(deployments.names("EndpointConfig")) == 1


def test_golden_prompts_that_agree_let_the_version_serve(deployments: Deployments) -> None:
    deployments.register("a", reply__json=reply("one"))
    target = deploy(deployments)
    deployments.register("b", reply__json=reply("two", -0.52))
    row = {"prompt": "x", "tokens": ["two"], "log_probs": [-0.5]}
    check = golden(target, deployments.root, row)
    check.before("support@1.0.0")
    request = replace(deployments.request("support@1.0.1"), verify=lambda: check.after("b"))
    assert target.swap(request).model == "support@1.0.1"


def test_undeploy_leaves_nothing(deployments: Deployments) -> None:
    scaling = {"min": 1, "max": 4}
    target = two_versions(deployments, scaling=scaling)
    other = deployments.request("support@1.0.0", name="support-two")
    target.deploy(other)
    target.undeploy("support")
    target.undeploy("support")
    assert deployments.names("Endpoint") == ["temper-dev-support-two"]
    for kind in ("Model", "EndpointConfig"):
        assert [name[:22] for name in deployments.names(kind)] == ["temper-dev-support-two"]
    alarms = deployments.hosted.client("cloudwatch").describe_alarms()["MetricAlarms"]
    assert not [
        a for a in alarms if a["AlarmName"].startswith(f"{NAME}-") and "two" not in a["AlarmName"]
    ]
    targets = deployments.hosted.client("application-autoscaling").describe_scalable_targets(
        ServiceNamespace="sagemaker"
    )
    assert targets["ScalableTargets"] == []
    assert target.find("support") is None


def test_a_deployment_is_removed_while_it_is_created(deployments: Deployments) -> None:
    deployments.register("a")
    target = EndpointTarget(deployments.account)
    other = EndpointTarget(deployments.killed_after(0))
    with pytest.raises(KeyboardInterrupt):
        other.deploy(deployments.request("support@1.0.0"))
    target.undeploy("support")
    assert deployments.names("Endpoint") == deployments.names("Model") == []

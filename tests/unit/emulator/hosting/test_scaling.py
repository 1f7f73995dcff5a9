"""Alarms and scaling of the emulated hosting: by load, to zero, and back by an alarm."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from emulator.hosting.metrics import evaluate_expression
from tests.unit.emulator.conftest import ROLE, HostedAccount

Request = dict[str, Any]
VARIANT = {
    "ServiceNamespace": "sagemaker",
    "ResourceId": "endpoint/support/variant/main",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
}
COPIES = {
    "ServiceNamespace": "sagemaker",
    "ResourceId": "inference-component/base",
    "ScalableDimension": "sagemaker:inference-component:DesiredCopyCount",
}
STEP = {
    "AdjustmentType": "ChangeInCapacity",
    "Cooldown": 60,
    "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
}


def _track(metric: str, target: float) -> Request:
    return {
        "PolicyName": "load",
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": {
            "TargetValue": target,
            "ScaleInCooldown": 60,
            "ScaleOutCooldown": 60,
            "PredefinedMetricSpecification": {"PredefinedMetricType": metric},
        },
    }


def _alarm(account: HostedAccount, name: str, metric: str, policy: str = "", **of: str) -> None:
    account.client("cloudwatch").put_metric_alarm(
        AlarmName=name,
        Namespace="AWS/SageMaker",
        MetricName=metric,
        Dimensions=[{"Name": key, "Value": value} for key, value in of.items()],
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        TreatMissingData="notBreaching",
        AlarmActions=[policy] if policy else [],
    )


def _state(account: HostedAccount, name: str) -> str:
    (found,) = account.client("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"]
    return str(found["StateValue"])


def test_load_adds_instances_and_calm_removes_them(account: HostedAccount) -> None:
    account.deploy(account.config("one", account.model("one")))
    scaling = account.client("application-autoscaling")
    scaling.register_scalable_target(**VARIANT, MinCapacity=1, MaxCapacity=3)
    made = scaling.put_scaling_policy(
        **VARIANT, **_track("SageMakerVariantInvocationsPerInstance", 2)
    )
    assert ["High-" in alarm["AlarmName"] for alarm in made["Alarms"]] == [True, False]
    for _ in range(4):
        for _ in range(5):
            account.ask()
        account.advance(60)
    assert account.until("InService")["ProductionVariants"][0]["CurrentInstanceCount"] == 3
    account.advance(25 * 60)
    assert account.until("InService")["ProductionVariants"][0]["CurrentInstanceCount"] == 1
    listed = scaling.describe_scaling_activities(**VARIANT)["ScalingActivities"]
    assert listed[-1]["Description"] == "Setting desired capacity to 3."
    scaling.deregister_scalable_target(**VARIANT)
    assert scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"] == []
    names = [alarm["AlarmName"] for alarm in made["Alarms"]]
    assert account.client("cloudwatch").describe_alarms(AlarmNames=names)["MetricAlarms"] == []


def test_a_component_sleeps_and_is_woken_by_the_alarm(account: HostedAccount) -> None:
    main = {
        "VariantName": "main",
        "InstanceType": "ml.g5.xlarge",
        "InitialInstanceCount": 1,
        "ManagedInstanceScaling": {
            "Status": "ENABLED",
            "MinInstanceCount": 0,
            "MaxInstanceCount": 2,
        },
    }
    account.config("components", ProductionVariants=[main], ExecutionRoleArn=ROLE)
    account.deploy("components")
    compute = {"NumberOfAcceleratorDevicesRequired": 1, "MinMemoryRequiredInMb": 1024}
    account.client("sagemaker").create_inference_component(
        InferenceComponentName="base",
        EndpointName="support",
        VariantName="main",
        Specification={
            "ModelName": account.model("one"),
            "ComputeResourceRequirements": compute,
        },
        RuntimeConfig={"CopyCount": 1},
    )
    account.component_until("InService")
    scaling = account.client("application-autoscaling")
    scaling.register_scalable_target(**COPIES, MinCapacity=0, MaxCapacity=2)
    metric = "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution"
    scaling.put_scaling_policy(**COPIES, **_track(metric, 5))
    wake = scaling.put_scaling_policy(
        **COPIES,
        PolicyName="wake",
        PolicyType="StepScaling",
        StepScalingPolicyConfiguration=STEP,
    )
    _alarm(
        account,
        "wake",
        "NoCapacityInvocationFailures",
        wake["PolicyARN"],
        InferenceComponentName="base",
    )
    account.advance(25 * 60)
    asleep = account.component_until("InService")
    assert asleep["RuntimeConfig"]["DesiredCopyCount"] == 0
    assert account.describe()["ProductionVariants"][0]["CurrentInstanceCount"] == 0
    with pytest.raises(ClientError, match="has no capacity"):
        account.ask(InferenceComponentName="base")
    account.advance(60)
    awake = account.component_until("InService")
    assert awake["RuntimeConfig"]["CurrentCopyCount"] == 1
    assert account.ask("!", InferenceComponentName="base") == "one!"
    account.client("sagemaker").delete_inference_component(InferenceComponentName="base")
    account.advance(120)
    assert scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"] == []
    account.client("cloudwatch").delete_alarms(AlarmNames=["wake"])


def test_errors_of_the_new_model_roll_it_back(account: HostedAccount) -> None:
    """No state is set by hand: requests fail, the alarm sees it, the deployment rolls back."""
    of = {"EndpointName": "support", "VariantName": "main"}
    _alarm(account, "broken", "Invocation5XXErrors", **of)
    account.deploy(account.config("one", account.model("one"), count=2))
    account.config("bad", account.model("bad", error="x"), count=2)
    policy = {
        "TrafficRoutingConfiguration": {
            "Type": "CANARY",
            "WaitIntervalInSeconds": 600,
            "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 50},
        }
    }
    account.client("sagemaker").update_endpoint(
        EndpointName="support",
        EndpointConfigName="bad",
        DeploymentConfig={
            "BlueGreenUpdatePolicy": policy,
            "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "broken"}]},
        },
    )
    account.advance(150)
    assert account.ask() == "one"
    with pytest.raises(ClientError, match="the model is broken"):
        account.ask()
    account.advance(60)
    described = account.until("InService")
    assert described["EndpointConfigName"] == "one"
    assert "broken" in described["FailureReason"]
    assert [account.ask() for _ in range(3)] == ["one"] * 3
    account.advance(120)
    assert _state(account, "broken") == "OK", "no errors any more"
    account.client("cloudwatch").delete_alarms(AlarmNames=["broken"])


def test_requests_in_progress_are_measured(account: HostedAccount) -> None:
    account.deploy(account.config("one", account.model("one")))
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: account.ask('{"sleep": 0.3}'), range(3)))
    of = {"EndpointName": "support", "VariantName": "main"}
    store, now = account.emulator.hosting.metrics, account.clock.now()
    assert max(store.window("ConcurrentRequestsPerModel", of, now - 60, now)) == 3
    assert min(store.window("ModelLatency", of, now - 60, now)) >= 300_000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ResourceId": "endpoint/support/variant/other"}, "does not exist"),
        ({"ResourceId": "support"}, "Unsupported resource"),
        ({"MinCapacity": 4}, "MinCapacity must be at most MaxCapacity"),
        ({"MinCapacity": 0}, "needs asynchronous inference"),
    ],
)
def test_targets_that_cannot_be_scaled(
    account: HostedAccount, changes: Request, message: str
) -> None:
    account.deploy(account.config("one", account.model("one")))
    request = {**VARIANT, "MinCapacity": 1, "MaxCapacity": 3, **changes}
    with pytest.raises(ClientError, match=message):
        account.client("application-autoscaling").register_scalable_target(**request)


def test_a_policy_needs_a_target_and_a_fitting_metric(account: HostedAccount) -> None:
    scaling = account.client("application-autoscaling")
    tracked = _track("SageMakerInferenceComponentInvocationsPerCopy", 1)
    with pytest.raises(ClientError, match="No scalable target registered"):
        scaling.put_scaling_policy(**VARIANT, **tracked)
    account.deploy(account.config("one", account.model("one")))
    scaling.register_scalable_target(**VARIANT, MinCapacity=1, MaxCapacity=3)
    with pytest.raises(ClientError, match="cannot be used for endpoint/support"):
        scaling.put_scaling_policy(**VARIANT, **tracked)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("IF(calls > 0, errors / calls, 0)", 0.25),
        ("IF(none > 0, 1, 0)", None),
        ("FILL(none, 3) + calls * 2", 11.0),
        ("errors / (calls - calls)", None),
    ],
)
def test_metric_math(expression: str, value: float | None) -> None:
    values = {"calls": 4.0, "errors": 1.0, "none": None}
    assert evaluate_expression(expression, values) == value

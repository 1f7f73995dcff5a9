"""Emulated endpoints: creation, updates with and without guardrails, rollback, deletion."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError, WaiterError

from tests.unit.emulator.conftest import HostedAccount, model_request, variant

ARN = "arn:aws:sagemaker:us-east-1:123456789012:endpoint/support"
Request = dict[str, Any]


def test_an_endpoint_answers_with_its_model(account: HostedAccount) -> None:
    account.config("one", account.model("one"))
    sagemaker = account.client("sagemaker")
    created = sagemaker.create_endpoint(
        EndpointName="support",
        EndpointConfigName="one",
        Tags=[{"Key": "temper:deployment", "Value": "support"}],
    )
    assert created["EndpointArn"] == ARN
    assert account.describe()["EndpointStatus"] == "Creating"
    with pytest.raises(ClientError, match="Endpoint support of account 123456789012 not found"):
        account.ask("?")
    described = account.until("InService")
    (main,) = described["ProductionVariants"]
    assert (main["CurrentInstanceCount"], described["EndpointConfigName"]) == (1, "one")
    assert account.ask("?") == "one?"
    streamed = account.client("sagemaker-runtime").invoke_endpoint_with_response_stream(
        EndpointName="support", Body=b"!"
    )
    parts = [event["PayloadPart"]["Bytes"] for event in streamed["Body"]]
    assert b"".join(parts) == b"one!"
    assert sagemaker.list_tags(ResourceArn=ARN)["Tags"] == [
        {"Key": "temper:deployment", "Value": "support"}
    ]
    listed = sagemaker.list_endpoints(NameContains="supp", StatusEquals="InService")
    assert [endpoint["EndpointName"] for endpoint in listed["Endpoints"]] == ["support"]


def test_the_waiters_of_boto3_follow_an_endpoint(account: HostedAccount) -> None:
    account.deploy(account.config("one", account.model("one")))
    sagemaker = account.client("sagemaker")
    quickly = {"Delay": 0, "MaxAttempts": 2}
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="support", WaiterConfig=quickly)
    sagemaker.delete_endpoint(EndpointName="support")
    deleted = sagemaker.get_waiter("endpoint_deleted")
    with pytest.raises(WaiterError, match="Max attempts exceeded"):
        deleted.wait(EndpointName="support", WaiterConfig=quickly)
    account.advance(60)
    deleted.wait(EndpointName="support", WaiterConfig=quickly)
    with pytest.raises(ClientError, match=f'Could not find endpoint "{ARN}"'):
        account.describe()


def test_files_come_from_an_archive_too(account: HostedAccount) -> None:
    address = account.put_archive("packed/model.tar.gz", answer="packed")
    container = {"Image": model_request("m", "s3://b/")["PrimaryContainer"]["Image"]}
    account.client("sagemaker").create_model(
        ModelName="packed",
        ExecutionRoleArn="arn:aws:iam::123456789012:role/serving",
        Containers=[{**container, "ModelDataUrl": address}],
    )
    account.deploy(account.config("packed", "packed"))
    assert account.ask() == "packed"


@pytest.mark.parametrize("fault", ["crash", "mute"])
def test_a_container_without_health_fails_the_endpoint(account: HostedAccount, fault: str) -> None:
    if fault == "mute":
        account.emulator.hosting.context.faults.mute_models.add("bad")
    account.config("bad", account.model("bad", **({"crash": "x"} if fault == "crash" else {})))
    account.client("sagemaker").create_endpoint(EndpointName="support", EndpointConfigName="bad")
    described = account.until("Failed")
    assert "did not pass the ping health check" in described["FailureReason"]
    with pytest.raises(WaiterError, match="terminal failure"):
        account.client("sagemaker").get_waiter("endpoint_in_service").wait(EndpointName="support")
    account.client("sagemaker").delete_endpoint(EndpointName="support")


def test_no_capacity_fails_the_endpoint(account: HostedAccount) -> None:
    account.emulator.hosting.context.faults.no_capacity.add("ml.g5.xlarge")
    account.config("one", account.model("one"))
    account.client("sagemaker").create_endpoint(EndpointName="support", EndpointConfigName="one")
    assert "InsufficientInstanceCapacity" in account.until("Failed")["FailureReason"]


def test_an_operation_in_progress_excludes_others(account: HostedAccount) -> None:
    account.config("one", account.model("one"))
    sagemaker = account.client("sagemaker")
    names = {"EndpointName": "support", "EndpointConfigName": "one"}
    sagemaker.create_endpoint(**names)
    with pytest.raises(ClientError, match="Cannot create already existing endpoint"):
        sagemaker.create_endpoint(**names)
    with pytest.raises(ClientError, match=f'Cannot update in-progress endpoint "{ARN}"'):
        sagemaker.delete_endpoint(EndpointName="support")
    with pytest.raises(ClientError, match=f'Cannot update in-progress endpoint "{ARN}"'):
        sagemaker.update_endpoint(**names)
    account.until("InService")
    sagemaker.update_endpoint(**names)
    with pytest.raises(ClientError, match="Cannot update in-progress endpoint"):
        sagemaker.delete_endpoint(EndpointName="support")


def test_an_update_shows_the_old_configuration_until_it_is_over(account: HostedAccount) -> None:
    account.deploy(account.config("one", account.model("one")))
    account.config("two", account.model("two"), count=2)
    account.client("sagemaker").update_endpoint(EndpointName="support", EndpointConfigName="two")
    pending = account.describe()
    assert (pending["EndpointStatus"], pending["EndpointConfigName"]) == ("Updating", "one")
    summary = pending["PendingDeploymentSummary"]
    assert summary["EndpointConfigName"] == "two"
    assert summary["ProductionVariants"][0]["VariantStatus"][0]["Status"] == "Creating"
    assert account.ask() == "one", "the old fleet answers meanwhile"
    described = account.until("InService")
    assert described["EndpointConfigName"] == "two"
    assert described["ProductionVariants"][0]["CurrentInstanceCount"] == 2
    assert "PendingDeploymentSummary" not in described
    assert account.ask() == "two"


def _canary(percent: int = 25, *, alarms: tuple[str, ...] = (), wait: int = 300) -> Request:
    policy = {
        "TrafficRoutingConfiguration": {
            "Type": "CANARY",
            "WaitIntervalInSeconds": wait,
            "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": percent},
        },
        "TerminationWaitInSeconds": 120,
        "MaximumExecutionTimeoutInSeconds": 3600,
    }
    config: Request = {"BlueGreenUpdatePolicy": policy}
    if alarms:
        config["AutoRollbackConfiguration"] = {"Alarms": [{"AlarmName": a} for a in alarms]}
    return config


def _update(account: HostedAccount, deployment: Request, **changes: Any) -> None:
    """Deploy model `two` with four instances over model `one`."""
    account.deploy(account.config("one", account.model("one"), count=4))
    account.config("two", account.model("two"), count=4)
    account.client("sagemaker").update_endpoint(
        EndpointName="support",
        EndpointConfigName="two",
        DeploymentConfig=deployment,
        **changes,
    )


def _until_baking(account: HostedAccount) -> None:
    endpoint = account.emulator.hosting.endpoints.table.get("support")
    while endpoint.deployment and endpoint.deployment.status != "Baking":
        account.advance(5)
    (main,) = account.describe()["PendingDeploymentSummary"]["ProductionVariants"]
    assert main["VariantStatus"][0]["Status"] == "Baking"


def test_a_canary_has_its_share_before_the_rest_follows(account: HostedAccount) -> None:
    _update(account, _canary())
    _until_baking(account)
    answers = [account.ask() for _ in range(8)]
    assert (answers.count("two"), answers.count("one")) == (2, 6)
    account.advance(250)
    assert account.describe()["EndpointStatus"] == "Updating"
    account.advance(100)
    assert [account.ask() for _ in range(4)] == ["two"] * 4, "the old fleet waits to be ended"
    assert account.describe()["EndpointConfigName"] == "one"
    described = account.until("InService")
    assert described["EndpointConfigName"] == "two"
    assert described["LastDeploymentConfig"] == _canary()


def test_steps_of_a_linear_deployment(account: HostedAccount) -> None:
    routing = {
        "Type": "LINEAR",
        "WaitIntervalInSeconds": 60,
        "LinearStepSize": {"Type": "INSTANCE_COUNT", "Value": 1},
    }
    _update(account, {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing}})
    _until_baking(account)
    shares = []
    while (described := account.describe())["EndpointStatus"] == "Updating":
        (main,) = described["PendingDeploymentSummary"]["ProductionVariants"]
        shares.append(main["CurrentWeight"])
        account.advance(35)
    assert sorted(set(shares)) == [0.25, 0.5, 0.75]
    assert account.describe()["EndpointConfigName"] == "two"


def _put_alarm(account: HostedAccount, state: str) -> str:
    cloudwatch = account.client("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName="errors",
        Namespace="AWS/SageMaker",
        MetricName="Invocation5XXErrors",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
    )
    cloudwatch.set_alarm_state(AlarmName="errors", StateValue=state, StateReason="planted")
    return "errors"


def test_an_alarm_rolls_a_canary_back(account: HostedAccount) -> None:
    alarm = _put_alarm(account, "OK")
    _update(account, _canary(alarms=(alarm,)))
    _until_baking(account)
    _put_alarm(account, "ALARM")
    account.advance(10)
    assert account.describe()["EndpointStatus"] == "RollingBack"
    described = account.until("InService")
    assert described["EndpointConfigName"] == "one", "in service, with the configuration of before"
    assert "errors" in described["FailureReason"]
    assert [account.ask() for _ in range(4)] == ["one"] * 4


def test_a_silent_rollback_gives_no_reason(account: HostedAccount) -> None:
    account.emulator.hosting.context.faults.silent_rollbacks = 1
    _update(account, _canary())
    account.until("RollingBack")
    described = account.until("InService")
    assert described["EndpointConfigName"] == "one"
    assert "FailureReason" not in described
    account.client("sagemaker").update_endpoint(
        EndpointName="support", EndpointConfigName="two", RetainDeploymentConfig=True
    )
    assert account.until("InService")["EndpointConfigName"] == "two", "the second time it works"
    assert account.describe()["LastDeploymentConfig"] == _canary()


def test_a_model_that_cannot_start_leaves_the_old_one(account: HostedAccount) -> None:
    account.deploy(account.config("one", account.model("one")))
    account.config("bad", account.model("bad", crash="x"))
    account.client("sagemaker").update_endpoint(EndpointName="support", EndpointConfigName="bad")
    account.until("RollingBack")
    described = account.until("InService")
    assert described["EndpointConfigName"] == "one"
    assert "ping health check" in described["FailureReason"]
    assert account.ask() == "one"


def test_retained_properties_survive_an_update(account: HostedAccount) -> None:
    account.deploy(account.config("one", account.model("one")))
    sagemaker = account.client("sagemaker")
    sagemaker.update_endpoint_weights_and_capacities(
        EndpointName="support",
        DesiredWeightsAndCapacities=[{"VariantName": "main", "DesiredInstanceCount": 3}],
    )
    assert account.until("InService")["ProductionVariants"][0]["CurrentInstanceCount"] == 3
    account.config("two", account.model("two"))
    for retain, count in ((True, 3), (False, 1)):
        sagemaker.update_endpoint(
            EndpointName="support", EndpointConfigName="two", RetainAllVariantProperties=retain
        )
        described = account.until("InService")
        assert described["ProductionVariants"][0]["CurrentInstanceCount"] == count


def test_a_deleted_configuration_stops_the_next_update(account: HostedAccount) -> None:
    account.deploy(account.config("one", account.model("one")))
    sagemaker = account.client("sagemaker")
    sagemaker.delete_endpoint_config(EndpointConfigName="one")
    account.config("two", account.model("two"))
    with pytest.raises(ClientError, match="Could not find endpoint configuration"):
        sagemaker.update_endpoint(EndpointName="support", EndpointConfigName="two")


def test_an_error_of_the_model_is_a_model_error(account: HostedAccount) -> None:
    account.deploy(account.config("bad", account.model("bad", error="x")))
    with pytest.raises(ClientError, match="the model is broken") as caught:
        account.ask()
    response = caught.value.response
    assert response["Error"]["Code"] == "ModelError"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert response["OriginalStatusCode"] == 500


def test_two_variants_share_the_traffic_by_weight(account: HostedAccount) -> None:
    variants = [
        variant(account.model("a"), "a", InitialVariantWeight=3),
        variant(account.model("b"), "b", InitialVariantWeight=1),
    ]
    account.deploy(account.config("both", ProductionVariants=variants))
    answers = [account.ask() for _ in range(40)]
    assert 8 <= answers.count("b") <= 12
    assert account.ask(TargetVariant="b") == "b"

"""Asynchronous inference and batch transform in the emulated hosting."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.unit.emulator.conftest import BUCKET, HostedAccount

Request = dict[str, Any]
ASYNC: Request = {
    "AsyncInferenceConfig": {"OutputConfig": {"S3OutputPath": f"s3://{BUCKET}/answers"}}
}


def _read(account: HostedAccount, address: str) -> str:
    key = address.removeprefix(f"s3://{BUCKET}/")
    return str(account.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read().decode())


def _ask(account: HostedAccount, **request: Any) -> Request:
    answer: Request = account.client("sagemaker-runtime").invoke_endpoint_async(
        EndpointName="support", **request
    )
    account.advance(10)
    account.emulator.hosting.queues.join()
    return answer


def test_an_answer_is_written_to_s3(account: HostedAccount) -> None:
    account.deploy(account.config("one", account.model("one"), **ASYNC))
    account.client("s3").put_object(Bucket=BUCKET, Key="asked/1.json", Body=b"?")
    written = _ask(account, InputLocation=f"s3://{BUCKET}/asked/1.json", InferenceId="a-1")
    assert written["InferenceId"] == "a-1"
    assert _read(account, written["OutputLocation"]) == "one?"
    assert _read(account, _ask(account, Body=b"!")["OutputLocation"]) == "one!"


def test_an_error_is_written_to_the_failure_path(account: HostedAccount) -> None:
    account.deploy(account.config("bad", account.model("bad", error="x"), **ASYNC))
    written = _ask(account, Body=b"?")
    assert _read(account, written["FailureLocation"]) == "the model is broken"
    with pytest.raises(ClientError, match="NoSuchKey"):
        _read(account, written["OutputLocation"])


def test_requests_wait_while_there_is_no_instance(account: HostedAccount) -> None:
    account.deploy(account.config("one", account.model("one"), **ASYNC))
    target = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": "endpoint/support/variant/main",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    scaling = account.client("application-autoscaling")
    scaling.register_scalable_target(**target, MinCapacity=0, MaxCapacity=1)
    policy = scaling.put_scaling_policy(
        **target,
        PolicyName="wake",
        PolicyType="StepScaling",
        StepScalingPolicyConfiguration={
            "AdjustmentType": "ChangeInCapacity",
            "Cooldown": 60,
            "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
        },
    )
    account.client("cloudwatch").put_metric_alarm(
        AlarmName="backlog",
        Namespace="AWS/SageMaker",
        MetricName="HasBacklogWithoutCapacity",
        Dimensions=[{"Name": "EndpointName", "Value": "support"}],
        Statistic="Average",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        TreatMissingData="notBreaching",
        AlarmActions=[policy["PolicyARN"]],
    )
    account.client("sagemaker").update_endpoint_weights_and_capacities(
        EndpointName="support",
        DesiredWeightsAndCapacities=[{"VariantName": "main", "DesiredInstanceCount": 0}],
    )
    account.advance(180)
    assert account.describe()["ProductionVariants"][0]["CurrentInstanceCount"] == 0
    written = _ask(account, Body=b"?")
    with pytest.raises(ClientError, match="NoSuchKey"):
        _read(account, written["OutputLocation"])
    account.advance(300)
    account.emulator.hosting.queues.join()
    assert _read(account, written["OutputLocation"]) == "one?"
    account.client("cloudwatch").delete_alarms(AlarmNames=["backlog"])


def test_other_endpoints_take_no_asynchronous_requests(account: HostedAccount) -> None:
    account.deploy(account.config("one", account.model("one")))
    with pytest.raises(ClientError, match="is not an asynchronous endpoint"):
        _ask(account, Body=b"?")


def _job(account: HostedAccount, model: str, **changes: Any) -> Request:
    for name, text in (("a.jsonl", "1\n2\n"), ("b/c.jsonl", "3\n")):
        account.client("s3").put_object(Bucket=BUCKET, Key=f"rows/{name}", Body=text.encode())
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/rows/"}}
    request = {
        "TransformJobName": model,
        "ModelName": model,
        "BatchStrategy": "SingleRecord",
        "TransformInput": {"DataSource": source, "SplitType": "Line"},
        "TransformOutput": {"S3OutputPath": f"s3://{BUCKET}/out/{model}", "AssembleWith": "Line"},
        "TransformResources": {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1},
        **changes,
    }
    account.client("sagemaker").create_transform_job(**request)
    return request


def _end(account: HostedAccount, name: str) -> Request:
    job = account.emulator.hosting.transform.table.get(name)
    for _ in range(200):
        account.advance(5)
        job.join()
        if job.status in ("Completed", "Failed", "Stopped"):
            break
        time.sleep(0.01)
    described: Request = account.client("sagemaker").describe_transform_job(TransformJobName=name)
    return described


def test_a_transform_job_answers_every_line(account: HostedAccount) -> None:
    _job(account, account.model("one"))
    with pytest.raises(ClientError, match="must be unique") as caught:
        _job(account, "one")
    assert caught.value.response["Error"]["Code"] == "ResourceInUse"
    assert _end(account, "one")["TransformJobStatus"] == "Completed"
    waiter = account.client("sagemaker").get_waiter("transform_job_completed_or_stopped")
    waiter.wait(TransformJobName="one", WaiterConfig={"Delay": 0, "MaxAttempts": 1})
    assert _read(account, f"s3://{BUCKET}/out/one/a.jsonl.out") == "one1\none2\n"
    assert _read(account, f"s3://{BUCKET}/out/one/b/c.jsonl.out") == "one3\n"


@pytest.mark.parametrize(
    ("files", "reason"),
    [({"error": "x"}, "the container answered 500"), ({"crash": "x"}, "ping health check")],
)
def test_a_transform_job_fails_with_its_container(
    account: HostedAccount, files: dict[str, str], reason: str
) -> None:
    _job(account, account.model("bad", **files))
    described = _end(account, "bad")
    assert described["TransformJobStatus"] == "Failed"
    assert reason in described["FailureReason"]


def test_a_transform_job_is_stopped(account: HostedAccount) -> None:
    _job(account, account.model("one"))
    account.client("sagemaker").stop_transform_job(TransformJobName="one")
    assert _end(account, "one")["TransformJobStatus"] == "Stopped"
    with pytest.raises(ClientError, match="is in status Stopped"):
        account.client("sagemaker").stop_transform_job(TransformJobName="one")


def test_rows_are_sent_in_batches(account: HostedAccount) -> None:
    _job(account, account.model("one"), BatchStrategy="MultiRecord", MaxPayloadInMB=1)
    _end(account, "one")
    assert json.dumps(_read(account, f"s3://{BUCKET}/out/one/a.jsonl.out")) == '"one1\\n2\\n\\n"'

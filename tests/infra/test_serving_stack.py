"""Tests of the serving stack and of the stacks of deployments, read from the templates."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import yaml
from botocore.validate import ParamValidator

from catalog import deployment_tags
from monitoring.__main__ import options_from_environment
from monitoring.options import check_options
from stacks.errors import SettingsError
from stacks.settings import read_environment
from stacks.settings.serving import LONGEST_VARIABLE
from tests.infra.conftest import TESTS, Assembly
from tests.infra.permissions.resolved import ResolvedRoles

DIGEST = "0123456789abcdef" * 4


def _one(assembly: Assembly, stack: str, kind: str) -> dict[str, Any]:
    """Return the properties of the one resource of a type in a stack, references resolved."""
    resources = assembly.templates[stack]["Resources"].values()
    [resource] = [each for each in resources if each["Type"] == kind]
    resolved: dict[str, Any] = ResolvedRoles(assembly).resolve(stack, resource["Properties"])
    return resolved


def _all(assembly: Assembly, stack: str, kind: str) -> list[dict[str, Any]]:
    resources = assembly.templates[stack]["Resources"].values()
    return [each["Properties"] for each in resources if each["Type"] == kind]


def test_models_are_named_by_content_and_reach_no_network(everything: Assembly) -> None:
    for stack, kind in (("serving-assistant", "serve"), ("serving-drafts", "serve-gpu")):
        for model in _all(everything, stack, "AWS::SageMaker::Model"):
            container = ResolvedRoles(everything).resolve(stack, model["PrimaryContainer"])
            assert model["EnableNetworkIsolation"] is True
            assert len(model["VpcConfig"]["Subnets"]) == 2
            assert len(model["VpcConfig"]["SecurityGroupIds"]) == 1
            repository = f"111122223333.dkr.ecr.us-east-1.amazonaws.com/temper-all/{kind}@sha256:"
            assert container["Image"].startswith(repository)
            source = container["ModelDataSource"]["S3DataSource"]
            assert source["CompressionType"] == "None"
            bucket = "s3://temper-all-models-111122223333-us-east-1/registry/sha256/"
            assert source["S3Uri"].startswith(bucket)
            assert source["S3Uri"].endswith("/")
            assert container["Environment"]["TEMPER_SERVE_NAME"] == stack.partition("-")[2]


def test_an_endpoint_shifts_traffic_and_rolls_back_by_its_alarms(everything: Assembly) -> None:
    endpoint = _one(everything, "serving-assistant", "AWS::SageMaker::Endpoint")
    policy = endpoint["DeploymentConfig"]["BlueGreenUpdatePolicy"]
    assert endpoint["EndpointName"] == "temper-all-assistant"
    assert policy["TrafficRoutingConfiguration"] == {
        "Type": "LINEAR",
        "LinearStepSize": {"Type": "CAPACITY_PERCENT", "Value": 25},
        "WaitIntervalInSeconds": 600,
    }
    assert policy["TerminationWaitInSeconds"] == 600
    named = endpoint["DeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"]
    alarms = _all(everything, "serving-assistant", "AWS::CloudWatch::Alarm")
    watch = {f"temper-all-assistant-{name}" for name in ("drift", "unwatched", "quality", "golden")}
    assert {each["AlarmName"] for each in named} | watch == {each["AlarmName"] for each in alarms}
    assert endpoint["RetainAllVariantProperties"] is True


def test_a_configuration_is_encrypted_captures_and_shadows(everything: Assembly) -> None:
    configuration = _one(everything, "serving-assistant", "AWS::SageMaker::EndpointConfig")
    assert ":key/DataKey" in configuration["KmsKeyId"]
    capture = configuration["DataCaptureConfig"]
    assert capture["InitialSamplingPercentage"] == 20
    assert capture["DestinationS3Uri"].endswith("/serving/assistant/capture")
    assert capture["KmsKeyId"] == configuration["KmsKeyId"]
    [shadow] = configuration["ShadowProductionVariants"]
    assert (shadow["InitialVariantWeight"], shadow["InstanceType"]) == (0.1, "ml.m5.xlarge")


def test_a_component_scales_to_zero_and_wakes(everything: Assembly) -> None:
    configuration = _one(everything, "serving-drafts", "AWS::SageMaker::EndpointConfig")
    [variant] = configuration["ProductionVariants"]
    assert variant["ManagedInstanceScaling"] == {
        "Status": "ENABLED",
        "MinInstanceCount": 0,
        "MaxInstanceCount": 2,
    }
    assert "ModelName" not in variant
    # Instances with local disks refuse a key.
    assert "KmsKeyId" not in configuration
    target = _one(everything, "serving-drafts", "AWS::ApplicationAutoScaling::ScalableTarget")
    assert target["ResourceId"] == "inference-component/temper-all-drafts"
    assert (target["MinCapacity"], target["MaxCapacity"]) == (0, 2)
    policies = {
        policy["PolicyType"]: policy
        for policy in _all(
            everything, "serving-drafts", "AWS::ApplicationAutoScaling::ScalingPolicy"
        )
    }
    assert set(policies) == {"TargetTrackingScaling", "StepScaling"}
    alarms = _all(everything, "serving-drafts", "AWS::CloudWatch::Alarm")
    [wake] = [alarm for alarm in alarms if alarm["AlarmName"] == "temper-all-drafts-wake"]
    assert wake["MetricName"] == "NoCapacityInvocationFailures"
    [action] = wake["AlarmActions"]
    resources = everything.templates["serving-drafts"]["Resources"]
    assert resources[action["Ref"]]["Properties"]["PolicyType"] == "StepScaling"


@pytest.mark.parametrize("stack", ["serving-assistant", "serving-drafts"])
def test_what_is_billed_has_the_tags_of_its_end(everything: Assembly, stack: str) -> None:
    billed = ("AWS::SageMaker::Endpoint", "AWS::SageMaker::InferenceComponent")
    for kind in billed:
        for properties in _all(everything, stack, kind):
            tags = {tag["Key"]: tag["Value"] for tag in properties["Tags"]}
            assert tags[deployment_tags.STACK] == f"temper-all-{stack}"
            assert tags[deployment_tags.DEPLOYMENT] == stack.partition("-")[2]
            assert set(tags) & set(deployment_tags.ENDS)
    [endpoint] = _all(everything, "serving-drafts", "AWS::SageMaker::Endpoint")
    tags = {tag["Key"]: tag["Value"] for tag in endpoint["Tags"]}
    assert tags[deployment_tags.UNTIL] == "2027-03-31T16:00:00Z", "ends are in UTC"
    assert tags[deployment_tags.VERSION] == "0.3.0"


def test_a_deployment_can_be_deleted_and_its_budget_names_it(everything: Assembly) -> None:
    manifest = json.loads((everything.outdir / "manifest.json").read_text(encoding="utf-8"))
    protected = {
        name: artifact["properties"].get("terminationProtection", False)
        for name, artifact in manifest["artifacts"].items()
        if artifact["type"] == "aws:cloudformation:stack"
    }
    assert not protected["temper-all-serving-assistant"]
    assert protected["temper-all-serving"]
    budget = _one(everything, "serving-assistant", "AWS::Budgets::Budget")["Budget"]
    assert budget["BudgetName"].startswith("temper-all-assistant")
    assert budget["CostFilters"] == {"TagKeyValue": ["user:temper:deployment$assistant"]}


OPERATIONS = {
    "AWS::SageMaker::Endpoint": "CreateEndpoint",
    "AWS::SageMaker::EndpointConfig": "CreateEndpointConfig",
    "AWS::SageMaker::InferenceComponent": "CreateInferenceComponent",
    "AWS::SageMaker::Model": "CreateModel",
}
# CloudFormation sends these with an update, and names resources that the template does not name.
OF_UPDATES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(OPERATIONS, ()),
    "AWS::SageMaker::Endpoint": ("RetainAllVariantProperties", "ExcludeRetainedVariantProperties"),
    "AWS::SageMaker::InferenceComponent": ("DeploymentConfig",),
}
GENERATED = {"EndpointConfigName": "generated", "ModelName": "generated"}


@pytest.mark.parametrize("stack", ["serving-assistant", "serving-drafts"])
def test_the_properties_are_requests_that_the_service_takes(
    everything: Assembly, stack: str
) -> None:
    service = botocore.session.get_session().get_service_model("sagemaker")
    resolved = ResolvedRoles(everything)
    checked = 0
    for resource in everything.templates[stack]["Resources"].values():
        operation = OPERATIONS.get(resource["Type"])
        if operation is None:
            continue
        shape = service.operation_model(operation).input_shape
        assert shape is not None
        request = {**resolved.resolve(stack, resource["Properties"])}
        for name in OF_UPDATES[resource["Type"]]:
            request.pop(name, None)
        for name, value in GENERATED.items():
            if name in shape.required_members:
                request.setdefault(name, value)
        report = ParamValidator().validate(request, shape)
        assert not report.has_errors(), f"{resource['Type']}: {report.generate_report()}"
        checked += 1
    assert checked >= 4


def test_a_variable_longer_than_the_service_takes_is_refused(tmp_path: Path) -> None:
    content = yaml.safe_load((TESTS / "everything.yaml").read_text(encoding="utf-8"))
    variables = {"TEMPER_SERVE_MODEL": "x" * (LONGEST_VARIABLE + 1)}
    content["serving"]["deployments"][0]["variables"] = variables
    (tmp_path / "everything.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(SettingsError, match="1025 characters, and a variable holds 1024"):
        read_environment(tmp_path, "everything")


def test_a_watch_starts_a_processing_job_that_sagemaker_accepts(everything: Assembly) -> None:
    schedules = _all(everything, "serving-assistant", "AWS::Scheduler::Schedule")
    [schedule] = [each for each in schedules if each["ScheduleExpression"] == "rate(24 hours)"]
    schedule = ResolvedRoles(everything).resolve("serving-assistant", schedule)
    target = schedule["Target"]
    assert target["Arn"] == "arn:aws:scheduler:::aws-sdk:sagemaker:createProcessingJob"
    request = json.loads(target["Input"])
    service = botocore.session.get_session().get_service_model("sagemaker")
    shape = service.operation_model("CreateProcessingJob").input_shape
    report = ParamValidator().validate(request, shape)
    assert not report.has_errors(), report.generate_report()
    name = request["ProcessingJobName"].replace("<aws.scheduler.execution-id>", "0" * 36)
    assert len(name) <= 63
    places = {each["InputName"]: each["S3Input"] for each in request["ProcessingInputs"]}
    assert places["capture"]["S3Uri"].endswith("/capture/temper-all-assistant/main/")
    home = "s3://temper-all-runs-111122223333-us-east-1/serving/assistant"
    configuration = _one(everything, "serving-assistant", "AWS::SageMaker::EndpointConfig")
    assert configuration["DataCaptureConfig"]["DestinationS3Uri"] == f"{home}/capture"
    assert request["AppSpecification"]["ImageUri"].split("@")[0].endswith("temper-all/serve")
    variables = request["Environment"]
    assert max(len(value) for value in variables.values()) <= 256
    judged = ("TEMPER_WATCH_JUDGE", "TEMPER_WATCH_JUDGED", "TEMPER_WATCH_MAX_COST")
    assert [variables[name] for name in judged] == [
        *("us.anthropic.claude-haiku-4-5-20251001-v1:0", "20", "0.5")
    ]
    options = options_from_environment({k: v for k, v in variables.items() if k not in judged})
    check_options(replace(options, reference=None))
    for name, where in (("capture", options.log), ("model", options.model)):
        assert places[name]["LocalPath"] == where
    assert str(options.reference).startswith(places["reference"]["LocalPath"])
    output = request["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]
    assert output["LocalPath"] == str(options.out)
    replies = request["ProcessingOutputConfig"]["Outputs"][1]["S3Output"]
    assert replies["S3Uri"] == f"{places['reference']['S3Uri']}judge-cache"


def test_a_watch_alarms_on_k_of_n_windows(everything: Assembly) -> None:
    alarms = {
        each["AlarmName"]: each
        for each in _all(everything, "serving-assistant", "AWS::CloudWatch::Alarm")
    }
    drift = alarms["temper-all-assistant-drift"]
    assert (drift["DatapointsToAlarm"], drift["EvaluationPeriods"], drift["Period"]) == (
        2, 3, 86400,
    )  # fmt: skip
    assert (drift["MetricName"], drift["TreatMissingData"]) == ("Drifted", "notBreaching")
    assert drift["Dimensions"] == [{"Name": "Deployment", "Value": "assistant"}]
    assert alarms["temper-all-assistant-unwatched"]["TreatMissingData"] == "breaching"


def test_golden_prompts_are_replayed_with_the_least_permissions(everything: Assembly) -> None:
    schedules = _all(everything, "serving-assistant", "AWS::Scheduler::Schedule")
    assert "rate(1 hour)" in [each["ScheduleExpression"] for each in schedules]
    resolved = ResolvedRoles(everything)
    statements = {
        statement["Sid"]: statement
        for policy in _all(everything, "serving-assistant", "AWS::IAM::ManagedPolicy")
        for statement in resolved.resolve("serving-assistant", policy)["PolicyDocument"][
            "Statement"
        ]
    }
    ask, read = statements["Ask"], statements["ReadPrompts"]
    assert ask["Action"] == "sagemaker:InvokeEndpoint"
    assert ask["Resource"].endswith(":endpoint/temper-all-assistant")
    assert read["Resource"].endswith("/serving/assistant/watch/golden.jsonl")
    alarms = _all(everything, "serving-assistant", "AWS::CloudWatch::Alarm")
    [golden] = [each for each in alarms if each["AlarmName"].endswith("-golden")]
    assert (golden["EvaluationPeriods"], golden["Period"]) == (2, 3600)
    assert golden["TreatMissingData"] == "breaching"


def test_a_replay_does_not_keep_an_idle_deployment(tmp_path: Path) -> None:
    text = (TESTS / "everything.yaml").read_text()
    golden = "golden: {every_hours: 24}"
    assert golden in text and "every_hours: 8, min" in text
    changed = text.replace(golden, "golden: {every_hours: 12}").replace(
        "every_hours: 8, min", "every_hours: 6, min"
    )
    (tmp_path / "everything.yaml").write_text(changed)
    with pytest.raises(SettingsError) as caught:
        read_environment(tmp_path, "everything")
    message = str(caught.value)
    assert "deployments.1.golden.every_hours: a replay every 12 hours counts as calls" in message
    assert "bedrock.golden.2.every_hours: a replay every 6 hours counts as calls" in message

"""Tests that what is idle or past its end is removed, but nothing committed, busy or foreign."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from botocore.stub import ANY

from catalog import deployment_tags
from stacks.handlers.undeploy import main, rule
from stacks.handlers.undeploy.rule import EndRule
from tests.infra.handlers.conftest import NOW, Stub

PREFIX = "temper-dev"
THROUGHPUT = "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/"
SAGEMAKER = "arn:aws:sagemaker:us-east-1:123456789012:"
NOVA = "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-lite-v1:0"
OLD = NOW - timedelta(days=2)
PAST, FUTURE = "2026-11-20T11:30:00Z", "2026-11-21"


class Account:
    """Stubbed services, and the call under test."""

    def __init__(self, stub: Stub) -> None:
        services = (
            "bedrock", "cloudwatch", "sagemaker", "application-autoscaling", "cloudformation"
        )  # fmt: skip
        stubs = {service: stub(service) for service in services}
        self.client: Callable[[str], Any] = lambda service: stubs[service][0]
        self.bedrock, self.cloudwatch = stubs["bedrock"][1], stubs["cloudwatch"][1]
        self.sagemaker, self.scaling = (
            stubs["sagemaker"][1],
            stubs["application-autoscaling"][1],
        )
        self.cloudformation = stubs["cloudformation"][1]

    def calls(self, number: float) -> None:
        """Answer the next question for calls."""
        values = [number] if number else []
        result = {"Id": "calls0", "StatusCode": "Complete"}
        answer = {"MetricDataResults": [{**result, "Timestamps": [NOW] * len(values)}]}
        answer["MetricDataResults"][0]["Values"] = values
        self.cloudwatch.add_response("get_metric_data", answer)

    def has_throughput(self, *summaries: dict[str, Any], **tags: str) -> None:
        self.bedrock.add_response(
            "list_provisioned_model_throughputs", {"provisionedModelSummaries": list(summaries)}
        )
        pairs = [{"key": key, "value": value} for key, value in tags.items()]
        for summary in summaries:
            if summary["provisionedModelName"].startswith(f"{PREFIX}-"):
                self.bedrock.add_response(
                    "list_tags_for_resource",
                    {"tags": pairs},
                    {"resourceARN": summary["provisionedModelArn"]},
                )

    def deletes_throughput(self, letter: str) -> None:
        self.bedrock.add_response(
            "delete_provisioned_model_throughput",
            {},
            {"provisionedModelId": THROUGHPUT + letter * 12},
        )

    def has_endpoint(
        self,
        name: str,
        tags: dict[str, str],
        *,
        status: str = "InService",
        components: dict[str, str] | None = None,
    ) -> None:
        """Answer the questions of a listing; `components` are statuses by name."""
        summary = {
            "EndpointName": name,
            "EndpointArn": f"{SAGEMAKER}endpoint/{name}",
            "CreationTime": OLD,
            "LastModifiedTime": OLD,
            "EndpointStatus": status,
        }
        self.sagemaker.add_response("list_endpoints", {"Endpoints": [summary]})
        if not name.startswith(f"{PREFIX}-"):
            return
        self._has_tags(tags)
        self._has_components(name, components or {})
        self.describes(name)

    def _has_tags(self, tags: dict[str, str]) -> None:
        pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
        self.sagemaker.add_response("list_tags", {"Tags": pairs})

    def _has_components(self, endpoint: str, components: dict[str, str]) -> None:
        summaries = [
            {
                "CreationTime": OLD,
                "InferenceComponentArn": f"{SAGEMAKER}inference-component/{name}",
                "InferenceComponentName": name,
                "InferenceComponentStatus": status,
                "EndpointArn": f"{SAGEMAKER}endpoint/{endpoint}",
                "EndpointName": endpoint,
                "VariantName": "main",
                "LastModifiedTime": OLD,
            }
            for name, status in components.items()
        ]
        self.sagemaker.add_response(
            "list_inference_components",
            {"InferenceComponents": summaries},
            {"EndpointNameEquals": endpoint},
        )
        for _ in components:
            self._has_tags({})

    def describes(self, name: str) -> None:
        self.sagemaker.add_response(
            "describe_endpoint",
            {
                "EndpointName": name,
                "EndpointArn": f"{SAGEMAKER}endpoint/{name}",
                "EndpointConfigName": f"{name}-1",
                "ProductionVariants": [{"VariantName": "main"}],
                "EndpointStatus": "InService",
                "CreationTime": OLD,
                "LastModifiedTime": OLD,
            },
            {"EndpointName": name},
        )

    def scales(self, resource: str, dimension: str = "") -> None:
        """Answer whether a resource is scaled, and expect the end of its scaling if it is."""
        target = {
            "ServiceNamespace": "sagemaker",
            "ResourceId": resource,
            "ScalableDimension": dimension,
            "MinCapacity": 0,
            "MaxCapacity": 2,
            "RoleARN": "arn:aws:iam::123456789012:role/scaling",
            "CreationTime": OLD,
        }
        self.scaling.add_response(
            "describe_scalable_targets",
            {"ScalableTargets": [target] if dimension else []},
            {"ServiceNamespace": "sagemaker", "ResourceIds": [resource]},
        )
        if dimension:
            keys = ("ServiceNamespace", "ResourceId", "ScalableDimension")
            self.scaling.add_response(
                "deregister_scalable_target", {}, {key: target[key] for key in keys}
            )

    def removes_components(self, endpoint: str, components: dict[str, str]) -> None:
        """Expect the listing of components before the endpoint, and the removal of each."""
        self._has_components(endpoint, components)
        for name, status in components.items():
            if status == "InService":
                self.scales(f"inference-component/{name}")
                self.sagemaker.add_response(
                    "delete_inference_component", {}, {"InferenceComponentName": name}
                )

    def removes_endpoint(self, name: str) -> None:
        """Expect the removal of an endpoint, of its configuration and of its model."""
        self.describes(name)
        self._has_components(name, {})
        self.scales(f"endpoint/{name}/variant/main", "sagemaker:variant:DesiredInstanceCount")
        self.sagemaker.add_response("delete_endpoint", {}, {"EndpointName": name})
        configuration = {"EndpointConfigName": f"{name}-1"}
        self.sagemaker.add_response(
            "describe_endpoint_config",
            {
                **configuration,
                "EndpointConfigArn": f"{SAGEMAKER}endpoint-config/{name}-1",
                "ProductionVariants": [{"VariantName": "main", "ModelName": f"{name}-1"}],
                "CreationTime": OLD,
            },
            configuration,
        )
        self.sagemaker.add_response("delete_endpoint_config", {}, configuration)
        self.sagemaker.add_response("delete_model", {}, {"ModelName": f"{name}-1"})

    def run(
        self, kind: str, *, everything: bool = False, idle_hours: int | None = None, **counts: int
    ) -> dict[str, list[str]]:
        """Run the function, and expect the counts that it publishes."""
        values: Any = ANY
        if counts:
            values = [
                {"MetricName": name, "Value": value, "Unit": "Count", "Timestamp": NOW}
                for name, value in zip(main.METRICS[kind].values(), counts.values(), strict=True)
            ]
        self.cloudwatch.add_response(
            "put_metric_data", {}, {"Namespace": "Temper/x", "MetricData": values}
        )
        return main.undeploy(
            client=self.client,
            rule=EndRule(NOW, idle_hours, everything),
            kinds=[kind],
            prefix=PREFIX,
            namespace="Temper/x",
        )


@pytest.fixture
def account(stub: Stub) -> Account:
    return Account(stub)


def _throughput(name: str, letter: str, status: str = "InService", **more: Any) -> dict[str, Any]:
    return {
        "provisionedModelName": name,
        "provisionedModelArn": THROUGHPUT + letter * 12,
        "modelArn": NOVA,
        "desiredModelArn": NOVA,
        "foundationModelArn": NOVA,
        "modelUnits": 1,
        "desiredModelUnits": 1,
        "status": status,
        "creationTime": OLD,
        "lastModifiedTime": NOW,
        **more,
    }


def test_the_tags_are_those_of_the_catalog() -> None:
    for name in ("UNTIL", "IDLE_HOURS", "FOREVER", "STACK"):
        assert getattr(rule, name) == getattr(deployment_tags, name)


def test_the_nightly_run_removes_throughput_that_is_called_too(account: Account) -> None:
    account.has_throughput(_throughput("temper-dev-a-1", "a"))
    account.calls(100)
    account.deletes_throughput("a")
    outcome = account.run("throughput", everything=True, idle_hours=6)
    assert outcome["deleted"] == [THROUGHPUT + "a" * 12]


@pytest.mark.parametrize("end", [{rule.UNTIL: FUTURE}, {rule.FOREVER: "customers use it"}])
def test_the_nightly_run_leaves_what_states_a_later_end(
    account: Account, end: dict[str, str]
) -> None:
    account.has_throughput(_throughput("temper-dev-a-1", "a"), **end)
    assert account.run("throughput", everything=True, idle_hours=6, idle=0)["deleted"] == []


def test_idle_removes_only_what_nobody_calls(account: Account) -> None:
    account.has_throughput(_throughput("temper-dev-a-1", "a"), _throughput("temper-dev-b-1", "b"))
    account.calls(100)
    account.calls(0)
    account.calls(0)
    account.deletes_throughput("b")
    outcome = account.run("throughput", idle_hours=6, idle=0)
    assert outcome == {
        "deleted": [THROUGHPUT + "b" * 12],
        "kept": [THROUGHPUT + "a" * 12],
        "failed": [],
    }


def test_what_is_younger_than_the_hours_is_not_idle(account: Account) -> None:
    young = _throughput("temper-dev-a-1", "a", creationTime=NOW - timedelta(hours=1))
    account.has_throughput(young)
    assert account.run("throughput", idle_hours=6, idle=0)["kept"] == [THROUGHPUT + "a" * 12]


def test_a_commitment_stays_and_its_idleness_is_reported(account: Account) -> None:
    account.has_throughput(_throughput("temper-dev-a-1", "a", commitmentDuration="OneMonth"))
    account.calls(0)
    account.calls(0)
    assert account.run("throughput", idle_hours=6, idle=1)["kept"] == [THROUGHPUT + "a" * 12]


def test_throughput_is_removed_once_its_commitment_is_over(account: Account) -> None:
    over = {"commitmentDuration": "OneMonth", "commitmentExpirationTime": NOW - timedelta(hours=1)}
    account.has_throughput(_throughput("temper-dev-a-1", "a", **over))
    account.calls(0)
    account.calls(0)
    account.deletes_throughput("a")
    outcome = account.run("throughput", idle_hours=6, idle=0)
    assert outcome["deleted"] == [THROUGHPUT + "a" * 12]


def test_what_is_being_created_stays_for_the_next_time(account: Account) -> None:
    account.has_throughput(_throughput("temper-dev-a-1", "a", "Creating", creationTime=NOW))
    outcome = account.run("throughput", everything=True, idle_hours=6)
    assert outcome["kept"] == [THROUGHPUT + "a" * 12]


def test_throughput_of_another_environment_is_left_alone(account: Account) -> None:
    account.has_throughput(
        _throughput("temper-development-a", "a"), _throughput("not-temper-dev-a", "b")
    )
    outcome = account.run("throughput", everything=True)
    assert outcome == {"deleted": [], "kept": [], "failed": []}


def test_one_that_fails_does_not_keep_the_others(account: Account) -> None:
    account.has_throughput(
        _throughput("temper-dev-a-1", "a"),
        _throughput("temper-dev-b-1", "b"),
        **{rule.UNTIL: PAST},
    )
    account.bedrock.add_client_error("delete_provisioned_model_throughput", "ThrottlingException")
    account.deletes_throughput("b")
    with pytest.raises(RuntimeError, match=r"model/a{12}"):
        account.run("throughput")


def test_a_second_delivery_finds_it_gone_and_is_content(account: Account) -> None:
    account.has_throughput(_throughput("temper-dev-a-1", "a"), **{rule.UNTIL: PAST})
    account.bedrock.add_client_error(
        "delete_provisioned_model_throughput", "ResourceNotFoundException"
    )
    assert account.run("throughput")["deleted"] == [THROUGHPUT + "a" * 12]


def test_an_endpoint_past_its_end_goes_with_its_configuration_and_model(account: Account) -> None:
    account.has_endpoint("temper-dev-chat", {rule.UNTIL: PAST})
    account.removes_endpoint("temper-dev-chat")
    outcome = account.run("endpoint", overdue=0, endless=0)
    assert outcome["deleted"] == ["temper-dev-chat"]


def test_an_endpoint_before_its_end_stays_while_it_is_called(account: Account) -> None:
    account.has_endpoint("temper-dev-chat", {rule.UNTIL: FUTURE, rule.IDLE_HOURS: "6"})
    account.calls(1)
    assert account.run("endpoint", overdue=0, endless=0)["kept"] == ["temper-dev-chat"]


def test_components_go_before_their_endpoint(account: Account) -> None:
    components = {"temper-dev-chat": "InService", "temper-dev-adapter": "Deleting"}
    account.has_endpoint("temper-dev-chat", {rule.UNTIL: PAST}, components=components)
    account.describes("temper-dev-chat")
    account.removes_components("temper-dev-chat", components)
    outcome = account.run("endpoint", overdue=0, endless=0)
    assert outcome["kept"] == ["temper-dev-chat", "temper-dev-adapter"]


def test_the_stack_of_a_deployment_is_deleted_in_its_place(account: Account) -> None:
    stack = "temper-dev-serving-chat"
    account.has_endpoint("temper-dev-chat", {rule.UNTIL: PAST, rule.STACK: stack})
    account.cloudformation.add_response("delete_stack", {}, {"StackName": stack})
    assert account.run("endpoint")["deleted"] == ["temper-dev-chat"]


def test_no_tag_names_another_stack_for_deletion(account: Account) -> None:
    tags = {rule.UNTIL: PAST, rule.STACK: "temper-dev-storage"}
    account.has_endpoint("temper-dev-chat", tags)
    account.removes_endpoint("temper-dev-chat")
    assert account.run("endpoint")["deleted"] == ["temper-dev-chat"]


@pytest.mark.parametrize("end", ["", "tomorrow"])
def test_an_endpoint_without_a_readable_end_is_counted_and_stays(
    account: Account, end: str
) -> None:
    account.has_endpoint("temper-dev-chat", {rule.UNTIL: end})
    assert account.run("endpoint", overdue=0, endless=1)["kept"] == ["temper-dev-chat"]


def test_an_end_that_was_not_kept_for_an_hour_is_counted(account: Account) -> None:
    tags = {rule.UNTIL: "2026-11-20T10:00:00Z"}
    account.has_endpoint("temper-dev-chat", tags, status="Updating")
    assert account.run("endpoint", overdue=1, endless=0)["kept"] == ["temper-dev-chat"]


def test_an_endpoint_of_another_environment_is_left_alone(account: Account) -> None:
    account.has_endpoint("temper-development", {rule.UNTIL: PAST})
    assert account.run("endpoint") == {"deleted": [], "kept": [], "failed": []}


def test_an_endpoint_that_is_gone_counts_as_deleted(account: Account) -> None:
    account.has_endpoint("temper-dev-chat", {rule.UNTIL: PAST})
    account.sagemaker.add_client_error(
        "describe_endpoint", "ValidationException", 'Could not find endpoint "temper-dev-chat".'
    )
    assert account.run("endpoint")["deleted"] == ["temper-dev-chat"]


def test_a_mistyped_event_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="'some' is neither"):
        main.handler({"only": "some"}, None)

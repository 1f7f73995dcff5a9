"""Ends of deployments: the platform's scheduled function in an account whose states change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from catalog import deployment_tags as tag
from stacks.handlers.undeploy.main import undeploy
from stacks.handlers.undeploy.rule import EndRule
from tests.unit.emulator.conftest import ROLE, HostedAccount, variant

HOUR = 3600.0


class Calls:
    """CloudWatch that answers with the calls that the emulated endpoints have had."""

    def __init__(self, account: HostedAccount):
        self._store = account.emulator.hosting.metrics

    def get_metric_data(self, **request: Any) -> dict[str, Any]:
        start, end = (request[key].timestamp() for key in ("StartTime", "EndTime"))
        results = []
        for query in request["MetricDataQueries"]:
            metric = query["MetricStat"]["Metric"]
            dimensions = {one["Name"]: one["Value"] for one in metric["Dimensions"]}
            values = self._store.window(metric["MetricName"], dimensions, start, end)
            results.append({"Id": query["Id"], "Values": [sum(values)] if values else []})
        return {"MetricDataResults": results}

    def put_metric_data(self, **request: Any) -> None:
        """Take the counts of a run."""


@pytest.fixture
def hosted(account: HostedAccount) -> Iterator[HostedAccount]:
    """Yield the account; hours of its clock pass without a look at alarms and scaling."""
    context = account.emulator.hosting.context
    before = context.timings
    context.timings = replace(before, watch_s=30 * 24 * HOUR)
    yield account
    context.timings = before


def run(account: HostedAccount) -> dict[str, list[str]]:
    """Run the platform's function at the time of the account."""
    calls = Calls(account)
    return undeploy(
        client=lambda service: calls if service == "cloudwatch" else account.client(service),
        rule=EndRule(datetime.fromtimestamp(account.clock.now(), UTC)),
        kinds=["endpoint"],
        prefix="temper-dev",
        namespace="Temper/dev",
    )


def moment(account: HostedAccount, seconds: float) -> str:
    """Return a time of the account's clock as a tag has it."""
    now = datetime.fromtimestamp(account.clock.now(), UTC)
    return f"{now + timedelta(seconds=seconds):%FT%TZ}"


def create(account: HostedAccount, **tags: str) -> None:
    """Begin to create an endpoint."""
    account.client("sagemaker").create_endpoint(
        EndpointName="temper-dev-chat",
        EndpointConfigName=account.config("temper-dev-chat-1", account.model("temper-dev-chat-1")),
        Tags=[{"Key": f"temper:{key}", "Value": value} for key, value in tags.items()],
    )


def names(account: HostedAccount) -> list[str]:
    """Return the names of endpoints, configurations and models."""
    sagemaker = account.client("sagemaker")
    return [
        *(one["EndpointName"] for one in sagemaker.list_endpoints()["Endpoints"]),
        *(
            one["EndpointConfigName"]
            for one in sagemaker.list_endpoint_configs()["EndpointConfigs"]
        ),
        *(one["ModelName"] for one in sagemaker.list_models()["Models"]),
    ]


def test_an_endpoint_that_is_idle_then_called_then_idle_goes_after_its_hours(
    hosted: HostedAccount,
) -> None:
    create(hosted, **{"idle-hours": "1"})
    hosted.until("InService", "temper-dev-chat")
    hosted.clock.advance(0.9 * HOUR)
    assert run(hosted)["kept"] == ["temper-dev-chat"], "it is younger than its hours"
    hosted.ask("?", "temper-dev-chat")
    hosted.clock.advance(0.9 * HOUR)
    assert run(hosted)["kept"] == ["temper-dev-chat"], "it was called within its hours"
    hosted.clock.advance(0.2 * HOUR)
    assert run(hosted)["deleted"] == ["temper-dev-chat"]
    hosted.clock.advance(60)
    assert names(hosted) == []
    assert run(hosted) == {"deleted": [], "kept": [], "failed": []}


def test_an_endpoint_past_its_end_is_removed_when_its_update_has_ended(
    hosted: HostedAccount,
) -> None:
    create(hosted, until=moment(hosted, 900))
    hosted.until("InService", "temper-dev-chat")
    assert run(hosted)["kept"] == ["temper-dev-chat"], "its end has not come"
    hosted.client("sagemaker").update_endpoint(
        EndpointName="temper-dev-chat",
        EndpointConfigName=hosted.config("temper-dev-chat-2", hosted.model("temper-dev-chat-2")),
        DeploymentConfig={
            "BlueGreenUpdatePolicy": {
                "TrafficRoutingConfiguration": {
                    "Type": "ALL_AT_ONCE",
                    "WaitIntervalInSeconds": 60,
                },
                "TerminationWaitInSeconds": 1800,
            }
        },
    )
    hosted.advance(1000)
    assert hosted.describe("temper-dev-chat")["EndpointStatus"] == "Updating"
    assert run(hosted) == {"deleted": [], "kept": ["temper-dev-chat"], "failed": []}
    hosted.until("InService", "temper-dev-chat")
    assert run(hosted)["deleted"] == ["temper-dev-chat"]


def test_an_endpoint_past_its_end_is_removed_when_it_was_created(hosted: HostedAccount) -> None:
    create(hosted, until=moment(hosted, -60))
    assert run(hosted) == {"deleted": [], "kept": ["temper-dev-chat"], "failed": []}
    hosted.until("InService", "temper-dev-chat")
    assert run(hosted)["deleted"] == ["temper-dev-chat"]
    hosted.clock.advance(60)
    assert names(hosted) == []


def test_an_endpoint_that_failed_is_removed_at_its_end(hosted: HostedAccount) -> None:
    hosted.emulator.hosting.context.faults.no_capacity = {"ml.g5.xlarge"}
    create(hosted, until=moment(hosted, 60))
    hosted.until("Failed", "temper-dev-chat")
    assert run(hosted)["deleted"] == ["temper-dev-chat"]


def test_calls_of_a_component_keep_it_and_its_endpoint(hosted: HostedAccount) -> None:
    hours = [{"Key": tag.IDLE_HOURS, "Value": "1"}]
    sagemaker, name = hosted.client("sagemaker"), "temper-dev-chat"
    shared = {key: value for key, value in variant("x").items() if key != "ModelName"}
    sagemaker.create_endpoint_config(
        EndpointConfigName=f"{name}-1", ExecutionRoleArn=ROLE, ProductionVariants=[shared]
    )
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=f"{name}-1", Tags=hours)
    hosted.until("InService", name)
    sagemaker.create_inference_component(
        InferenceComponentName=name,
        EndpointName=name,
        VariantName="main",
        Specification={
            "ModelName": hosted.model(f"{name}-1"),
            "ComputeResourceRequirements": {"MinMemoryRequiredInMb": 1024},
        },
        RuntimeConfig={"CopyCount": 1},
        Tags=hours,
    )
    hosted.component_until("InService", name)
    hosted.clock.advance(0.9 * HOUR)
    hosted.ask("?", name, InferenceComponentName=name)
    hosted.clock.advance(0.9 * HOUR)
    assert run(hosted)["deleted"] == [], "both were called"
    hosted.clock.advance(0.2 * HOUR)
    assert run(hosted)["deleted"] == [name, name], "the removal of both begins"
    hosted.clock.advance(120)
    endpoints = sagemaker.list_endpoints()["Endpoints"]
    assert [one["EndpointStatus"] for one in endpoints] == ["InService"], "the component goes first"
    assert run(hosted)["deleted"] == [name], "then its endpoint"
    hosted.clock.advance(120)
    assert run(hosted) == {"deleted": [], "kept": [], "failed": []}

"""Events that start a pipeline: the rules of the templates, the function, emulated executions."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto.events.models import EventPattern

from stacks.handlers.retraining.trigger import TriggerSettings, start
from tests.infra.conftest import Assembly
from tests.unit.emulator.pipelines.conftest import PipelineAccount, processing
from tests.unit.emulator.pipelines.conftest import account as pipeline_account

account = pipeline_account
DRIFT = "temper-all-assistant-drift"


@dataclass
class Bus:
    """Event bus that calls the start function by the rules of a pipeline.

    Attributes:
        patterns: Patterns of the rules.
        settings: Settings of the function.
        sagemaker: Client of the emulated service.
        now: The time.
        manifest: Manifest of approved data; None if there is none.
        outcomes: What the function has answered.
    """

    patterns: list[dict[str, Any]]
    settings: TriggerSettings
    sagemaker: Any
    now: Callable[[], datetime]
    manifest: dict[str, Any] | None = None
    outcomes: list[str] = field(default_factory=list)

    def put(self, event: dict[str, Any]) -> None:
        """Deliver an event to the rules that match it."""
        matching = [p for p in self.patterns if EventPattern(None, p).matches_event(event)]
        for _ in matching:
            outcome = start(event, self.settings, self.client, self.now())
            self.outcomes.append(outcome["outcome"])

    def alarm(self, state: str, name: str = DRIFT) -> None:
        """Deliver the change of an alarm's state."""
        self.put(
            {
                "id": f"{name}-{state}-{self.now().isoformat()}",
                "source": "aws.cloudwatch",
                "detail-type": "CloudWatch Alarm State Change",
                "detail": {"alarmName": name, "state": {"value": state}},
            }
        )

    def client(self, service: str) -> Any:
        return self if service == "s3" else self.sagemaker

    def get_object(self, **request: str) -> dict[str, Any]:
        if self.manifest is None:
            raise ClientError({"Error": {"Code": "NoSuchKey"}}, "GetObject")
        return {"Body": io.BytesIO(json.dumps(self.manifest).encode())}


@pytest.fixture
def bus(everything: Assembly, account: PipelineAccount) -> Iterator[Bus]:
    """Yield a bus with the rules of the pipeline `docs`, which exists in the account."""
    resources = everything.templates["pipelines"]["Resources"]
    functions = {
        key: json.loads(variables["SETTINGS"])
        for key, one in resources.items()
        if one["Type"] == "AWS::Lambda::Function"
        and "SETTINGS" in (variables := one["Properties"]["Environment"]["Variables"])
    }
    (key,) = [key for key, one in functions.items() if one["pipeline"] == "temper-all-docs"]
    patterns = [
        one["Properties"]["EventPattern"]
        for one in resources.values()
        if one["Type"] == "AWS::Events::Rule"
        and "EventPattern" in one["Properties"]
        and key in json.dumps(one["Properties"]["Targets"])
    ]
    reason = {"Name": "Reason", "Type": "String", "DefaultValue": "started by hand"}
    account.create(processing("a"), name="temper-all-docs", parameters=(reason,))

    def now() -> datetime:
        return datetime.fromtimestamp(account.clock.now(), UTC)

    yield Bus(patterns, TriggerSettings(**functions[key]), account.sagemaker, now)


def executions(bus: Bus) -> list[str]:
    """Return the states of the executions, oldest first."""
    listed = bus.sagemaker.list_pipeline_executions(
        PipelineName="temper-all-docs", SortOrder="Ascending"
    )["PipelineExecutionSummaries"]
    return [one["PipelineExecutionStatus"] for one in listed]


def finish(bus: Bus, account: PipelineAccount) -> None:
    listed = bus.sagemaker.list_pipeline_executions(PipelineName="temper-all-docs")
    for one in listed["PipelineExecutionSummaries"]:
        account.wait(one["PipelineExecutionArn"])


def test_an_alarm_that_comes_and_goes_starts_once(bus: Bus, account: PipelineAccount) -> None:
    bus.manifest = {"digest": "d1"}
    for state in ("ALARM", "OK", "ALARM", "OK"):
        bus.alarm(state)
        finish(bus, account)
        bus.manifest = {"digest": "d2"}  # new data do not change that
        account.clock.advance(600)
    assert bus.outcomes == ["started", "cooling down"]
    account.clock.advance(bus.settings.cooldown_s)
    bus.alarm("ALARM")
    finish(bus, account)
    assert bus.outcomes[-1] == "started"
    assert executions(bus) == ["Succeeded", "Succeeded"]


def test_an_alarm_without_new_data_starts_nothing(bus: Bus, account: PipelineAccount) -> None:
    bus.manifest = {"digest": "d1"}
    for _ in range(2):
        bus.alarm("ALARM")
        finish(bus, account)
        account.clock.advance(2 * bus.settings.cooldown_s)
    assert bus.outcomes == ["started", "unchanged"]


def test_a_failing_pipeline_is_not_started_again_and_again(
    bus: Bus, account: PipelineAccount
) -> None:
    failure = {"ProcessingJobStatus": "Failed", "FailureReason": "AlgorithmError: exit code 1"}
    account.jobs.outcomes = [dict(failure) for _ in range(9)]
    for state in ("ALARM", "OK") * 4:
        bus.alarm(state)
        finish(bus, account)
        account.clock.advance(600)
    assert executions(bus) == ["Failed"]


def test_a_month_has_a_limit(bus: Bus, account: PipelineAccount) -> None:
    for _ in range(14):
        bus.alarm("ALARM")
        finish(bus, account)
        account.clock.advance(bus.settings.cooldown_s + 60)
    assert bus.outcomes.count("started") <= bus.settings.monthly_runs * 2
    month: dict[str, int] = {}
    for one in bus.sagemaker.list_pipeline_executions(PipelineName="temper-all-docs")[
        "PipelineExecutionSummaries"
    ]:
        key = one["StartTime"].astimezone(UTC).strftime("%Y-%m")
        month[key] = month.get(key, 0) + 1
    assert max(month.values()) == bus.settings.monthly_runs


@pytest.mark.parametrize(
    ("name", "starts"),
    [
        (DRIFT, True),
        ("temper-all-answers-judged-worse", True),
        ("temper-all-assistant-errors", False),
        ("temper-all-assistant-unwatched", False),
        ("temper-all-assistant-golden", False),  # another model answers: training mends nothing
        ("temper-all-drafts-drift", False),
    ],
)
def test_which_alarms_start(bus: Bus, name: str, starts: bool) -> None:
    bus.alarm("ALARM", name)
    assert bus.outcomes == (["started"] if starts else [])


def test_an_event_that_is_delivered_twice_starts_one_execution(
    bus: Bus, account: PipelineAccount
) -> None:
    event = {
        "id": "e1",
        "source": "aws.s3",
        "detail-type": "Object Created",
        "detail": {
            "bucket": {"name": bus.settings.bucket},
            "object": {"key": bus.settings.manifest},
        },
    }
    bus.manifest = {"digest": "d1"}
    bus.put(event)
    finish(bus, account)
    account.clock.advance(timedelta(days=2).total_seconds())
    bus.put(event)
    assert len(executions(bus)) == 1 and bus.outcomes == ["started", "delivered again"]


@pytest.mark.parametrize("digest", ["sha256:0123456789abcdef", "2026-11-30 (äö)", "…", "-"])
def test_any_digest_of_a_manifest_starts(bus: Bus, digest: str) -> None:
    bus.manifest = {"digest": digest}
    bus.alarm("ALARM")
    assert bus.outcomes == ["started"]


def test_two_alarms_at_the_same_time_start_one_execution(
    bus: Bus, account: PipelineAccount
) -> None:
    """Both calls of the function list the executions before either has started one."""
    listed = account.sagemaker.list_pipeline_executions(PipelineName="temper-all-docs")
    bus.sagemaker = Stale(account.sagemaker, listed)
    bus.alarm("ALARM")
    bus.alarm("ALARM", "temper-all-answers-judged-worse")
    bus.sagemaker = account.sagemaker
    finish(bus, account)
    assert executions(bus) == ["Succeeded"]


@dataclass
class Stale:
    """Client that lists the executions of a moment ago."""

    sagemaker: Any
    listed: dict[str, Any]

    def get_paginator(self, name: str) -> Any:
        return SimpleNamespace(paginate=lambda **request: [self.listed])

    def start_pipeline_execution(self, **request: Any) -> Any:
        return self.sagemaker.start_pipeline_execution(**request)

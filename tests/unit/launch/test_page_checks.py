"""Tests that the doctor says when a page could be lost."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from moto import mock_aws

from launch.aws.session import AwsSession
from launch.doctor.checks import CheckWarning, Skipped
from launch.doctor.page_checks import AlarmPathCheck
from tests.unit.launch.fake_accounts import DEV


def _alarm(cloudwatch: Any, name: str, state: str) -> None:
    cloudwatch.put_metric_alarm(
        AlarmName=f"{DEV.prefix}-{name}",
        MetricName=name,
        Namespace="Temper/x",
        Statistic="Maximum",
        Period=300,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
    )
    cloudwatch.set_alarm_state(
        AlarmName=f"{DEV.prefix}-{name}", StateValue=state, StateReason="test"
    )


@mock_aws
def test_a_pending_confirmation_is_named_with_its_runbook() -> None:
    cloudwatch = boto3.client("cloudwatch", region_name=DEV.region)
    check = AlarmPathCheck(AwsSession(DEV))
    with pytest.raises(Skipped, match="not deployed"):
        check.run()
    _alarm(cloudwatch, "monitor-silent", "OK")
    _alarm(cloudwatch, "alarm-path-broken", "OK")
    assert "confirmed" in check.run()
    _alarm(cloudwatch, "alarm-path-broken", "ALARM")
    with pytest.raises(CheckWarning, match="pending confirmation") as caught:
        check.run()
    assert caught.value.fix == "read docs/runbooks/alarm-path-broken.md"

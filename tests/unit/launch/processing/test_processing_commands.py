"""`temper logs` and `temper stop` of a processing job."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from launch.processing import commands
from temper.cli import main
from tests.unit.launch.processing.test_submit import Account

JOB = "temper-dev-prepare-tickets-1"


class LoggedAccount(Account):
    """Account whose CloudWatch Logs is stubbed too."""

    def __init__(self) -> None:
        super().__init__()
        keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
        self.logs = boto3.client("logs", region_name="us-east-1", **keys)
        self.log_stub = Stubber(self.logs)
        self.log_stub.activate()

    def client(self, service: str) -> Any:
        return self.logs if service == "logs" else self.sagemaker


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> LoggedAccount:
    made = LoggedAccount()
    monkeypatch.setenv("YES", "1")
    monkeypatch.setattr(commands, "AwsSession", lambda environment: made)
    return made


def test_a_running_job_is_stopped_and_a_finished_one_is_left(
    account: LoggedAccount, capsys: pytest.CaptureFixture[str]
) -> None:
    account.found("InProgress")
    account.stub.add_response("stop_processing_job", {}, {"ProcessingJobName": JOB})
    account.found("Completed")
    assert main(["stop", JOB, "--env", "dev"]) == 0
    assert main(["stop", JOB, "--env", "dev"]) == 0
    account.stub.assert_no_pending_responses()
    said = capsys.readouterr().out
    assert "was told to stop" in said
    assert f"{JOB} is Completed: nothing to stop" in said


def test_the_log_ends_with_the_state_and_its_reason(
    account: LoggedAccount, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(3):
        account.found("Failed", ExitMessage="disk full")
    group = "/aws/sagemaker/ProcessingJobs"
    stream = f"{JOB}/algo-1-1700000000"
    account.log_stub.add_response(
        "describe_log_streams",
        {"logStreams": [{"logStreamName": stream}]},
        {"logGroupName": group, "logStreamNamePrefix": f"{JOB}/"},
    )
    for events in ([{"message": "pass 1 of 3"}], []):
        account.log_stub.add_response(
            "get_log_events", {"events": events, "nextForwardToken": "f/1"}
        )
    assert main(["logs", JOB, "--env", "dev"]) == 0
    assert capsys.readouterr().out.splitlines() == ["pass 1 of 3", f"{JOB}: Failed: disk full"]


@pytest.mark.parametrize("command", ["logs", "stop"])
def test_an_unknown_job_is_named(
    account: LoggedAccount, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    account.not_found()
    assert main([command, JOB, "--env", "dev"]) != 0
    assert f"{JOB}: no such processing job in the environment dev" in capsys.readouterr().err

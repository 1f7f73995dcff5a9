"""Mail to the creator of a run: subscriptions in an emulated account, and the local command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import boto3
import pytest
from moto import mock_aws

from launch import notify
from launch.errors import InvalidOptionError, LaunchError
from launch.notify import RunNotices, filter_policy
from launch.notify_command import VARIABLE
from launch.notify_command import notify as notify_locally
from launch.slurm.script import batch_script
from launch.targets import slurm
from tests.unit.launch.fake_accounts import DEV, VALUES
from training.config.runtime import Resources


@pytest.fixture
def sns(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """SNS of an emulated account with the environment `dev`."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        topic = boto3.client("sns", "us-east-1").create_topic(Name="temper-dev-runs")["TopicArn"]
        ssm = boto3.client("ssm", "us-east-1")
        for name, value in {**VALUES, "monitoring/runs-topic": topic}.items():
            ssm.put_parameter(Name=f"/temper-dev/{name}", Value=value, Type="String")
        yield boto3.client("sns", "us-east-1")


def _subscriptions(sns: Any) -> list[dict[str, Any]]:
    listed = sns.list_subscriptions()["Subscriptions"]
    return [
        sns.get_subscription_attributes(SubscriptionArn=s["SubscriptionArn"])["Attributes"]
        for s in listed
    ]


def test_an_address_is_subscribed_to_its_own_runs(
    sns: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "current_user", lambda: "CORP\\anna")
    notices = RunNotices(DEV)
    done = notices.add("anna@example.org", [], ["failed"])
    [subscription] = _subscriptions(sns)
    assert subscription["Protocol"] == "email"
    policy = json.loads(subscription["FilterPolicy"])
    # The tag of a job holds the name in this form, too.
    assert policy == {"creator": ["CORP/anna"], "state": ["failed"]}
    assert done == "anna@example.org gets a mail when a run of CORP/anna is failed"
    assert notices.recipients() == [("anna@example.org", "confirmed")]


def test_a_pending_confirmation_is_reported(sns: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    notices = RunNotices(DEV)
    pending = {"Endpoint": "anna@example.org", "SubscriptionArn": "PendingConfirmation"}
    monkeypatch.setattr(notices, "_subscriptions", lambda email="": iter([pending]))
    assert "confirmation pending. Follow the link" in notices.add("anna@example.org", ["a"], [])
    assert notices.recipients() == [("anna@example.org", "confirmation pending")]
    assert "lapses after two days" in notices.remove("anna@example.org")


def test_an_address_is_removed_without_a_signature(sns: Any) -> None:
    notices = RunNotices(DEV)
    for name in ("anna", "ben"):
        notices.add(f"{name}@example.org", [name], [])
    client = notices._unsigned()
    assert client._request_signer.signature_version != "v4"
    assert "no more mail" in notices.remove("anna@example.org")
    assert notices.recipients() == [("ben@example.org", "confirmed")]
    with pytest.raises(LaunchError, match=r"anna@example.org is not subscribed .* ben@example.org"):
        notices.remove("anna@example.org")


def test_an_environment_without_the_topic_says_to_deploy(sns: Any) -> None:
    boto3.client("ssm", "us-east-1").delete_parameter(Name="/temper-dev/monitoring/runs-topic")
    with pytest.raises(LaunchError, match="make deploy ENV=dev"):
        RunNotices(DEV)


def test_all_problems_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "current_user", lambda: "")
    with pytest.raises(InvalidOptionError) as refused:
        filter_policy("anna", [], ["done"])
    text = str(refused.value)
    assert "'anna' is no address" in text
    assert "done is none of completed, failed, stopped" in text
    assert "--creator NAME" in text


@pytest.mark.parametrize(("code", "state"), [(0, "completed"), (75, "stopped"), (4, "failed")])
def test_a_local_run_ends_with_the_users_command(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, code: int, state: str
) -> None:
    out = tmp_path / "out"
    line = "$TEMPER_RUN $TEMPER_STATE $TEMPER_EXIT_CODE"
    monkeypatch.setenv(VARIABLE, f'echo "{line}" > {out}')
    notify_locally("support/1", code)
    assert out.read_text() == f"support/1 {state} {code}\n"


def test_a_command_that_fails_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, "exit 3")
    notify_locally("support/1", 0)
    assert "ended with code 3: exit 3" in capsys.readouterr().err
    monkeypatch.delenv(VARIABLE)
    notify_locally("support/1", 0)
    assert capsys.readouterr().err == ""


def test_slurm_mails_the_end_of_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_MAIL", "anna@example.org")
    cluster = slurm.from_environment(None).cluster
    folder = PurePosixPath("/shared/runs/a/1")
    script = batch_script(
        name="a-1", folder=folder, code=folder, resources=Resources(), cluster=cluster
    )
    assert "#SBATCH --mail-user=anna@example.org\n#SBATCH --mail-type=END,FAIL\n" in script
    monkeypatch.setenv("SLURM_MAIL", "anna@example.org\n#SBATCH --nodes=9")
    with pytest.raises(InvalidOptionError, match="SLURM_MAIL"):
        slurm.from_environment(None)

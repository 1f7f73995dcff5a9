"""A trained model that Bedrock imports or serves, in `make status RUN=…`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from launch.aws.session import AwsSession
from launch.errors import LaunchError
from launch.inspect_run import refresh_row
from launch.run_index import RunIndex
from launch.status import Status
from launch.submission import Attempt, Submission

JOB = "support-20261122-121725-ab12"
TRAINED = Status("not deployed", step=20, loss=0.5, cost_usd=1.5)


@pytest.fixture
def bedrock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    """Stubbed Bedrock client, which validates requests and responses against its schema."""
    key = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    client = boto3.client("bedrock", region_name="us-east-1", **key)
    monkeypatch.setattr(AwsSession, "client", lambda self, service: client)
    with Stubber(client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Return a folder of runs with one that finished training."""
    folder = tmp_path / "support/20261122-121725-ab12"
    folder.mkdir(parents=True)
    attempt = Attempt(JOB, "arn:aws:sagemaker:us-east-1:123456789012:training-job/x")
    Submission(
        folder=folder,
        run="support/20261122-121725-ab12",
        target="sagemaker",
        environment="dev",
        creator="me",
        created="2026-11-22T12:17:25Z",
        attempts=(attempt,),
        final_status=TRAINED,
    ).write()
    return tmp_path


def imports(bedrock: Stubber, status: str, **more: Any) -> None:
    """Stub the status of the import with the job's name."""
    bedrock.add_response(
        "get_model_import_job", {"jobName": JOB, "status": status, **more}, {"jobIdentifier": JOB}
    )


def unknown(bedrock: Stubber, method: str) -> None:
    """Stub a lookup that finds nothing."""
    bedrock.add_client_error(method, "ResourceNotFoundException", "no such thing", 404)


def seen(runs: Path, *, check_deployment: bool = True) -> Status:
    row, problem = refresh_row(runs, RunIndex(runs).rows()[0], check_deployment=check_deployment)
    assert not problem
    return row.status


def test_model_without_import(runs: Path, bedrock: Stubber) -> None:
    unknown(bedrock, "get_model_import_job")
    assert seen(runs) == TRAINED


def test_import_deployment_and_deletion(runs: Path, bedrock: Stubber) -> None:
    imports(bedrock, "InProgress")
    assert seen(runs).state == "deploying"
    # A deploying model is not final: the table of all runs looks it up, too.
    imports(bedrock, "Completed", importedModelName="support")
    bedrock.add_response(
        "get_imported_model", {"modelName": "support"}, {"modelIdentifier": "support"}
    )
    now = seen(runs, check_deployment=False)
    assert (now.state, now.detail) == ("deployed", "Bedrock serves it as support")
    assert (now.step, now.loss, now.cost_usd) == (20, 0.5, 1.5)
    # A deployed model is not looked up again until the deployment is checked.
    assert seen(runs, check_deployment=False).state == "deployed"
    imports(bedrock, "Completed", importedModelName="support")
    unknown(bedrock, "get_imported_model")
    now = seen(runs)
    assert (now.state, now.detail) == ("not deployed", "Bedrock no longer has support")


def test_failed_import_has_reason(runs: Path, bedrock: Stubber) -> None:
    imports(bedrock, "Failed", failureMessage="unsupported architecture")
    now = seen(runs)
    assert now.state == "not deployed"
    assert now.detail == "Bedrock could not import its model: unsupported architecture"


def test_denied_role_keeps_last_status(runs: Path, bedrock: Stubber) -> None:
    bedrock.add_client_error("get_model_import_job", "AccessDeniedException", "no", 403)
    row, problem = refresh_row(runs, RunIndex(runs).rows()[0], check_deployment=True)
    assert row.status == TRAINED
    assert "not allowed" in problem


def test_table_does_not_query_finished_runs(runs: Path, bedrock: Stubber) -> None:
    assert seen(runs, check_deployment=False) == TRAINED


def test_other_errors_are_raised(bedrock: Stubber) -> None:
    from launch.aws.bedrock_status import deployment_status

    bedrock.add_client_error("get_model_import_job", "ThrottlingException", "slowly", 400)
    with pytest.raises(LaunchError, match="slowly"):
        deployment_status(bedrock.client, JOB, TRAINED)

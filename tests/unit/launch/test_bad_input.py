"""Errors between the user and the account: one clear message each, and nothing is started.

A quota of 0, an empty data set, a name that is taken, an answer that never came, and a stop while
data are uploaded are in test_sagemaker.py, next to the same commands without errors.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from botocore.stub import Stubber
from typer.testing import CliRunner, Result

from emulator.environment import EmulatedEnvironment
from launch.aws.environment_problems import tag_problems
from launch.aws.session import AwsSession
from launch.aws.training_jobs import TrainingJobs
from launch.errors import LaunchError
from launch.targets.sagemaker import SageMakerTarget
from temper.cli import app
from tests.factories import write_jsonl
from tests.run_commands import ROOT
from tests.unit.launch.fake_accounts import DEV


@pytest.fixture
def train(
    emulated: EmulatedEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """Run `temper train` on a small job for one ml.g5.2xlarge."""
    monkeypatch.chdir(ROOT)
    (tmp_path / "shape").mkdir()
    shape = {
        "hidden_size": 32,
        "intermediate_size": 88,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 320,
    }
    (tmp_path / "shape/config.json").write_text(json.dumps(shape))
    rows = write_jsonl(tmp_path / "rows.jsonl", [{"text": "a"}])

    def run(*options: str, **sections: Any) -> Result:
        document = {
            "name": "small",
            "model": {"source": str(tmp_path / "shape")},
            "data": {"train": str(rows)},
            "method": {"kind": "sft"},
            "train": {"max_steps": 20},
            "resources": {"instance": "ml.g5.2xlarge"},
            **sections,
        }
        job = tmp_path / "job.yaml"
        job.write_text(yaml.safe_dump(document))
        result = CliRunner().invoke(
            app,
            [
                "train",
                str(job),
                "--target",
                "sagemaker",
                "--runs",
                str(tmp_path / "runs"),
                *options,
            ],
        )
        assert not emulated.service._jobs, "nothing may run"
        assert not list((tmp_path / "runs").glob("small/*")), "nothing may be left behind"
        assert "Traceback" not in result.output
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    return run


def test_no_credentials(train: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    result = train()
    assert result.exit_code == 4
    assert "no AWS credentials were found" in result.stderr and "aws sso login" in result.stderr


def test_unknown_profile(train: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "AWS_PROFILE=nobody is not in your AWS configuration" in train().stderr


@pytest.mark.parametrize("code", ["ExpiredToken", "RequestExpired", "InvalidClientTokenId"])
def test_expired_credentials(emulated: EmulatedEnvironment, code: str) -> None:
    account = AwsSession(DEV)
    with Stubber(account.client("sts")) as answers:
        answers.add_client_error("get_caller_identity", code, "The token is expired", 403)
        with pytest.raises(LaunchError, match=r"expired or unknown .* `aws sso login`"):
            account.caller()


def test_credentials_of_wrong_account(emulated: EmulatedEnvironment) -> None:
    account = AwsSession(dataclasses.replace(DEV, account="999999999999"))
    with pytest.raises(LaunchError) as caught:
        account.caller()
    assert str(caught.value) == (
        "these credentials are of account 123456789012, and the environment dev is in "
        "999999999999. Choose others with AWS_PROFILE"
    )


def test_denied_credentials(emulated: EmulatedEnvironment) -> None:
    account = AwsSession(DEV)
    with Stubber(account.client("sts")) as answers:
        answers.add_client_error("get_caller_identity", "AccessDenied", "not you", 403)
        with pytest.raises(LaunchError, match=r"not allowed: not you\. Use the .* engineer role"):
            account.caller()


def test_platform_not_deployed(train: Callable[..., Result]) -> None:
    result = train("--env", "prod")
    assert result.exit_code == 4
    assert "the environment prod is not deployed" in result.stderr
    assert "make deploy ENV=prod" in result.stderr


def test_unknown_environment(train: Callable[..., Result]) -> None:
    result = train("--env", "nowhere")
    assert result.exit_code == 2
    assert "--env nowhere: environments/nowhere.yaml does not exist" in result.stderr
    assert "dev" in result.stderr


def test_unknown_target(train: Callable[..., Result]) -> None:
    result = train("--target", "moon")
    assert result.exit_code == 2
    assert "--target moon: no such target. Choose from local, sagemaker" in result.stderr


def test_environment_without_cluster(train: Callable[..., Result]) -> None:
    result = train("--target", "hyperpod")
    assert result.exit_code == 4
    assert "the environment dev has no HyperPod cluster" in result.stderr
    assert "hyperpod.enabled: true" in result.stderr


def test_spot_without_checkpoint(train: Callable[..., Result]) -> None:
    spot = {"instance": "ml.g5.2xlarge", "spot": True, "max_runtime": "1h"}
    result = train(resources=spot, checkpoint={"every": "2h"})
    assert result.exit_code == 2
    assert "checkpoint.every: a spot job that is interrupted starts over" in result.stderr


def test_cost_limit(train: Callable[..., Result]) -> None:
    dear = {"instance": "ml.g5.2xlarge", "max_cost": "0.01 USD"}
    result = train(resources=dear, train={"max_steps": 2_000_000})
    assert result.exit_code == 2
    assert "max_cost" in result.stderr


def test_job_does_not_fit(train: Callable[..., Result], tmp_path: Path) -> None:
    shape = tmp_path / "shape/config.json"
    big = {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80}
    shape.write_text(json.dumps({**json.loads(shape.read_text()), **big}))
    result = train()
    assert result.exit_code == 2
    assert "GiB" in result.stderr


def test_stop_during_model_upload(target: SageMakerTarget) -> None:
    """Stopping it now could lose the model that was just paid for."""
    client = target.account.client("sagemaker")
    found = {"TrainingJobName": "a", "TrainingJobStatus": "InProgress"}
    with Stubber(client) as answers:
        answers.add_response("describe_training_job", described(found, "Uploading"))
        with pytest.raises(LaunchError, match="is uploading its model"):
            TrainingJobs(client).stop("a")
    with Stubber(client) as answers:
        answers.add_response("describe_training_job", described(found, "Training"))
        answers.add_response("stop_training_job", {}, {"TrainingJobName": "a"})
        assert "two minutes" in TrainingJobs(client).stop("a")


def described(found: dict[str, Any], secondary: str) -> dict[str, Any]:
    """Return what the service must at least say of a job."""
    return {
        **found,
        "SecondaryStatus": secondary,
        "TrainingJobArn": "arn:aws:sagemaker:us-east-1:123456789012:training-job/a",
        "ModelArtifacts": {"S3ModelArtifacts": ""},
        "AlgorithmSpecification": {"TrainingInputMode": "File"},
        "ResourceConfig": {"VolumeSizeInGB": 30},
        "StoppingCondition": {},
        "CreationTime": 0,
    }


def test_unreachable_account(
    emulated: EmulatedEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(LaunchError, match=r"could not be reached .*Check the network"):
        AwsSession(DEV).caller()


def test_environment_whose_tags_sagemaker_rejects(emulated: EmulatedEnvironment) -> None:
    environment = dataclasses.replace(DEV, cost_centre="R&D", owner="a" * 257)
    owner, cost_centre = tag_problems(environment)
    assert "SageMaker rejects '&'" in str(cost_centre) and "R&D" in str(cost_centre)
    assert "more than 256 characters" in str(owner)
    assert list(tag_problems(DEV)) == []

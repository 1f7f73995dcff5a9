"""The commands as a user types them, in an emulated account."""

from __future__ import annotations

from pathlib import Path

import pytest

import deployment.command
from temper.cli import main
from tests.unit.deployment.conftest import NAMES, Deployments, reply

pytestmark = pytest.mark.slow
DEPLOY = ("--to", "endpoint", "--instance", "ml.g5.xlarge", "--idle", "6")


@pytest.fixture
def environment(deployments: Deployments, monkeypatch: pytest.MonkeyPatch) -> Deployments:
    monkeypatch.setattr(deployment.command, "connect_account", lambda name: deployments.account)
    kinds = ["endpoint", "component", "async"]
    monkeypatch.setattr(deployment.command, "TARGET_KINDS", kinds)
    return deployments


def test_a_deployment_from_its_price_to_its_removal(
    environment: Deployments, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.register("a")
    assert main(["deploy-model", "support@1.0.0", *DEPLOY]) == 0
    shown = capsys.readouterr().out
    assert "support@1.0.0, safetensors" in shown
    assert "$1.41 an hour idle, $1,028 a month" in shown
    assert "removed after 6 h without a call" in shown
    assert "support is deployed: support@1.0.0, $1.41 an hour" in shown
    assert main(["deploy-model", "support@1.0.0", *DEPLOY]) == 0
    assert "support is deployed; continuing" in capsys.readouterr().out
    assert environment.calls("CreateEndpoint") == 1

    environment.register("b")
    assert main(["deploy-model", "support@1.0.1", *DEPLOY]) == 4
    assert "support serves support@1.0.0. To serve support@1.0.1" in capsys.readouterr().err
    assert main(["swap", "support@1.0.1"]) == 0, "instance and end are those that it has"
    assert "support is deployed: support@1.0.1" in capsys.readouterr().out

    assert main(["deployments"]) == 0
    (heading, row, total) = capsys.readouterr().out.splitlines()
    assert heading.split() == ["name", "to", "state", "model", "$/hour", "owner", "ends"]
    assert row.split()[:6] == ["support", "endpoint", "deployed", "support@1.0.1", "1.41", "anna"]
    assert total == "$1.41 an hour, $34 a day"

    assert main(["undeploy", "support"]) == 0
    assert main(["undeploy", "support"]) == 0
    assert "nothing of it is left" in capsys.readouterr().out
    assert main(["deployments"]) == 0
    assert "nothing is deployed in dev" in capsys.readouterr().out


def test_a_swap_keeps_how_a_deployment_was_made(
    environment: Deployments, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.register("a", template=False)
    made = ("--setting", "MAX_CONTEXT=4096", "--capture", "10%", "--no-chat")
    assert main(["deploy-model", "support@1.0.0", *DEPLOY, *made, "--min", "1", "--max", "3"]) == 0
    environment.register("b", template=False)
    capsys.readouterr()
    assert main(["swap", "support@1.0.1"]) == 0
    kept = "  as before: MAX_CONTEXT=4096, 1 to 3 copies, 10% of the calls captured, texts only"
    assert kept in capsys.readouterr().out.splitlines()
    sagemaker = environment.hosted.client("sagemaker")
    (name,) = environment.names("EndpointConfig")
    config = sagemaker.describe_endpoint_config(EndpointConfigName=name)
    assert config["DataCaptureConfig"]["InitialSamplingPercentage"] == 10
    (variant,) = config["ProductionVariants"]
    model = sagemaker.describe_model(ModelName=variant["ModelName"])["PrimaryContainer"]
    assert model["Environment"]["TEMPER_SERVE_MAX_CONTEXT"] == "4096"
    environment.register("c", template=False)
    assert main(["swap", "support@1.0.2", "--setting", "MAX_CONTEXT=8192"]) == 0
    (name,) = environment.names("Model")
    model = sagemaker.describe_model(ModelName=name)["PrimaryContainer"]
    assert model["Environment"]["TEMPER_SERVE_MAX_CONTEXT"] == "8192", "what is named changes"


def test_nothing_is_made_without_consent(
    environment: Deployments, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment.register("a")
    monkeypatch.setenv("YES", "0")
    assert main(["deploy-model", "support@1.0.0", *DEPLOY, "--name", "untouched"]) == 2
    captured = capsys.readouterr()
    assert "an hour idle" in captured.out
    assert "Deploy support@1.0.0 as untouched (endpoint) in dev?" in captured.err
    for kind in ("Model", "EndpointConfig", "Endpoint"):
        assert environment.names(kind) == []
    alarms = environment.hosted.client("cloudwatch").describe_alarms(
        AlarmNamePrefix="temper-dev-untouched"
    )
    assert alarms["MetricAlarms"] == []


def test_a_name_in_use_by_another_kind_is_refused(
    environment: Deployments, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.register("a")
    assert main(["deploy-model", "support@1.0.0", *DEPLOY]) == 0
    other = ("--to", "component", "--instance", "ml.g5.xlarge", "--idle", "6")
    assert main(["deploy-model", "support@1.0.0", *other]) == 4
    assert "the name support is in use by a deployment to endpoint" in capsys.readouterr().err


def test_a_file_and_golden_prompts(
    environment: Deployments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.register("a", reply__json=reply("one"))
    golden = tmp_path / "golden.jsonl"
    golden.write_text('{"prompt": "x", "tokens": ["one"], "log_probs": [-0.5]}\n')
    file = tmp_path / "deployment.yaml"
    file.write_text(
        "model: support\nto: endpoint\ninstance: ml.g5.xlarge\nend: {forever: a demonstration}\n"
        f"golden: {{file: {golden}}}\n"
    )
    assert main(["deploy-model", "--file", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "golden prompts after: 1 of 1 of support@1.0.0 are as recorded" in shown
    assert "removed never (a demonstration)" in shown
    kept = environment.hosted.client("s3").get_object(
        Bucket=NAMES["runs"], Key="serving/support/watch/golden.jsonl"
    )
    assert kept["Body"].read() == golden.read_bytes()
    environment.register("b", reply__json=reply("two"))
    assert main(["swap", "support@1.0.1", "--golden", str(golden)]) == 4
    captured = capsys.readouterr()
    assert "golden prompts before: 1 of 1 of support@1.0.0" in captured.out
    assert "token 1 is 'two', not 'one'" in captured.err
    assert "support@1.0.0 serves" in captured.err


def test_what_cannot_be_deployed_is_said_at_once(
    environment: Deployments, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["deploy-model", "support@1.0.0"]) == 2
    error = capsys.readouterr().err
    assert "to: " in error
    assert "end: " in error
    assert main(["swap", "support@1.0.0"]) == 4
    assert "support is not deployed" in capsys.readouterr().err
    assert main(["deploy-model", "support@1.0.0", *DEPLOY, "--setting", "a"]) == 2
    assert "write KEY=VALUE" in capsys.readouterr().err

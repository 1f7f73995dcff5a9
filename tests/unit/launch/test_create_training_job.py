"""CreateTrainingJob requests: golden files, the service's schema, and invariants.

`python -m tests.unit.launch.test_create_training_job` rewrites the golden files.
"""

from __future__ import annotations

import dataclasses
import json
import unicodedata
from pathlib import Path
from typing import Any

import botocore.session
import pytest

from emulator.botocore_schema import validation_errors
from launch.aws.create_training_job import JobRequirements, create_request, metric_definitions
from launch.aws.platform_parameters import PlatformParameters
from launch.aws.tags import invalid_characters
from launch.submission import Attempt, Submission
from tests.unit.launch.fake_accounts import DEV, HUB, LUSTRE, MLFLOW, VALUES
from training.config.runtime import Resources

GOLDEN = Path(__file__).parent / "requests"
RUN = "support-lora/20261122-081500-3fa2"
S3 = "s3://temper-dev-data-123456789012-us-east-1/uploads/0123456789abcdef01234567/"
JOB = f"s3://temper-dev-runs-123456789012-us-east-1/runs/{RUN}/job/"
PLAN = "arn:aws:sagemaker:us-east-1:123456789012:training-plan/winter"
SUBMISSION = Submission(
    folder=Path("runs") / RUN,
    run=RUN,
    target="sagemaker",
    environment="dev",
    creator="ada",
    created="2026-11-22T08:15:00Z",
    attempts=(Attempt("support-lora-20261122-081500-3fa2"),),
)
REQUIREMENTS = JobRequirements(
    channels={"job": JOB, "model": S3, "train": S3},
    volume_gib=61.3,
)
# name -> (resources, changes to the requirements, further parameters of the platform)
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, str]]] = {
    "spot": (
        {"instance": "ml.p4d.24xlarge", "spot": True, "max_runtime": "6h", "max_wait": "9h"},
        {},
        {},
    ),
    "on-demand": ({"instance": "ml.m5.2xlarge", "retries": 2}, {}, {}),
    "fallback": (
        {"instance": "ml.g5.12xlarge", "fallback": ["ml.g6e.12xlarge", "ml.p4d.24xlarge"]},
        {},
        {},
    ),
    "training-plan": ({"instance": "ml.p5.48xlarge", "count": 4, "training_plan": PLAN}, {}, {}),
    "warm-pool": ({"instance": "ml.g5.2xlarge", "keep_alive": "30min"}, {}, {}),
    "trainium": ({"instance": "ml.trn2.48xlarge", "input_mode": "fast_file"}, {}, {}),
    "hub-and-mlflow": (
        {"instance": "ml.g5.2xlarge", "register_model": True},
        {"needs_hub": True, "mlflow": True},
        {**HUB, **MLFLOW},
    ),
    "judged": (
        {"instance": "ml.g5.2xlarge"},
        {"calls_endpoints": True, "key_variables": ("JUDGE_KEY",)},
        {**HUB, "secrets/keys/JUDGE_KEY": "temper-dev/keys/JUDGE_KEY"},
    ),
    "isolated-with-mlflow": (
        {"instance": "ml.g5.2xlarge", "network_isolation": True},
        {"mlflow": True},
        MLFLOW,
    ),
    "lustre": ({"instance": "ml.p4d.24xlarge", "input_mode": "fsx", "count": 2}, {}, LUSTRE),
    "regulated": (
        {"instance": "ml.p4d.24xlarge", "count": 2, "encrypt_traffic": False},
        {},
        {"training/encrypt-traffic": "true"},
    ),
}


def build(name: str) -> dict[str, Any]:
    resources, changes, more = CASES[name]
    platform = PlatformParameters(DEV, {**VALUES, **more}, lustre_mount="abcdefgh")
    requirements = dataclasses.replace(REQUIREMENTS, **changes)
    return create_request(SUBMISSION, requirements, Resources.model_validate(resources), platform)


@pytest.mark.parametrize("name", CASES)
def test_matches_golden_file(name: str) -> None:
    assert build(name) == json.loads((GOLDEN / f"{name}.json").read_text())


@pytest.mark.parametrize("name", CASES)
def test_request_is_valid(name: str) -> None:
    assert validation_errors("sagemaker", "CreateTrainingJob", build(name)) == []


def test_invalid_request_is_detected() -> None:
    request = build("spot")
    request["TrainingJobName"] = "not_legal"
    request["ResourceConfig"]["InstanceType"] = "ml.p4x.24xlarge"
    request["OutputDataConfig"]["S3OutputPath"] = "bucket/key"
    request["ResourceConfig"]["InstanceCount"] = "two"
    found = " ".join(validation_errors("sagemaker", "CreateTrainingJob", request))
    for part in ("TrainingJobName", "InstanceType", "S3OutputPath", "InstanceCount"):
        assert part in found


@pytest.mark.parametrize("name", CASES)
def test_request_satisfies_engineer_policies(name: str) -> None:
    """The platform's policies deny everything else (stacks/policies/engineer.py)."""
    request = build(name)
    assert request["VpcConfig"]["Subnets"] == VALUES["network/subnets"].split(",")
    assert request["VpcConfig"]["SecurityGroupIds"] == [VALUES["network/security-groups"]]
    assert request["OutputDataConfig"]["KmsKeyId"] == VALUES["keys/models"]
    machines = request["ResourceConfig"]
    kinds = [machines.get("InstanceType")] + [
        p["InstanceType"] for p in machines.get("InstancePreferences", [])
    ]
    local = all(k.split(".")[1][:2] in ("g5", "g6", "p4", "p5", "tr") for k in kinds if k)
    assert ("VolumeKmsKeyId" in machines) is not local
    assert request["CheckpointConfig"]["S3Uri"].startswith("s3://temper-dev-runs-")
    assert "/checkpoints/support-lora/" in request["CheckpointConfig"]["S3Uri"]


@pytest.mark.parametrize("name", CASES)
def test_request_contains_no_secret(name: str) -> None:
    """Everyone who may describe the job can read its variables."""
    variables = build(name)["Environment"]
    assert not {"HF_TOKEN", "JUDGE_KEY"} & set(variables)
    named = json.loads(variables.get("TEMPER_SECRETS", "{}"))
    assert all(secret.startswith("temper-dev/") for secret in named.values())


def test_environment_enforces_encryption() -> None:
    assert build("regulated")["EnableInterContainerTrafficEncryption"] is True


def test_network_isolation() -> None:
    assert build("spot")["EnableNetworkIsolation"] is True
    assert build("hub-and-mlflow")["EnableNetworkIsolation"] is False
    assert build("isolated-with-mlflow")["EnableNetworkIsolation"] is True
    resources, changes, more = CASES["spot"]
    requirements = dataclasses.replace(REQUIREMENTS, **changes, calls_endpoints=True)
    platform = PlatformParameters(DEV, {**VALUES, **more}, lustre_mount="abcdefgh")
    asking = create_request(SUBMISSION, requirements, Resources.model_validate(resources), platform)
    assert asking["EnableNetworkIsolation"] is False
    assert "MLFLOW_TRACKING_URI" not in build("isolated-with-mlflow")["Environment"]


def test_metrics_of_the_job_monitor_are_defined() -> None:
    """`stacks/handlers/monitor_jobs.py` reads these two metrics."""
    assert {"loss", "tokens_per_second"} <= {d["Name"] for d in metric_definitions()}


@pytest.mark.parametrize(
    ("creator", "value"),
    [
        ("CORP\\ada", "CORP/ada"),
        ("ada lovelace", "ada lovelace"),
        ("Ådå@例.com", "Ådå@例.com"),
        ("ada&co<7>", "ada_co_7_"),
        ("a" * 300, "a" * 256),
    ],
)
def test_creator_is_a_valid_tag(creator: str, value: str) -> None:
    submission = dataclasses.replace(SUBMISSION, creator=creator)
    resources = Resources.model_validate({"instance": "ml.m5.2xlarge"})
    request = create_request(
        submission, REQUIREMENTS, resources, PlatformParameters(DEV, dict(VALUES))
    )
    tags = {tag["Key"]: tag["Value"] for tag in request["Tags"]}
    assert tags["temper:creator"] == value
    assert all(pattern_of_tag_values().fullmatch(text) for text in tags.values())


def pattern_of_tag_values() -> Any:
    """Return the pattern of the service's own description."""
    import regex

    shape = botocore.session.get_session().get_service_model("sagemaker").shape_for("TagValue")
    return regex.compile(shape.metadata["pattern"])


def test_valid_tag_characters_are_those_of_the_service() -> None:
    pattern = pattern_of_tag_values()
    for code in [*range(0x3000), 0x4F8B, 0xE000, 0xFFFD, 0x1F600]:
        char = chr(code)
        if unicodedata.category(char) == "Cn":
            continue  # unassigned in the Unicode version of this Python
        assert (invalid_characters(char) == "") == bool(pattern.fullmatch(char)), hex(code)


def write_golden_files() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for name in CASES:
        (GOLDEN / f"{name}.json").write_text(json.dumps(build(name), indent=1) + "\n")


if __name__ == "__main__":
    write_golden_files()

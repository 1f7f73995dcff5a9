"""Checks of the doctor: each passes, or names the problem and the command that fixes it."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.stub import Stubber
from rich.console import Console

from emulator.environment import EmulatedEnvironment
from launch.aws.session import AwsSession
from launch.doctor.account_checks import BLOCKING_SEVERITIES, AccountChecks
from launch.doctor.checks import Check, CheckFailed, CheckResult, CheckWarning, Skipped, run_checks
from launch.doctor.command import run_doctor, show
from launch.doctor.machine_checks import MachineChecks
from launch.environment import read_environment
from launch.errors import LaunchError
from tests.unit.launch.conftest import boto
from tests.unit.launch.fake_accounts import DEV
from training.config.load import parse_job

G5 = "ml.g5.2xlarge"


# --- this machine -----------------------------------------------------------------------------


@pytest.mark.slow
def test_machine_checks_pass_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_doctor() == 0
    said = capsys.readouterr().out
    assert "two processes over gloo" in said
    assert "→" not in said


def test_untested_version(tmp_path: Path) -> None:
    (tmp_path / "constraints.txt").write_text("torch==1.0.0\npeft==0.0.1 ; python_version > '3'\n")
    with pytest.raises(CheckFailed, match=r"torch is .*, tested is 1\.0\.0; peft is") as caught:
        MachineChecks(constraints=tmp_path / "constraints.txt").packages()
    assert "make" in caught.value.fix


def test_full_disk(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match=r"1000000\.0 GiB needed") as caught:
        MachineChecks(needs_gib=1e6, runs=tmp_path / "runs").disk()
    assert "temper delete" in caught.value.fix
    assert "free" in MachineChecks(needs_gib=0.001, runs=tmp_path).disk()


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"efa": ["rdmap0s6"], "libfabric": None}, "1 EFA adapters and no libfabric"),
        ({"efa": ["rdmap0s6"], "libfabric": "2.1"}, "1 EFA adapters, libfabric 2.1"),
        ({"efa": []}, "no EFA adapter"),
    ],
)
def test_efa_adapters_need_libfabric(facts: dict[str, Any], said: str) -> None:
    machine = MachineChecks()
    machine.facts = facts  # type: ignore[misc]  # as on a machine with adapters
    try:
        assert said in machine.network()
    except CheckFailed as wrong:
        assert said in wrong.detail and wrong.fix


def test_device_invisible_to_torch() -> None:
    machine = MachineChecks()
    machine.facts = {"faults": ["torch sees 7 of 8 NVIDIA devices"]}  # type: ignore[misc]
    with pytest.raises(CheckFailed, match="7 of 8"):
        machine.devices()


# --- running checks ---------------------------------------------------------------------------


def test_dependent_checks_are_skipped() -> None:
    def wrong() -> str:
        raise LaunchError("no credentials")

    def pointless() -> str:
        raise AssertionError("asked")

    def unseen() -> str:
        raise Skipped("not allowed")

    checks = [
        Check("a", wrong),
        Check("b", pointless, needs="a"),
        Check("c", pointless, needs="b"),
        Check("d", unseen),
        Check("e", lambda: "fine", needs="d"),
    ]
    assert [(f.check, f.outcome, f.detail) for f in run_checks(checks)] == [
        ("a", "failed", "no credentials"),
        ("b", "skipped", "needs: a"),
        ("c", "skipped", "needs: b"),
        ("d", "skipped", "not allowed"),
        ("e", "ok", "fine"),
    ]


def test_fix_is_printed_below_the_problem() -> None:
    out = io.StringIO()
    show([CheckResult("disk", "failed", "1 GiB free", "make delete RUN=a")], Console(file=out))
    assert "→ make delete RUN=a" in out.getvalue()


# --- an account -------------------------------------------------------------------------------


@pytest.fixture
def make_checks(
    emulated: EmulatedEnvironment, tmp_path: Path
) -> Iterator[Callable[..., AccountChecks]]:
    """Return a factory of the checks for a job on one ml.g5.2xlarge."""

    def make(**sections: Any) -> AccountChecks:
        (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
        document = {
            "name": "a",
            "model": {"source": "owner/model"},
            "data": {"train": str(tmp_path / "rows.jsonl")},
            "method": {"kind": "sft"},
            "train": {"max_steps": 1},
            "resources": {"instance": G5},
            **sections,
        }
        return AccountChecks(AwsSession(DEV), parse_job(document, "test"))

    yield make


def results(checks: AccountChecks) -> dict[str, CheckResult]:
    return {finding.check: finding for finding in run_checks(checks.checks())}


def test_account_checks_pass(
    emulated: EmulatedEnvironment, make_checks: Callable[..., AccountChecks]
) -> None:
    emulated.service.faults.quotas[G5] = 2
    found = results(make_checks())
    assert found["quota"].detail == f"'{G5} for training job usage' is 2"
    assert found["zones"].detail.startswith("g5.2xlarge in us-east-1")
    assert found["role"].detail == "temper-dev-training"
    assert "MiB from this machine" in found["data"].detail
    wrong = {name: f.detail for name, f in found.items() if f.outcome == "failed"}
    # Images in the emulated registry are never scanned.
    assert list(wrong) == ["image"] and "never scanned" in wrong["image"]
    assert "s from AWS's" in found["clock"].detail or "no date" in found["clock"].detail


def test_quota_of_zero(
    emulated: EmulatedEnvironment, make_checks: Callable[..., AccountChecks]
) -> None:
    emulated.service.faults.quotas[G5] = 0
    finding = results(make_checks(resources={"instance": G5, "count": 2}))["quota"]
    assert finding.detail == f"'{G5} for training job usage' is 0, and the job needs 2"
    assert "request-service-quota-increase" in finding.fix
    assert "--desired-value 2" in finding.fix and "--quota-code L-" in finding.fix


def test_spot_quota(
    emulated: EmulatedEnvironment, make_checks: Callable[..., AccountChecks]
) -> None:
    emulated.service.faults.quotas[G5] = 1
    job = make_checks(resources={"instance": G5, "spot": True, "max_runtime": "1h"})
    assert "for spot training job usage' is 1" in results(job)["quota"].detail


def test_instance_offered_in_no_zone(make_checks: Callable[..., AccountChecks]) -> None:
    finding = results(make_checks(resources={"instance": "ml.p9.48xlarge"}))["zones"]
    assert finding.outcome == "failed"
    assert "p9.48xlarge is not offered in us-east-1" in finding.detail
    assert "environments/dev.yaml" in finding.fix


def test_severe_scan_findings(
    emulated: EmulatedEnvironment, make_checks: Callable[..., AccountChecks]
) -> None:
    checks = make_checks()
    ecr = checks.account.client("ecr")
    with Stubber(ecr) as answers:
        answers.add_response("describe_images", {"imageDetails": []})
        counts = {"CRITICAL": 1, "HIGH": 3, "LOW": 9}
        answers.add_response("describe_image_scan_findings", scan_of("COMPLETE", counts))
        with pytest.raises(
            CheckFailed, match="found 1 critical; the environment refuses"
        ) as caught:
            checks.image()
    assert caught.value.fix == "temper publish-image gpu --env dev"


def scan_of(state: str, counts: dict[str, int]) -> dict[str, Any]:
    return {
        "imageScanStatus": {"status": state, "description": "why"},
        "imageScanFindings": {"findingSeverityCounts": counts},
    }


@pytest.mark.parametrize("state", ["COMPLETE", "ACTIVE"])
@pytest.mark.parametrize(
    ("policy", "counts"),
    [("CRITICAL", {"HIGH": 3}), ("HIGH", {"MEDIUM": 3}), ("HIGH", {"HIGH": 3}), ("HIGH", {})],
)
def test_policy_of_the_environment_decides(
    state: str,
    policy: str,
    counts: dict[str, int],
    emulated: EmulatedEnvironment,
    make_checks: Callable[..., AccountChecks],
) -> None:
    """The doctor agrees with the gate that promotes images, for every policy."""
    from stacks.handlers import promote_image

    assert promote_image.BLOCKING_SEVERITIES == BLOCKING_SEVERITIES
    checks = make_checks()
    checks.environment = dataclasses.replace(checks.environment, refuse_findings_from=policy)
    refused = any(counts.get(level) for level in promote_image.BLOCKING_SEVERITIES[policy])
    with Stubber(checks.account.client("ecr")) as answers:
        answers.add_response("describe_images", {"imageDetails": []})
        answers.add_response("describe_image_scan_findings", scan_of(state, counts))
        if refused:
            with pytest.raises(CheckFailed, match="found 3 high; the environment refuses HIGH"):
                checks.image()
        elif "HIGH" in counts:
            with pytest.raises(CheckWarning, match=r"3 high; .* refuses CRITICAL findings only"):
                checks.image()
        else:
            assert checks.image().endswith(", scanned")


# The states of ECR's own description, so that a new one does not pass unnoticed.
STATES = AwsSession(DEV).client("ecr").meta.service_model.shape_for("ScanStatus").enum


@pytest.mark.parametrize("state", [s for s in STATES if s not in ("COMPLETE", "ACTIVE")])
def test_scan_that_has_no_result(
    state: str, emulated: EmulatedEnvironment, make_checks: Callable[..., AccountChecks]
) -> None:
    outcomes = {
        "IN_PROGRESS": Skipped,
        "PENDING": Skipped,
        "SCAN_ELIGIBILITY_EXPIRED": CheckWarning,
    }
    checks = make_checks()
    with Stubber(checks.account.client("ecr")) as answers:
        answers.add_response("describe_images", {"imageDetails": []})
        answers.add_response("describe_image_scan_findings", scan_of(state, {}))
        with pytest.raises(outcomes.get(state, CheckFailed), match=f"is {state}") as caught:
            checks.image()
    if isinstance(caught.value, CheckFailed):
        command = "start-image-scan" if state == "FAILED" else "temper publish-image gpu"
        assert "(why)" in str(caught.value) and command in caught.value.fix


def test_a_warning_is_shown_and_does_not_fail() -> None:
    def warn() -> str:
        raise CheckWarning("3 high", "rebuild")

    [result, after] = run_checks([Check("image", warn), Check("role", lambda: "x", needs="image")])
    assert (result.outcome, result.detail, result.fix) == ("warning", "3 high", "rebuild")
    assert after.outcome == "ok"


def test_environment_file_has_the_policy(tmp_path: Path) -> None:
    text = "prefix: temper-dev\nregion: us-east-1\n"
    (tmp_path / "a.yaml").write_text(text)
    (tmp_path / "b.yaml").write_text(f"{text}images:\n  refuse_findings_from: HIGH\n")
    assert read_environment("a", tmp_path).refuse_findings_from == "CRITICAL"
    assert read_environment("b", tmp_path).refuse_findings_from == "HIGH"


def test_deleted_image(
    emulated: EmulatedEnvironment, make_checks: Callable[..., AccountChecks]
) -> None:
    uri = checks_uri(emulated).replace("@sha256:", "@sha256:00")[:-2]
    with pytest.raises(CheckFailed, match="is not in the registry"):
        make_checks(resources={"instance": G5, "image": uri}).image()


def checks_uri(emulated: EmulatedEnvironment) -> str:
    name = f"/{emulated.environment.prefix}/images/gpu/uri"
    return str(boto(emulated, "ssm").get_parameter(Name=name)["Parameter"]["Value"])


def test_role_sagemaker_cannot_assume(
    emulated: EmulatedEnvironment, make_checks: Callable[..., AccountChecks]
) -> None:
    trust = '{"Statement": [{"Principal": {"Service": "ec2.amazonaws.com"}}]}'
    boto(emulated, "iam").create_role(RoleName="other", AssumeRolePolicyDocument=trust)
    with pytest.raises(CheckFailed, match="role/other cannot be assumed by SageMaker") as caught:
        with_value(make_checks(), "roles/training", "arn:aws:iam::123456789012:role/other").role()
    assert caught.value.fix == "make deploy ENV=dev"
    with pytest.raises(CheckFailed, match="role/none does not exist"):
        with_value(make_checks(), "roles/training", "arn:aws:iam::123456789012:role/none").role()


def with_value(checks: AccountChecks, name: str, value: str) -> AccountChecks:
    """Return checks of a platform that published another value."""
    platform = checks._platform
    values = {**platform.values, name: value}
    checks._platform = dataclasses.replace(platform, values=values)  # type: ignore[misc]
    return checks


def test_missing_data(
    emulated: EmulatedEnvironment, make_checks: Callable[..., AccountChecks]
) -> None:
    finding = results(make_checks(data={"train": "s3://temper-dev-data-123456789012/none"}))["data"]
    assert finding.outcome == "failed" and "contains nothing" in finding.detail


MADE = {"VersionIdsToStages": {"a" * 32: ["AWSCURRENT"]}}
FILLED = {"VersionIdsToStages": {"a" * 32: ["AWSPREVIOUS"], "b" * 32: ["AWSCURRENT"]}}


def test_hub_token_without_value(
    emulated: EmulatedEnvironment, make_checks: Callable[..., AccountChecks]
) -> None:
    assert results(make_checks())["token"].detail == "this environment has no secret for it"
    checks = with_value(make_checks(), "secrets/hub-token", "temper-dev/hub-token")
    with Stubber(checks.account.client("secretsmanager")) as answers:
        answers.add_response("describe_secret", MADE)
        with pytest.raises(
            CheckFailed, match="the secret temper-dev/hub-token has no value"
        ) as caught:
            checks.token()
        answers.add_response("describe_secret", FILLED)
        assert checks.token() == "temper-dev/hub-token: value stored"
    assert "put-secret-value" in caught.value.fix


def test_judge_key_without_value(
    emulated: EmulatedEnvironment, make_checks: Callable[..., AccountChecks]
) -> None:
    assert results(make_checks())["keys"].detail.startswith("not needed")
    checks = with_value(make_checks(), "secrets/keys/JUDGE_KEY", "temper-dev/keys/JUDGE_KEY")
    assert checks.keys().startswith("not needed"), "the job calls nobody"
    checks.job = None
    with Stubber(checks.account.client("secretsmanager")) as answers:
        answers.add_response("describe_secret", MADE)
        with pytest.raises(CheckFailed, match="temper-dev/keys/JUDGE_KEY"):
            checks.keys()


def test_denied_check_is_skipped(
    emulated: EmulatedEnvironment, make_checks: Callable[..., AccountChecks]
) -> None:
    checks = make_checks()
    with Stubber(checks.account.client("iam")) as answers:
        answers.add_client_error("get_role", "AccessDenied", "not you", 403)
        with pytest.raises(Skipped, match="may not call IAM"):
            checks.role()


def test_without_credentials_other_checks_are_skipped(
    make_checks: Callable[..., AccountChecks], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    found = results(make_checks())
    assert "no AWS credentials were found" in found["credentials"].detail
    assert {f.outcome for name, f in found.items() if name != "credentials"} == {"skipped"}

"""Tests that there is no finding, and that every suppression is needed and explained."""

from collections.abc import Callable
from pathlib import Path

import aws_cdk as cdk
import pytest
from aws_cdk import aws_s3 as s3

from stacks.feature_flags import FLAGS
from stacks.nag.public_packs import acknowledge, attach, findings
from stacks.nag.suppressions import SUPPRESSIONS
from tests.infra.conftest import Assembly

# Synthesis fails on a finding, so an assembly that exists has none (planted ones below prove it).


@pytest.mark.parametrize("name", ["dev", "prod", "everything", "eks", "existing"])
def test_no_finding_is_left(assembly_of: Callable[[str], Assembly], name: str) -> None:
    report = assembly_of(name).outdir / "validation-report.json"
    assert report.is_file()
    assert '"conclusion": "failure"' not in report.read_text(encoding="utf-8")


def test_every_explanation_is_needed(
    assembly_of: Callable[[str], Assembly],
) -> None:
    names = ("dev", "prod", "everything", "eks", "existing")
    used = {each for name in names for each in assembly_of(name).acknowledged}
    assert [suppression.rule for suppression in SUPPRESSIONS if suppression not in used] == []


@pytest.mark.parametrize("suppression", SUPPRESSIONS, ids=lambda suppression: suppression.rule[:40])
def test_every_explanation_is_a_sentence(suppression: object) -> None:
    reason = str(suppression.reason)  # type: ignore[attr-defined]
    assert len(reason.split()) >= 9
    assert reason.endswith(".")


def test_a_planted_finding_fails_synthesis_beside_acknowledged_ones(tmp_path: Path) -> None:
    app = cdk.App(context=FLAGS, outdir=str(tmp_path))
    stack = cdk.Stack(app, "planted-storage")
    # The first may lack a key, as the bucket of access logs does; its neighbour may not.
    logs = cdk.aws_s3.CfnBucket(cdk.Stack(app, "other"), "Bucket")
    s3.CfnBucket(stack, "Open")
    cdk.Validations.of(logs).acknowledge(
        *(
            cdk.Acknowledgment(id=finding.rule, reason="planted")
            for finding in findings(app)
            if finding.path == "other/Bucket"
        )
    )
    attach(app)
    with pytest.raises(RuntimeError, match="planted-storage/Open"):
        app.synth()
    left = {(finding.rule, finding.path) for finding in findings(app)}
    assert ("AwsSolutions-S10", "planted-storage/Open") in left
    assert not [where for _, where in left if where == "other/Bucket"]


def test_a_wildcard_that_nobody_explained_is_left(tmp_path: Path) -> None:
    app = cdk.App(context=FLAGS, outdir=str(tmp_path))
    stack = cdk.Stack(app, "x-security")
    cdk.aws_iam.CfnManagedPolicy(
        stack,
        "Wide",
        policy_document={
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": "s3:Get*", "Resource": "*"}],
        },
    )
    acknowledge(app)
    assert {finding.rule for finding in findings(app)} >= {
        "AwsSolutions-IAM5[Action::s3:Get*]",
        "AwsSolutions-IAM5[Resource::*]",
    }

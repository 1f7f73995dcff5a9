"""Tests of the guide "Day 30": its commands work, and do what the guide says."""

from pathlib import Path

import pytest
import yaml

from tests.infra.day_30 import Guide, account, first_environment, steps

TITLES = (
    "Switch HyperPod off",
    "Add a zone",
    "Switch HyperPod on again",
    "Move to another Region",
    "Tear down",
    "Adopt what was retained",
)


def test_the_guide_has_commands_under_every_heading() -> None:
    assert tuple(dict.fromkeys(step.title for step in steps() if step.commands)) == TITLES
    commands = [command for step in steps() for command in step.commands]
    assert all(command.startswith(("make ", "aws s3 sync ")) for command in commands)


@pytest.mark.slow
def test_the_guide_of_day_30_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "prod.yaml").write_text(yaml.safe_dump(first_environment()), encoding="utf-8")
    with account(tmp_path) as port:
        guide = Guide(tmp_path, port)
        guide.run("make bootstrap ENV=prod")
        guide.run("make deploy ENV=prod")
        data = "temper-prod-data-123456789012-us-east-1"
        guide.client("s3").put_object(Bucket=data, Key="rows.jsonl", Body=b"{}")
        keys = _keys(guide)
        for step in steps():
            if step.settings is not None:
                guide.write(step.settings)
            for command in step.commands:
                guide.run(command)
            if step.commands:
                _check(step.title, guide, keys)
    with capsys.disabled():
        print(f"\nDay 30: {len(guide.output)} commands in {guide.seconds:.0f} s")


def _check(title: str, guide: Guide, keys: dict[str, str]) -> None:
    """Check what the guide says about the end of a section."""
    stacks = _stacks(guide)
    last = guide.output[-1][1]
    if title == "Switch HyperPod off":
        assert "temper-prod-hyperpod" not in stacks
        assert "Stays in the account, no longer managed: AWS::FSx::FileSystem" in last
    elif title == "Add a zone":
        assert len(_ids(guide, "network", "AWS::EC2::Subnet")) == 3
    elif title == "Switch HyperPod on again":
        assert "temper-prod-hyperpod" in stacks
        assert "Adopting AWS::FSx::FileSystem" in last
    elif title == "Tear down":
        assert not [name for name in stacks if name.startswith("temper-prod-")]
        assert "Stays in the account, no longer managed: AWS::KMS::Key" in last
    elif title == "Adopt what was retained":
        assert _keys(guide) == keys, "the keys are those that the data is encrypted with"
        assert "temper-prod-hyperpod" in stacks
        bucket = "temper-prod-data-123456789012-us-east-1"
        assert guide.client("s3").get_object(Bucket=bucket, Key="rows.jsonl")
    elif title == "Move to another Region":
        bucket = "temper-west-data-123456789012-us-west-2"
        copied = guide.client("s3", "us-west-2").get_object(Bucket=bucket, Key="rows.jsonl")
        assert copied["Body"].read() == b"{}"


def _stacks(guide: Guide) -> list[str]:
    answer = guide.client("cloudformation").describe_stacks()
    return [stack["StackName"] for stack in answer["Stacks"]]


def _keys(guide: Guide) -> dict[str, str]:
    return _ids(guide, "security", "AWS::KMS::Key")


def _ids(guide: Guide, stack: str, kind: str) -> dict[str, str]:
    """Return the physical ids of a stack's resources of one type, by logical id."""
    answer = guide.client("cloudformation").list_stack_resources(StackName=f"temper-prod-{stack}")
    return {
        each["LogicalResourceId"]: each["PhysicalResourceId"]
        for each in answer["StackResourceSummaries"]
        if each["ResourceType"] == kind
    }

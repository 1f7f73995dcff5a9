"""Test that deploys all stacks twice to an emulated account with the real CDK CLI."""

from pathlib import Path

import pytest

from tests.infra.deploy_rehearsal import CDK, ENVIRONMENTS, rehearse, report


@pytest.mark.slow
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_stack_deploys_twice_and_is_deleted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert CDK.exists(), "make .venv/.node installs the CDK command line"
    outcome = rehearse(tmp_path, name)
    with capsys.disabled():
        report(outcome, name)
    assert outcome.changed_stacks == []
    assert outcome.remaining_stacks == []
    # A cluster on Slurm has a bucket for its lifecycle scripts, with a key of its own.
    on_slurm = name == "isolated"
    assert outcome.created["AWS::KMS::Key"] == 4 + on_slurm
    assert outcome.created["AWS::S3::Bucket"] == 5 + on_slurm
    if name == "rehearsal":
        assert "temper-try-hyperpod" not in outcome.stacks_when_off
        assert "temper-try-storage" in outcome.stacks_when_off
        # The removal of an endpoint that is code deletes its stack, and nothing else.
        # The emulator names the endpoint by itself.
        [ended] = outcome.ended
        assert ended.startswith("temper-try-")
        assert "temper-try-serving-chat" not in outcome.stacks_after_end
        assert "temper-try-serving" in outcome.stacks_after_end
    if name == "isolated":
        assert not set(outcome.created) & {"AWS::EC2::NatGateway", "AWS::EC2::InternetGateway"}
        assert outcome.handled == {
            "Custom::ClusterLogGroup": 1,
            "Custom::InvocationLogging": 1,
            "Custom::LifecycleScripts": 1,
            "Custom::ProvisionedThroughput": 1,
        }
    # Known to be accepted only: if the emulator learns one of these, the report changes by itself.
    assert not set(outcome.created) & set(outcome.accepted)

"""The whole platform, deployed twice to an emulated account by the real CDK CLI, and destroyed."""

from pathlib import Path

import pytest

from tests.infra.rehearsal import CDK, rehearse, report


@pytest.mark.slow
def test_every_stack_deploys_twice_and_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert CDK.exists(), "make .venv/.node installs the CDK command line"
    outcome = rehearse(tmp_path)
    with capsys.disabled():
        report(outcome)
    assert outcome.second_changes == []
    assert outcome.left_over == []
    assert outcome.created["AWS::KMS::Key"] == 4
    assert outcome.created["AWS::S3::Bucket"] == 5
    # Known to be accepted only: if the emulator learns one of these, the report changes by itself.
    assert not set(outcome.created) & set(outcome.accepted)

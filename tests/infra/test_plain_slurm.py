"""Tests of a Slurm cluster without an accounting database, in a smaller environment."""

from pathlib import Path

import pytest
import yaml

from tests.infra.conftest import TESTS, Assembly, remove_bedrock, synthesize


@pytest.fixture(scope="module")
def plain_slurm(tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    folder: Path = tmp_path_factory.mktemp("plain")
    content = yaml.safe_load((TESTS / "everything.yaml").read_text(encoding="utf-8"))
    content["name"] = "plain"
    del content["hyperpod"]["accounting"]
    remove_bedrock(content)
    (folder / "plain.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return synthesize(folder, "plain", folder / "out")


def test_the_orchestrator_is_slurm_although_its_section_is_empty(plain_slurm: Assembly) -> None:
    [cluster] = plain_slurm.of_type("AWS::SageMaker::Cluster")
    assert cluster["Properties"]["Orchestrator"] == {"Slurm": {}}
    assert cluster["Properties"]["NodeProvisioningMode"] == "Continuous"

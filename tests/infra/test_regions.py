"""Tests that every template passes cfn-lint in four Regions, on EKS and on Slurm."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.infra.conftest import TESTS, Assembly, synthesize

REGIONS = {
    "us-east-1": "use1",
    "us-west-2": "usw2",
    "eu-west-1": "euw1",
    "ap-northeast-1": "apne1",
    "eu-central-1": "euc1",
}


def _moved_to(environment: str, region: str, ids: str) -> dict[str, Any]:
    """Return a test environment in another Region."""
    text = (TESTS / f"{environment}.yaml").read_text()
    # Not every Region offers the smallest of the newer types.
    text = text.replace("ml.g6.xlarge", "ml.g5.xlarge")
    content: dict[str, Any] = yaml.safe_load(text.replace("us-east-1:1111", f"{region}:1111"))
    content["region"] = region
    content["network"]["zones"] = [
        {"name": f"{region}a", "id": f"{ids}-az1"},
        {"name": f"{region}c", "id": f"{ids}-az4" if ids == "apne1" else f"{ids}-az2"},
    ]
    pod = content["hyperpod"]
    # A training plan is bought in a zone of its own.
    pod["groups"] = [group for group in pod["groups"] if "training_plan" not in group]
    for group in pod["groups"]:
        if "zone" in group:
            group["zone"] = f"{region}a"
    return content


# W3005: the library writes a function's dependency on its role out although it follows from a
# reference. W3010: zones are named on purpose, because synthesis looks nothing up.
LEFT_OUT = ["W3005", "W3010"]


HOME = ("eks", "us-east-1")
# Stacks in which `everything` differs from `eks`; the others are linted once.
ONLY_HERE = {
    *("security", "storage", "hyperpod"),
    *("serving", "serving-assistant", "serving-drafts"),
}


def _params() -> list[Any]:
    """Return the parameters: EKS in us-east-1 always, the others marked slow."""
    others = [(name, region) for region in sorted(REGIONS) for name in ("eks", "everything")]
    others.remove(("everything", "eu-central-1"))
    others += [("prod", "us-east-1"), ("dev", "us-east-1")]
    return [
        HOME,
        *(pytest.param(each, marks=pytest.mark.slow) for each in others if each != HOME),
    ]


@pytest.fixture(scope="module", params=_params(), ids=lambda each: f"{each[0]}-{each[1]}")
def region(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    assembly_of: Callable[[str], Assembly],
) -> Any:
    """Region and its assembly."""
    environment, name = request.param
    if name == "us-east-1":
        return name, assembly_of(environment)
    folder: Path = tmp_path_factory.mktemp(name)
    content = _moved_to(environment, name, REGIONS[name])
    (folder / f"{environment}.yaml").write_text(yaml.safe_dump(content))
    return name, synthesize(folder, environment, folder / "cdk.out")


@pytest.mark.slow
def test_cfn_lint_has_nothing_to_say(region: Any) -> None:
    from cfnlint.api import lint
    from cfnlint.config import ManualArgs

    name, assembly = region
    found = []
    for stack, template in assembly.templates.items():
        if assembly.name == "everything" and name != "us-east-1" and stack not in ONLY_HERE:
            continue
        matches = lint(
            json.dumps(template), config=ManualArgs(regions=[name], ignore_checks=LEFT_OUT)
        )
        found += [
            f"{name}/{stack} {match.rule.id} {match.message} {match.path}" for match in matches
        ]
    assert found == []


def test_a_type_that_the_region_lacks_is_left_out(region: Any) -> None:
    from stacks.aws_data.tables import region_has

    name, assembly = region
    if assembly.name != "eks":
        return  # shares between teams exist on EKS
    for kind in ("AWS::SageMaker::ClusterSchedulerConfig", "AWS::SageMaker::ComputeQuota"):
        assert bool(assembly.of_type(kind)) is region_has(name, kind)

"""Every template is clean for cfn-lint in four Regions, with everything switched on."""

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
}


def _moved_to(region: str, ids: str) -> dict[str, Any]:
    """The environment `eks` in another Region."""
    text = (TESTS / "eks.yaml").read_text()
    content: dict[str, Any] = yaml.safe_load(text.replace("us-east-1:1111", f"{region}:1111"))
    content["region"] = region
    content["network"]["zones"] = [
        {"name": f"{region}a", "id": f"{ids}-az1"},
        {"name": f"{region}c", "id": f"{ids}-az4" if ids == "apne1" else f"{ids}-az2"},
    ]
    return content


# W3005: the library writes a function's dependency on its role out although it follows from a
# reference. W3010: zones are named on purpose, because synthesis looks nothing up.
LEFT_OUT = ["W3005", "W3010"]


def _params() -> list[Any]:
    """us-east-1 always; the others take half a minute each."""
    home = "us-east-1"
    others = [
        pytest.param(name, marks=pytest.mark.slow) for name in sorted(REGIONS) if name != home
    ]
    return [home, *others]


@pytest.fixture(scope="module", params=_params())
def region(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    assembly_of: Callable[[str], Assembly],
) -> Any:
    """The Region and its assembly."""
    name = str(request.param)
    if name == "us-east-1":
        return name, assembly_of("eks")
    folder: Path = tmp_path_factory.mktemp(name)
    (folder / "eks.yaml").write_text(yaml.safe_dump(_moved_to(name, REGIONS[name])))
    return name, synthesize(folder, "eks", folder / "cdk.out")


def test_cfn_lint_has_nothing_to_say(region: Any) -> None:
    from cfnlint.api import lint
    from cfnlint.config import ManualArgs

    name, assembly = region
    found = []
    for stack, template in assembly.templates.items():
        matches = lint(
            json.dumps(template), config=ManualArgs(regions=[name], ignore_checks=LEFT_OUT)
        )
        found += [
            f"{name}/{stack} {match.rule.id} {match.message} {match.path}" for match in matches
        ]
    assert found == []


def test_a_type_that_the_region_lacks_is_left_out(region: Any) -> None:
    from stacks.facts.tables import region_has

    name, assembly = region
    for kind in ("AWS::SageMaker::ClusterSchedulerConfig", "AWS::SageMaker::ComputeQuota"):
        assert bool(assembly.of_type(kind)) is region_has(name, kind)

"""Tests that templates stay below the limits of CloudFormation and that synthesis is repeatable."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.infra.conftest import OURS, Assembly, synthesize

RESOURCES, BODY = 400, 800_000


@pytest.mark.parametrize("name", ["dev", "prod", "everything"])
def test_templates_are_well_below_the_size_limit(
    assembly_of: Callable[[str], Assembly], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = []
    for stack, template in assembly_of(name).templates.items():
        size = len(json.dumps(template))
        rows.append(f"  {name}/{stack}: {len(template['Resources'])} resources, {size:,} bytes")
        assert len(template["Resources"]) < RESOURCES
        assert size < BODY
    with capsys.disabled():
        print("\n" + "\n".join(rows))


def test_synthesis_is_quick_and_says_the_same_twice(dev: Assembly, tmp_path: Path) -> None:
    started = time.process_time()
    again = synthesize(OURS, "dev", tmp_path)
    assert again.templates == dev.templates
    # CPU time of this process; jsii's Node works beside it.
    assert time.process_time() - started < 20

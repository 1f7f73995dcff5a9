"""Deployment of every stack to an emulated account with the real CDK CLI: `make rehearse-deploy`.

For each of two environments (a private network with HyperPod on EKS; an isolated network with
HyperPod on Slurm and all of Bedrock) it starts a moto server, bootstraps it, deploys twice (the
second deployment must change nothing), switches HyperPod on EKS off and on, reports what the
emulator created, accepted and stubbed, and destroys the stacks. An emulator that accepts a resource
proves only that its template is well-formed.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import yaml

from emulator.moto_account import CDK, DEPLOY, ROOT, app_options, cdk, cdk_environment, moto_server
from stacks.handlers.undeploy.main import undeploy
from stacks.handlers.undeploy.rule import EndRule
from tests.infra.emulated_account import CUSTOM_TYPES, STUB_ATTRIBUTES

__all__ = ["CDK", "ENVIRONMENTS", "rehearse", "report"]
# Environment → prefix.
ENVIRONMENTS, REGION = {"rehearsal": "temper-try", "isolated": "temper-iso"}, "us-east-1"
ENVIRONMENTS_FOLDER = Path("tests/infra/environments")
# Not with -m: moto derives the package from the name of the module that defines a type.
SERVER = (sys.executable, "-c", "from tests.infra.emulated_account import main; main()")
# Warning that moto logs for a resource type it does not support, before it continues.
UNKNOWN = re.compile(r"Tried to parse (AWS::[A-Za-z0-9:]+) but it's not supported")


@dataclass
class Outcome:
    """Results of one rehearsal."""

    created: dict[str, int] = field(default_factory=dict)
    accepted: dict[str, int] = field(default_factory=dict)
    stubbed: dict[str, int] = field(default_factory=dict)
    handled: dict[str, int] = field(default_factory=dict)
    changed_stacks: list[str] = field(default_factory=list)
    remaining_stacks: list[str] = field(default_factory=list)
    stacks_when_off: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    stacks_after_end: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


def main() -> None:
    """Rehearse all environments, and exit with 1 if a second deployment changed something."""
    failed = False
    for name in ENVIRONMENTS:
        with tempfile.TemporaryDirectory(prefix="rehearsal-") as folder:
            outcome = rehearse(Path(folder), name)
        report(outcome, name)
        failed |= bool(outcome.changed_stacks or outcome.remaining_stacks)
    sys.exit(failed)


def rehearse(work: Path, name: str) -> Outcome:
    """Deploy twice and destroy; `work` receives logs and the cloud assembly."""
    outcome, prefix = Outcome(), ENVIRONMENTS[name]
    with moto_server(work / "moto.log", SERVER) as port:
        environment = cdk_environment(port, REGION, work)
        app = app_options(work, name, ENVIRONMENTS_FOLDER)
        deploy = [*DEPLOY, "--all", *app]

        def step(title: str, arguments: list[str]) -> str:
            started = time.monotonic()
            # Bootstrapping needs no app.
            options = {"cwd": work} if title == "bootstrap" else {}
            output = cdk(title, arguments, environment, work, **options)
            outcome.seconds[title] = time.monotonic() - started
            return output

        step("bootstrap", ["bootstrap", f"aws://123456789012/{REGION}"])
        step("deploy", deploy)
        _sort_resources(outcome, port, prefix, work / "moto.log")
        again = step("deploy again", deploy)
        outcome.changed_stacks = [
            name for name in _stack_names(port, prefix) if f"{name} (no changes)" not in again
        ]
        if name == "rehearsal":
            started = time.monotonic()
            outcome.stacks_when_off = _switch_hyperpod(work, name, port, environment)
            outcome.seconds["HyperPod off and on"] = time.monotonic() - started
            outcome.ended = _end_deployments(port, prefix)
            outcome.stacks_after_end = _stack_names(port, prefix)
        _empty_lifecycle_buckets(port)
        step("destroy", ["destroy", "--all", "--force", *app])
        outcome.remaining_stacks = _stack_names(port, prefix)
    return outcome


def _switch_hyperpod(work: Path, name: str, port: int, environment: dict[str, str]) -> list[str]:
    """Switch HyperPod off and on with `temper deploy-environment`; return the stacks without it.

    Args:
        work: Folder for the environment file.
        name: Name of the environment.
        port: Port of the emulated account.
        environment: Environment variables of the CDK CLI.
    """
    content = yaml.safe_load((ENVIRONMENTS_FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    stacks = []
    for enabled in (False, True):
        content["hyperpod"]["enabled"] = enabled
        (work / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        done = subprocess.run(
            [
                *(sys.executable, "-m", "temper", "deploy-environment", "--env", name),
                *("--environments", str(work), "--output", str(work / "switched"), "--"),
                *("--require-approval", "never", "--method", "direct", "--no-notices"),
            ],
            cwd=ROOT,
            env={**os.environ, **environment, "YES": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1800,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"HyperPod enabled: {enabled} failed:\n{done.stdout[-6000:]}")
        stacks.append(_stack_names(port, ENVIRONMENTS[name]))
    assert set(stacks[1]) - set(stacks[0]) == {f"{ENVIRONMENTS[name]}-hyperpod"}
    return stacks[0]


def _end_deployments(port: int, prefix: str) -> list[str]:
    """Run the scheduled removal a day after the end of the deployment; return what it removed."""
    removed = undeploy(
        client=lambda service: _client(port, service),
        rule=EndRule(datetime(2027, 2, 1, tzinfo=UTC)),
        kinds=["endpoint"],
        prefix=prefix,
        namespace=f"Temper/{prefix}",
    )
    return removed["deleted"]


def _empty_lifecycle_buckets(port: int) -> None:
    """Delete the lifecycle scripts, for which the emulator sends the handler no Delete request.

    CloudFormation deletes a custom resource before the bucket that it refers to; the handler's
    Delete is tested by itself (`handlers/test_publish_files.py`).
    """
    s3 = _client(port, "s3")
    for bucket in s3.list_buckets()["Buckets"]:
        if bucket["Name"].startswith("sagemaker-"):
            for found in s3.list_object_versions(Bucket=bucket["Name"]).get("Versions", ()):
                s3.delete_object(
                    Bucket=bucket["Name"], Key=found["Key"], VersionId=found["VersionId"]
                )


def report(outcome: Outcome, name: str) -> None:
    """Print what the emulator created and what it did not."""
    times = ", ".join(f"{step} {seconds:.0f} s" for step, seconds in outcome.seconds.items())
    print(f"\nThe environment {name!r}\nSteps: {times}")
    for title, counts in (
        ("Created by the emulator", outcome.created),
        ("Accepted, not created", outcome.accepted),
        ("Stub attributes only, nothing created", outcome.stubbed),
        ("Created by the handlers of the platform, run against the emulator", outcome.handled),
    ):
        print(f"\n{title} ({sum(counts.values())} resources):")
        for kind, number in sorted(counts.items()):
            print(f"  {number:3} {kind}")
    changed = ", ".join(outcome.changed_stacks) or "nothing"
    print(f"\nThe second deployment changed {changed}.")
    print(f"Stacks that remain after destroy: {', '.join(outcome.remaining_stacks) or 'none'}.")


def _client(port: int, service: str = "cloudformation") -> Any:
    return boto3.client(
        service,
        endpoint_url=f"http://localhost:{port}",
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


def _stack_names(port: int, prefix: str) -> list[str]:
    stacks = _client(port).describe_stacks()["Stacks"]
    return sorted(s["StackName"] for s in stacks if s["StackName"].startswith(prefix))


def _sort_resources(outcome: Outcome, port: int, prefix: str, log: Path) -> None:
    """Count created and accepted resources by type.

    A type that moto logs as unsupported was accepted but not created.
    """
    unknown = set(UNKNOWN.findall(log.read_text(encoding="utf-8", errors="replace")))
    client = _client(port)
    for stack in _stack_names(port, prefix):
        template = client.get_template(StackName=stack)["TemplateBody"]
        created_ids = {
            r["LogicalResourceId"]
            for r in client.list_stack_resources(StackName=stack)["StackResourceSummaries"]
        }
        for logical_id, resource in template["Resources"].items():
            kind = resource["Type"]
            real = logical_id in created_ids and kind not in unknown
            counts = outcome.created if real else outcome.accepted
            if kind in STUB_ATTRIBUTES:
                counts = outcome.stubbed
            elif kind in CUSTOM_TYPES:
                counts = outcome.handled
            counts[kind] = counts.get(kind, 0) + 1


if __name__ == "__main__":
    main()

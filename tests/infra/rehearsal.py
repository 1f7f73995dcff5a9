"""Deploys every stack to an emulated account with the real CDK CLI: `make rehearse-deploy`.

Starts a moto server, bootstraps it, deploys twice (the second time must change nothing), says what
the emulator really created and what it merely accepted, and destroys. An emulator that accepts a
resource proves that the template is well-formed there, and no more.
"""

import re
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3

from launch.rehearsal.emulator import (
    CDK,
    DEPLOY,
    app_options,
    cdk,
    cdk_environment,
    moto_server,
)

__all__ = ["CDK", "rehearse", "report"]
ENVIRONMENT, PREFIX, REGION = "rehearsal", "temper-try", "us-east-1"
# What moto does with a type it does not know: it warns in its log, and goes on.
UNKNOWN = re.compile(r"Tried to parse (AWS::[A-Za-z0-9:]+) but it's not supported")


@dataclass
class Outcome:
    """What happened, in the order in which it did."""

    created: dict[str, int] = field(default_factory=dict)
    accepted: dict[str, int] = field(default_factory=dict)
    second_changes: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    by_hand: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def main() -> None:
    """Rehearses and prints; fails if the second deployment changed something."""
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as folder:
        outcome = rehearse(Path(folder))
    report(outcome)
    if outcome.second_changes or outcome.left_over:
        sys.exit(1)


def rehearse(work: Path) -> Outcome:
    """Deploys, deploys again, destroys; `work` keeps logs and the assembly."""
    outcome = Outcome()
    with moto_server(work / "moto.log") as port:
        environment = cdk_environment(port, REGION, work)
        _timed(
            outcome, "bootstrap", ["bootstrap", f"aws://123456789012/{REGION}"], environment, work
        )
        _timed(outcome, "deploy", [*DEPLOY, "--all"], environment, work)
        _sort_resources(outcome, port, work / "moto.log")
        again = _timed(outcome, "deploy again", [*DEPLOY, "--all"], environment, work)
        outcome.second_changes = [
            name for name in _stack_names(port) if f"{name} (no changes)" not in again
        ]
        outcome.by_hand = {
            "policies detached from their roles": _detach_policies(port),
            "route tables removed": _remove_route_tables(port),
        }
        _timed(outcome, "destroy", ["destroy", "--all", "--force"], environment, work)
        outcome.left_over = _stack_names(port)
    return outcome


def report(outcome: Outcome) -> None:
    """Says what was really made, and what was not."""
    times = ", ".join(f"{step} {seconds:.0f} s" for step, seconds in outcome.seconds.items())
    print(f"Steps: {times}")
    print(f"\nCreated by the emulator ({sum(outcome.created.values())} resources):")
    for kind, number in sorted(outcome.created.items()):
        print(f"  {number:3} {kind}")
    print(f"\nAccepted, not created ({sum(outcome.accepted.values())} resources):")
    for kind, number in sorted(outcome.accepted.items()):
        print(f"  {number:3} {kind}")
    changed = ", ".join(outcome.second_changes) or "nothing"
    print(f"\nThe second deployment changed {changed}.")
    by_hand = ", ".join(f"{number} {what}" for what, number in outcome.by_hand.items())
    print(
        f"By hand before destroying, as CloudFormation does and the emulator does not: {by_hand}."
    )
    print(f"After destroy these stacks were left: {', '.join(outcome.left_over) or 'none'}.")


def _timed(
    outcome: Outcome, step: str, arguments: list[str], environment: dict[str, str], work: Path
) -> str:
    """Runs the CDK CLI and notes how long it took; bootstrapping needs no app."""
    started = time.monotonic()
    if step == "bootstrap":
        said = cdk(step, arguments, environment, work, cwd=work)
    else:
        app = app_options(work, ENVIRONMENT, Path("tests/infra/environments"))
        said = cdk(step, [*arguments, *app], environment, work)
    outcome.seconds[step] = time.monotonic() - started
    return said


def _detach_policies(port: int) -> int:
    iam = _client(port, "iam")
    found = [
        (role["RoleName"], policy["PolicyArn"])
        for page in iam.get_paginator("list_roles").paginate()
        for role in page["Roles"]
        for policy in iam.list_attached_role_policies(RoleName=role["RoleName"])["AttachedPolicies"]
        if role["RoleName"].startswith(PREFIX)
    ]
    for role, policy in found:
        iam.detach_role_policy(RoleName=role, PolicyArn=policy)
    return len(found)


def _remove_route_tables(port: int) -> int:
    ec2 = _client(port, "ec2")
    removed = 0
    for table in ec2.describe_route_tables()["RouteTables"]:
        if any(association.get("Main") for association in table["Associations"]):
            continue
        for association in table["Associations"]:
            ec2.disassociate_route_table(AssociationId=association["RouteTableAssociationId"])
        ec2.delete_route_table(RouteTableId=table["RouteTableId"])
        removed += 1
    return removed


def _client(port: int, service: str = "cloudformation") -> Any:
    return boto3.client(
        service,
        endpoint_url=f"http://localhost:{port}",
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


def _stack_names(port: int) -> list[str]:
    stacks = _client(port).describe_stacks()["Stacks"]
    return sorted(s["StackName"] for s in stacks if s["StackName"].startswith(PREFIX))


def _sort_resources(outcome: Outcome, port: int, log: Path) -> None:
    """A type that moto says it does not support was accepted; the others were created."""
    unknown = set(UNKNOWN.findall(log.read_text(encoding="utf-8", errors="replace")))
    client = _client(port)
    for stack in _stack_names(port):
        template = client.get_template(StackName=stack)["TemplateBody"]
        known = {
            r["LogicalResourceId"]
            for r in client.list_stack_resources(StackName=stack)["StackResourceSummaries"]
        }
        for logical_id, resource in template["Resources"].items():
            kind = resource["Type"]
            real = logical_id in known and kind not in unknown
            pile = outcome.created if real else outcome.accepted
            pile[kind] = pile.get(kind, 0) + 1


if __name__ == "__main__":
    main()

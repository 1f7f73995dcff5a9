"""Deploys every stack to an emulated account with the real CDK CLI: `make rehearse-deploy`.

For each of two environments (a private network with HyperPod on EKS; an isolated one with HyperPod
on Slurm and all of Bedrock): starts a moto server, bootstraps it, deploys twice (the second time
must change nothing), says what the emulator really created, what it merely accepted and what stands
in for it, and destroys. An emulator that accepts a resource proves that the template is well-formed
there, and no more.
"""

import re
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3

from emulator.moto_account import CDK, DEPLOY, app_options, cdk, cdk_environment, moto_server
from tests.infra.emulated_account import CUSTOM, MADE_UP

__all__ = ["CDK", "ENVIRONMENTS", "rehearse", "report"]
# Each with the prefix of its file.
ENVIRONMENTS, REGION = {"rehearsal": "temper-try", "isolated": "temper-iso"}, "us-east-1"
# Not with -m: moto reads the package from the name of the module that a type stands in.
SERVER = (sys.executable, "-c", "from tests.infra.emulated_account import main; main()")
# What moto does with a type it does not know: it warns in its log, and goes on.
UNKNOWN = re.compile(r"Tried to parse (AWS::[A-Za-z0-9:]+) but it's not supported")


@dataclass
class Outcome:
    """What happened, in the order in which it did."""

    created: dict[str, int] = field(default_factory=dict)
    accepted: dict[str, int] = field(default_factory=dict)
    made_up: dict[str, int] = field(default_factory=dict)
    run_by_us: dict[str, int] = field(default_factory=dict)
    second_changes: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    by_hand: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def main() -> None:
    """Rehearses and prints; fails if a second deployment changed something."""
    failed = False
    for name in ENVIRONMENTS:
        with tempfile.TemporaryDirectory(prefix="rehearsal-") as folder:
            outcome = rehearse(Path(folder), name)
        report(outcome, name)
        failed |= bool(outcome.second_changes or outcome.left_over)
    sys.exit(failed)


def rehearse(work: Path, name: str) -> Outcome:
    """Deploys, deploys again, destroys; `work` keeps logs and the assembly."""
    outcome, prefix = Outcome(), ENVIRONMENTS[name]
    with moto_server(work / "moto.log", SERVER) as port:
        environment = cdk_environment(port, REGION, work)
        app = app_options(work, name, Path("tests/infra/environments"))
        deploy = [*DEPLOY, "--all", *app]

        def step(title: str, arguments: list[str]) -> str:
            started = time.monotonic()
            # Bootstrapping needs no app.
            where = {"cwd": work} if title == "bootstrap" else {}
            said = cdk(title, arguments, environment, work, **where)
            outcome.seconds[title] = time.monotonic() - started
            return said

        step("bootstrap", ["bootstrap", f"aws://123456789012/{REGION}"])
        step("deploy", deploy)
        _sort_resources(outcome, port, prefix, work / "moto.log")
        again = step("deploy again", deploy)
        outcome.second_changes = [
            name for name in _stack_names(port, prefix) if f"{name} (no changes)" not in again
        ]
        outcome.by_hand = {
            "policies detached from their roles": _detach_policies(port, prefix),
            "route tables removed": _remove_route_tables(port),
        }
        step("destroy", ["destroy", "--all", "--force", *app])
        outcome.left_over = _stack_names(port, prefix)
    return outcome


def report(outcome: Outcome, name: str) -> None:
    """Says what was really made, and what was not."""
    times = ", ".join(f"{step} {seconds:.0f} s" for step, seconds in outcome.seconds.items())
    print(f"\nThe environment {name!r}\nSteps: {times}")
    for title, pile in (
        ("Created by the emulator", outcome.created),
        ("Accepted, not created", outcome.accepted),
        ("Attributes made up, nothing created", outcome.made_up),
        ("Made by our own functions, run here against the emulator", outcome.run_by_us),
    ):
        print(f"\n{title} ({sum(pile.values())} resources):")
        for kind, number in sorted(pile.items()):
            print(f"  {number:3} {kind}")
    changed = ", ".join(outcome.second_changes) or "nothing"
    print(f"\nThe second deployment changed {changed}.")
    by_hand = ", ".join(f"{number} {what}" for what, number in outcome.by_hand.items())
    print(
        f"By hand before destroying, as CloudFormation does and the emulator does not: {by_hand}."
    )
    print(f"After destroy these stacks were left: {', '.join(outcome.left_over) or 'none'}.")


def _detach_policies(port: int, prefix: str) -> int:
    iam = _client(port, "iam")
    found = [
        (role["RoleName"], policy["PolicyArn"])
        for page in iam.get_paginator("list_roles").paginate()
        for role in page["Roles"]
        for policy in iam.list_attached_role_policies(RoleName=role["RoleName"])["AttachedPolicies"]
        if role["RoleName"].startswith(prefix)
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


def _stack_names(port: int, prefix: str) -> list[str]:
    stacks = _client(port).describe_stacks()["Stacks"]
    return sorted(s["StackName"] for s in stacks if s["StackName"].startswith(prefix))


def _sort_resources(outcome: Outcome, port: int, prefix: str, log: Path) -> None:
    """A type that moto says it does not support was accepted; the others were created."""
    unknown = set(UNKNOWN.findall(log.read_text(encoding="utf-8", errors="replace")))
    client = _client(port)
    for stack in _stack_names(port, prefix):
        template = client.get_template(StackName=stack)["TemplateBody"]
        known = {
            r["LogicalResourceId"]
            for r in client.list_stack_resources(StackName=stack)["StackResourceSummaries"]
        }
        for logical_id, resource in template["Resources"].items():
            kind = resource["Type"]
            real = logical_id in known and kind not in unknown
            pile = outcome.created if real else outcome.accepted
            if kind in MADE_UP:
                pile = outcome.made_up
            elif kind in CUSTOM:
                pile = outcome.run_by_us
            pile[kind] = pile.get(kind, 0) + 1


if __name__ == "__main__":
    main()

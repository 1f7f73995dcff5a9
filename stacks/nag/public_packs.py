"""Holds an app to AwsSolutions, NIST 800-53 R5, HIPAA, PCI DSS and our own rules.

The public packs' findings are matched with `acknowledged.py` and acknowledged there where they
arise; whatever is left fails the synthesis.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import aws_cdk as cdk
import cdk_nag
from constructs import Construct, IConstruct

from stacks.nag.suppressions import SUPPRESSIONS, Suppression
from stacks.nag.temper_pack import TemperRules

PACKS = (
    cdk_nag.AwsSolutionsChecks,
    cdk_nag.NIST80053R5Checks,
    cdk_nag.HIPAASecurityChecks,
    cdk_nag.PCIDSS321Checks,
)


@dataclass(frozen=True)
class PublicFinding:
    """What a public pack construct: its rule, with the wildcard in brackets, and where."""

    rule: str
    path: str


def attach(app: cdk.App) -> list[Suppression]:
    """Acknowledges what is explained, adds all packs; returns the explanations that were used."""
    used = acknowledge(app)
    plugins = [pack(app) for pack in PACKS]
    cdk.Validations.of(app).add_plugins(*plugins, TemperRules())
    return used


def acknowledge(app: cdk.App) -> list[Suppression]:
    """Writes each suppression beside the finding it explains."""
    used = []
    for finding in findings(app):
        suppression = next(
            (each for each in SUPPRESSIONS if each.matches(finding.rule, finding.path)), None
        )
        if suppression is None:
            continue
        used.append(suppression)
        cdk.Validations.of(_construct_at(app, finding.path)).acknowledge(
            cdk.Acknowledgment(id=finding.rule, reason=suppression.reason)
        )
    return used


def findings(app: cdk.App) -> Iterator[PublicFinding]:
    """Everything the public packs find in the tree as it is."""
    for pack in PACKS:
        for violation in pack(app).validate_scope(app).violations:
            for resource in violation.violating_resources:
                yield PublicFinding(violation.rule_name, str(resource.construct_path))


def _construct_at(app: cdk.App, path: str) -> IConstruct:
    construct: IConstruct | Construct = app
    for part in path.split("/"):
        construct = construct.node.find_child(part)
    return construct

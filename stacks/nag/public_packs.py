"""Validation of an app with AwsSolutions, NIST 800-53 R5, HIPAA, PCI DSS and the Temper rules.

Each finding of a public pack is matched with `suppressions.py` and acknowledged on its construct; a
finding without a match fails the synthesis.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import aws_cdk as cdk
import cdk_nag
from constructs import Construct, IConstruct

from stacks.nag.suppression import Suppression
from stacks.nag.suppressions import SUPPRESSIONS
from stacks.nag.temper_pack import TemperRules

PACKS = (
    cdk_nag.AwsSolutionsChecks,
    cdk_nag.NIST80053R5Checks,
    cdk_nag.HIPAASecurityChecks,
    cdk_nag.PCIDSS321Checks,
)


@dataclass(frozen=True)
class PublicFinding:
    """Finding of a public pack.

    Attributes:
        rule: Name of the rule, followed by a wildcard's action or resource in brackets.
        path: Path of the construct.
    """

    rule: str
    path: str


def attach(app: cdk.App) -> list[Suppression]:
    """Acknowledge the explained findings, add all packs, and return the suppressions used."""
    used = acknowledge(app)
    plugins = [pack(app) for pack in PACKS]
    cdk.Validations.of(app).add_plugins(*plugins, TemperRules())
    return used


def acknowledge(app: cdk.App) -> list[Suppression]:
    """Acknowledge each explained finding on its construct, and return the suppressions used."""
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
    """Yield all findings of the public packs in the current construct tree."""
    for pack in PACKS:
        for violation in pack(app).validate_scope(app).violations:
            for resource in violation.violating_resources:
                yield PublicFinding(violation.rule_name, str(resource.construct_path))


def _construct_at(app: cdk.App, path: str) -> IConstruct:
    construct: IConstruct | Construct = app
    for part in path.split("/"):
        construct = construct.node.find_child(part)
    return construct

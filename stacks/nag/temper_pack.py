"""Temper rule pack: runs every module of `rules/` on the synthesized templates.

Its findings cannot be suppressed: a rule with exceptions is changed instead.
"""

import importlib
import json
import pkgutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import aws_cdk as cdk
import jsii

from stacks.nag import rules
from stacks.nag.template import RuleViolation, SynthesizedTemplate

Rule = Callable[[SynthesizedTemplate], Iterator[RuleViolation]]


@cache
def all_rules() -> dict[str, Rule]:
    """Return the check function of every rule, by rule name."""
    return {
        name: importlib.import_module(f"{rules.__name__}.{name}").check
        for _, name, _ in pkgutil.iter_modules(rules.__path__)
    }


def rule_text(rule: str) -> str:
    """Return the rule as shown to users: the first paragraph of its module's docstring."""
    document = importlib.import_module(f"{rules.__name__}.{rule}").__doc__ or rule
    return " ".join(document.split("\n\n")[0].split())


@jsii.implements(cdk.IPolicyValidationPlugin)
class TemperRules:
    """Validation plugin, which CDK calls with the paths of the templates."""

    @property
    def name(self) -> str:
        """Name in the validation report."""
        return "Temper"

    @property
    def version(self) -> str:
        """Version in the validation report."""
        return "0.1.0"

    @property
    def rule_ids(self) -> list[str]:
        """Names of all rules."""
        return list(all_rules())

    def validate(self, context: cdk.IPolicyValidationContext) -> cdk.PolicyValidationPluginReport:
        """Run every rule on every template."""
        violations = []
        for path in context.template_paths:
            template = SynthesizedTemplate(json.loads(Path(path).read_text(encoding="utf-8")))
            for rule, check in all_rules().items():
                violations_of_rule = list(check(template))
                if violations_of_rule:
                    violations.append(_violation(rule, violations_of_rule, path))
        return cdk.PolicyValidationPluginReport(success=not violations, violations=violations)


def _violation(
    rule: str, violations_of_rule: list[RuleViolation], path: str
) -> cdk.PolicyViolation:
    details = "; ".join(f"{finding.logical_id}: {finding.detail}" for finding in violations_of_rule)
    return cdk.PolicyViolation(
        rule_name=rule,
        description=f"{rule_text(rule)} ({details})",
        severity="error",
        violating_resources=[
            cdk.PolicyViolatingResource(
                resource_logical_id=finding.logical_id, template_path=path, locations=[]
            )
            for finding in violations_of_rule
        ],
    )

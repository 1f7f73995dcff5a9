"""A role that a service assumes names our account as the source of the request.

Without it the service can be talked into using the role for somebody else's resource.
"""

from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate, as_list

# Called by CDK's own provider framework, or by Lambda, which sends no source account.
NO_SOURCE = {"lambda.amazonaws.com", "states.amazonaws.com"}


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yields roles that any account's resource could make a service assume."""
    for logical_id, role in template.of_type("AWS::IAM::Role"):
        for statement in role["AssumeRolePolicyDocument"]["Statement"]:
            services = set(map(str, as_list(statement.get("Principal", {}).get("Service"))))
            if services - NO_SOURCE and "aws:SourceAccount" not in str(statement.get("Condition")):
                yield RuleViolation(logical_id, f"{sorted(services)} without aws:SourceAccount")

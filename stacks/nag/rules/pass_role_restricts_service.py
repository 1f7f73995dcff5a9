"""A statement that allows iam:PassRole must name the service the role may be passed to."""

from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate, as_list


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yield statements without the condition `iam:PassedToService`."""
    for logical_id, statement in template.statements():
        if statement["Effect"] != "Allow" or "iam:PassRole" not in as_list(statement.get("Action")):
            continue
        if "iam:PassedToService" not in str(statement.get("Condition", {})):
            yield RuleViolation(logical_id, "may pass a role to any service")

"""A statement that allows iam:PassRole must name the role, not a pattern."""

from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate, allows, as_list, as_text


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yield statements that allow passing roles by a pattern."""
    for logical_id, statement in template.statements():
        if not allows(statement, "iam:PassRole") or _is_permissions_boundary(statement):
            continue
        for resource in as_list(statement.get("Resource")):
            if "*" in as_text(resource):
                yield RuleViolation(logical_id, f"may pass {as_text(resource)}")


def _is_permissions_boundary(statement: object) -> bool:
    return isinstance(statement, dict) and statement.get("Sid") == "Cap"

"""iam:PassRole names the role that may be passed, never a pattern."""

from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate, allows, listed, text


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yields statements that allow passing roles by a pattern."""
    for logical_id, statement in template.statements():
        if not allows(statement, "iam:PassRole") or _caps_everything(statement):
            continue
        for resource in listed(statement.get("Resource")):
            if "*" in text(resource):
                yield RuleViolation(logical_id, f"may pass {text(resource)}")


def _caps_everything(statement: object) -> bool:
    return isinstance(statement, dict) and statement.get("Sid") == "Cap"

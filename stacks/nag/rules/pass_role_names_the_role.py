"""iam:PassRole names the role that may be passed, never a pattern."""

from collections.abc import Iterator

from stacks.nag.template import Finding, Template, allows, listed, text


def check(template: Template) -> Iterator[Finding]:
    """Yields statements that allow passing roles by a pattern."""
    for logical_id, statement in template.statements():
        if not allows(statement, "iam:PassRole") or _caps_everything(statement):
            continue
        for resource in listed(statement.get("Resource")):
            if "*" in text(resource):
                yield Finding(logical_id, f"may pass {text(resource)}")


def _caps_everything(statement: object) -> bool:
    return isinstance(statement, dict) and statement.get("Sid") == "Cap"

"""A VPC endpoint's policy names our account, or exact resources; never everybody and everything."""

from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate, as_list, as_text


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yields endpoints that would carry data to anybody's account."""
    for logical_id, endpoint in template.of_type("AWS::EC2::VPCEndpoint"):
        document = endpoint.get("PolicyDocument")
        if not document:
            yield RuleViolation(logical_id, "no policy: everything is let through")
            continue
        for statement in document["Statement"]:
            named = "aws:PrincipalAccount" in str(statement.get("Condition"))
            exact = all(as_text(r) != "*" for r in as_list(statement.get("Resource")))
            if statement["Effect"] == "Allow" and not named and not exact:
                yield RuleViolation(logical_id, "lets any account through")

"""A VPC endpoint policy must be restricted to this account or to exact resources."""

from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate, as_list, as_text


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yield endpoints that would carry data to any account."""
    for logical_id, endpoint in template.of_type("AWS::EC2::VPCEndpoint"):
        document = endpoint.get("PolicyDocument")
        if not document:
            yield RuleViolation(logical_id, "no policy: all requests are allowed")
            continue
        for statement in document["Statement"]:
            named = "aws:PrincipalAccount" in str(statement.get("Condition"))
            exact = all(as_text(r) != "*" for r in as_list(statement.get("Resource")))
            if statement["Effect"] == "Allow" and not named and not exact:
                yield RuleViolation(logical_id, "allows requests of any account")

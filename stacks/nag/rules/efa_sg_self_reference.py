"""A security group that allows all traffic from itself must also allow all traffic to itself.

EFA requires both rules; if one is missing, nodes fail their health check at creation.
"""

from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate, as_text


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yield groups with only one of the two rules."""
    incoming = _to_itself(template, "AWS::EC2::SecurityGroupIngress", "SourceSecurityGroupId")
    outgoing = _to_itself(template, "AWS::EC2::SecurityGroupEgress", "DestinationSecurityGroupId")
    for group in sorted(set(incoming) ^ set(outgoing)):
        rule = incoming.get(group) or outgoing[group]
        yield RuleViolation(
            rule, f"{group} has only the {'in' if group in incoming else 'out'}ward rule"
        )


def _to_itself(template: SynthesizedTemplate, kind: str, peer: str) -> dict[str, str]:
    return {
        as_text(rule["GroupId"]): logical_id
        for logical_id, rule in template.of_type(kind)
        if rule.get("IpProtocol") == "-1" and rule.get(peer) == rule.get("GroupId")
    }

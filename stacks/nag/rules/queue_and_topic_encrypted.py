"""A topic, queue or table must be encrypted with a customer-managed key."""

from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yield topics, queues and tables without one."""
    keys = {"AWS::SNS::Topic": "KmsMasterKeyId", "AWS::SQS::Queue": "KmsMasterKeyId"}
    for kind, name in keys.items():
        for logical_id, properties in template.of_type(kind):
            key = properties.get(name)
            if key is None or str(key).startswith("alias/aws/"):
                yield RuleViolation(logical_id, f"{name}: {key}")
    for logical_id, table in template.of_type("AWS::DynamoDB::Table"):
        if "KMSMasterKeyId" not in table.get("SSESpecification", {}):
            yield RuleViolation(logical_id, "no customer-managed key")

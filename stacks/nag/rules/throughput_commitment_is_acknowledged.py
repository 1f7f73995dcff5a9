"""A commitment to provisioned throughput must be acknowledged explicitly."""

from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yield throughput with a commitment and without the acknowledgement."""
    for logical_id, throughput in template.of_type("Custom::ProvisionedThroughput"):
        acknowledged = str(throughput.get("AcknowledgeCommitment")).lower() == "true"
        if throughput.get("Commitment") and not acknowledged:
            yield RuleViolation(logical_id, f"commits to {throughput['Commitment']}")

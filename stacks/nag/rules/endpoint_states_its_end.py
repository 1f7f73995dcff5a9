"""An endpoint must have a tag that states its end, or the reason for which it has none."""

from collections.abc import Iterator

from catalog.deployment_tags import ENDS
from stacks.nag.template import RuleViolation, SynthesizedTemplate


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yield endpoints that nothing would remove."""
    for logical_id, endpoint in template.of_type("AWS::SageMaker::Endpoint"):
        keys = {tag["Key"] for tag in endpoint.get("Tags", [])}
        if not keys & set(ENDS):
            yield RuleViolation(logical_id, f"none of {', '.join(ENDS)}")

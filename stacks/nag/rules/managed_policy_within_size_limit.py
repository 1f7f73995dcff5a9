"""A managed policy must fit the limit of IAM, 6,144 characters.

A deployment with a longer policy would fail.
"""

import json
from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate, as_text

LIMIT = 6144
# Assumed length of a resolved reference; most ARNs and ids of the platform are shorter.
REFERENCE = 100


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yield policies above the limit; the length of a reference is estimated generously."""
    for logical_id, policy in template.of_type("AWS::IAM::ManagedPolicy"):
        size = _size(policy["PolicyDocument"])
        if size > LIMIT:
            yield RuleViolation(logical_id, f"about {size} characters")


def _size(document: object) -> int:
    def resolved(value: object) -> object:
        if isinstance(value, list):
            return [resolved(each) for each in value]
        if not isinstance(value, dict):
            return value
        if set(value) == {"Fn::Join"}:
            short = as_text(value).replace("<AWS::Partition>", "aws")
            return short.replace("<AWS::AccountId>", "123456789012")
        if len(value) == 1 and next(iter(value)).startswith(("Fn::", "Ref")):
            return "x" * REFERENCE
        return {key: resolved(each) for key, each in value.items()}

    return len(json.dumps(resolved(document), separators=(",", ":")))

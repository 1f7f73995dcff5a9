"""Endpoint configurations and models have no fixed name.

All their properties are create-only: a named one cannot be replaced, and the deployment fails.
"""

from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate

NAMES = {
    "AWS::SageMaker::EndpointConfig": "EndpointConfigName",
    "AWS::SageMaker::Model": "ModelName",
}


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yields named configurations and models."""
    for kind, name in NAMES.items():
        for logical_id, properties in template.of_type(kind):
            if name in properties:
                yield RuleViolation(logical_id, f"{name}: {properties[name]}")

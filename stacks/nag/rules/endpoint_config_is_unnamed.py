"""Endpoint configurations and models must not have a fixed name.

A change of any property but the tags replaces them. CloudFormation creates the replacement before
it deletes the old resource, so a fixed name collides and the deployment fails.
"""

from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate

NAMES = {
    "AWS::SageMaker::EndpointConfig": "EndpointConfigName",
    "AWS::SageMaker::Model": "ModelName",
}


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yield configurations and models with a name."""
    for kind, name in NAMES.items():
        for logical_id, properties in template.of_type(kind):
            if name in properties:
                yield RuleViolation(logical_id, f"{name}: {properties[name]}")

"""The container of a model must have no access to a network, and lie in the VPC."""

from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yield models with access to a network, or outside the VPC."""
    for logical_id, model in template.of_type("AWS::SageMaker::Model"):
        if model.get("EnableNetworkIsolation") is not True:
            yield RuleViolation(logical_id, "EnableNetworkIsolation is not true")
        if "VpcConfig" not in model:
            yield RuleViolation(logical_id, "no VpcConfig")

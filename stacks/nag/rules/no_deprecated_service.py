"""A template must not use services that are closed to new accounts.

Model Monitor and Debugger would deploy only in an account that used them before.
"""

from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate

CLOSED = (
    "AWS::SageMaker::DataQualityJobDefinition",
    "AWS::SageMaker::ModelBiasJobDefinition",
    "AWS::SageMaker::ModelExplainabilityJobDefinition",
    "AWS::SageMaker::ModelQualityJobDefinition",
    "AWS::SageMaker::MonitoringSchedule",
)


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yield resources of such services."""
    for kind in CLOSED:
        for logical_id, _ in template.of_type(kind):
            yield RuleViolation(logical_id, kind)

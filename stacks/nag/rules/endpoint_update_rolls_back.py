"""An update of an endpoint or component must have alarms that roll it back.

An endpoint for components has no update of its own that shifts traffic.
"""

from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yield endpoints and components whose updates nothing rolls back."""
    components = list(template.of_type("AWS::SageMaker::InferenceComponent"))
    updated = components or list(template.of_type("AWS::SageMaker::Endpoint"))
    for logical_id, resource in updated:
        config = resource.get("DeploymentConfig", {})
        if not config.get("AutoRollbackConfiguration", {}).get("Alarms"):
            yield RuleViolation(logical_id, "no alarm of AutoRollbackConfiguration")

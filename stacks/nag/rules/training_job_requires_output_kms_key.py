"""A role that may create jobs must be denied jobs without a KMS key for their output."""

from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate, unguarded_roles


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yield policies that allow job creation to a role without the denial."""
    for logical_id, roles in unguarded_roles(
        template, "sagemaker:CreateTrainingJob", "sagemaker:OutputKmsKeyArn"
    ):
        yield RuleViolation(logical_id, f"{roles} may start jobs without a key")

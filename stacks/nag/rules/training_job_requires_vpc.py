"""A role that may create jobs must be denied jobs outside a VPC.

SageMaker runs a job without VpcConfig in a network of its own, where no endpoint policy applies.
"""

from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate, unguarded_roles


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yield policies that allow job creation to a role without the denial."""
    for logical_id, roles in unguarded_roles(
        template, "sagemaker:CreateTrainingJob", "sagemaker:VpcSubnets"
    ):
        yield RuleViolation(logical_id, f"{roles} may start jobs without VpcConfig")

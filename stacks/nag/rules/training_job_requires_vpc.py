"""A role that may create jobs must be denied jobs outside a VPC.

SageMaker runs a job without VpcConfig in a network of its own, where no endpoint policy applies.
"""

from collections.abc import Iterator

from stacks.nag.template import (
    POLICIES,
    RuleViolation,
    SynthesizedTemplate,
    allows,
    denies_without_key,
    roles_of,
)

ACTION, KEY = "sagemaker:CreateTrainingJob", "sagemaker:VpcSubnets"


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yield policies that allow job creation to a role without the denial."""
    guarded: set[str] = set()
    for _, policy in template.of_type(*POLICIES):
        if any(denies_without_key(s, ACTION, KEY) for s in policy["PolicyDocument"]["Statement"]):
            guarded |= roles_of(policy)
    for logical_id, policy in template.of_type(*POLICIES):
        if any(allows(s, ACTION) for s in policy["PolicyDocument"]["Statement"]):
            open_roles = roles_of(policy) - guarded
            if open_roles:
                yield RuleViolation(
                    logical_id, f"{sorted(open_roles)} may start jobs without VpcConfig"
                )

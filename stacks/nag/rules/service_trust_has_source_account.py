"""A role that a service assumes must require this account as the source of the request.

Otherwise a resource in another account could make the service use the role (the confused deputy
problem).
"""

from collections.abc import Iterator

from stacks.nag.template import RuleViolation, SynthesizedTemplate, as_list

# Lambda sends no source account; Step Functions roles come from CDK's provider framework; for chat
# channels AWS documents a trust policy without conditions, and no source keys.
NO_SOURCE = {"lambda.amazonaws.com", "states.amazonaws.com", "chatbot.amazonaws.com"}
# EKS Pod Identity names the source in tags of the session instead.
# docs.aws.amazon.com/eks/latest/userguide/pod-id-role.html
SOURCE_KEYS = {"pods.eks.amazonaws.com": "aws:RequestTag/eks-cluster-arn"}


def check(template: SynthesizedTemplate) -> Iterator[RuleViolation]:
    """Yield roles that a resource of any account could make a service assume."""
    for logical_id, role in template.of_type("AWS::IAM::Role"):
        for statement in role["AssumeRolePolicyDocument"]["Statement"]:
            services = set(map(str, as_list(statement.get("Principal", {}).get("Service"))))
            condition = str(statement.get("Condition"))
            for service in sorted(services - NO_SOURCE):
                key = SOURCE_KEYS.get(service, "aws:SourceAccount")
                if key not in condition:
                    yield RuleViolation(logical_id, f"{service} without {key}")

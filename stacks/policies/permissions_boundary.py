"""The permission boundary: what no role of the platform may do, whatever its policies say."""

from aws_cdk import Aws
from aws_cdk import aws_iam as iam

from stacks.naming import ResourceNames
from stacks.policies.iam_statements import allow, deny


def stop_policy_name(names: ResourceNames) -> str:
    """The policy that the budget's top step attaches."""
    return f"{names.prefix}-stop-new-jobs"


def statements(names: ResourceNames) -> list[iam.PolicyStatement]:
    """A boundary grants nothing by itself: it caps. So everything, less the escalations."""
    stop = f"arn:{Aws.PARTITION}:iam::{names.account}:policy/{stop_policy_name(names)}"
    return [
        allow("Cap", ["*"], ["*"]),
        deny(
            "NoIdentityChanges",
            [
                "iam:AddUserToGroup",
                "iam:AttachGroupPolicy",
                "iam:AttachUserPolicy",
                "iam:Create*",
                "iam:Delete*",
                "iam:DetachGroupPolicy",
                "iam:DetachUserPolicy",
                "iam:Put*",
                "iam:Update*",
                "organizations:*",
                "account:*",
            ],
            ["*"],
        ),
        # The budget's top step attaches one policy, which only denies, to the engineer role.
        deny(
            "NoPolicyChangesButTheStop",
            ["iam:AttachRolePolicy", "iam:DetachRolePolicy"],
            ["*"],
            {"ArnNotEquals": {"iam:PolicyARN": stop}},
        ),
        deny(
            "NoCoverUp",
            [
                "cloudtrail:DeleteTrail",
                "cloudtrail:StopLogging",
                "logs:DeleteLogGroup",
                "kms:DisableKey",
                "kms:ScheduleKeyDeletion",
            ],
            ["*"],
        ),
    ]

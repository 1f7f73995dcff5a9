"""Permissions boundary: actions that no role of the platform may perform."""

from aws_cdk import Aws
from aws_cdk import aws_iam as iam

from stacks.naming import ResourceNames
from stacks.policies.iam_statements import allow, deny

SCALING_SERVICE = "sagemaker.application-autoscaling.amazonaws.com"


def stop_policy_name(names: ResourceNames) -> str:
    """Return the name of the policy that the budget attaches at its highest step."""
    return f"{names.prefix}-stop-new-jobs"


def statements(names: ResourceNames, *, scaling: bool = False) -> list[iam.PolicyStatement]:
    """Return everything, minus the ways to escalate privileges or to cover tracks.

    A boundary grants nothing by itself; it caps the policies of a role.

    Args:
        names: Names of the environment.
        scaling: Except the role that Application Auto Scaling has for endpoints, which the first
            scaled endpoint of an account creates.
    """
    unless_linked = {"StringNotEqualsIfExists": {"iam:AWSServiceName": SCALING_SERVICE}}
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
            unless_linked if scaling else None,
        ),
        # The stop action of the budget attaches this one policy, which only denies.
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

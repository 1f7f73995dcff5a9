"""Check of the service-linked roles that the services of an environment need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from launch.aws.session import DENIED, AwsSession, explain_aws_errors
from launch.doctor.checks import CheckWarning, Skipped

# Service principal -> service-linked role. Each service creates its role with the first resource,
# if the deploying role may do so; a restricted role may not, and the deployment would fail.
# docs.aws.amazon.com/IAM/latest/UserGuide/reference_aws-services-that-work-with-iam.html
HYPERPOD = {
    "hyperpod.sagemaker.amazonaws.com": "AWSServiceRoleForSageMakerHyperPod",
    "fsx.amazonaws.com": "AWSServiceRoleForAmazonFSx",
}
EKS = {"eks.amazonaws.com": "AWSServiceRoleForAmazonEKS"}
ACCOUNTING = {"rds.amazonaws.com": "AWSServiceRoleForRDS"}
PULL_THROUGH = {"pullthroughcache.ecr.amazonaws.com": "AWSServiceRoleForECRPullThroughCache"}


class LinkedRolesCheck:
    """Search for the service-linked roles of an environment, deployed or not.

    Args:
        account: Session of the account.
    """

    def __init__(self, account: AwsSession):
        self.account = account

    def run(self) -> str:
        """Return which roles exist.

        Raises:
            CheckWarning: Roles are missing.
            Skipped: The environment needs none, or the credentials may not list roles.
        """
        needed = required_linked_roles(self.account.environment.sections)
        if not needed:
            raise Skipped("no enabled feature needs a service-linked role")
        existing: set[str] | None = None
        with explain_aws_errors("listing service-linked roles", ignore=DENIED):
            pages = self.account.client("iam").get_paginator("list_roles")
            existing = {
                role["RoleName"]
                for page in pages.paginate(PathPrefix="/aws-service-role/")
                for role in page["Roles"]
            }
        if existing is None:
            raise Skipped("these credentials may not list roles")
        missing = {service: role for service, role in needed.items() if role not in existing}
        if missing:
            raise CheckWarning(
                f"{', '.join(missing.values())} not in the account yet; the first deployment "
                "creates them if its role has iam:CreateServiceLinkedRole",
                " && ".join(
                    f"aws iam create-service-linked-role --aws-service-name {service}"
                    for service in missing
                ),
            )
        return ", ".join(needed.values())


def required_linked_roles(sections: Mapping[str, Any]) -> dict[str, str]:
    """Return the service-linked roles that the enabled features need, by service principal.

    Args:
        sections: The environment file.
    """
    hyperpod, images = (
        section if isinstance(section, dict) else {}
        for section in (sections.get("hyperpod"), sections.get("images"))
    )
    roles: dict[str, str] = {}
    if hyperpod.get("enabled"):
        roles |= HYPERPOD
        roles |= EKS if hyperpod.get("eks") else {}
        roles |= ACCOUNTING if hyperpod.get("accounting") is not None else {}
    return roles | (PULL_THROUGH if images.get("pull_through_cache") else {})

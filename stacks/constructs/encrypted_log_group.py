"""CloudWatch log group with a KMS key and a retention period."""

import aws_cdk as cdk
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from constructs import Construct


class EncryptedLogGroup(Construct):
    """Log group encrypted with the logs key, whose events expire after the given number of days."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        key: kms.IKey,
        days: int,
        removal: cdk.RemovalPolicy,
        name: str | None = None,
    ) -> None:
        super().__init__(scope, id)
        self.group = logs.LogGroup(
            self, "Group", log_group_name=name, encryption_key=key, removal_policy=removal
        )
        # The L2 construct takes an enumeration; the resource takes the number of days.
        resource = self.group.node.default_child
        assert isinstance(resource, logs.CfnLogGroup)
        resource.retention_in_days = retention_days(days)


ALLOWED_DAYS = (
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922,
    3288, 3653,
)  # fmt: skip


def retention_days(days: int) -> int:
    """Return the shortest retention period of CloudWatch Logs that is at least `days`."""
    return next(allowed for allowed in ALLOWED_DAYS if allowed >= days)

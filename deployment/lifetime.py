"""End of a deployment: a schedule that calls the platform's removal at the minute it ends.

The platform also removes what its tags say is past its end or idle, every quarter of an hour.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from deployment.account import DeploymentAccount
from deployment.spec import End
from launch.aws.session import explain_aws_errors
from training.errors import Problem

_NOT_FOUND = ("ResourceNotFoundException",)


def past_end_problems(end: End) -> Iterator[Problem]:
    """Yield a problem if a deployment would have ended already."""
    if end.until is not None and end.until <= datetime.now(UTC):
        text = end.until.strftime("%FT%TZ")
        yield Problem("end.until", "is in the past", text, "Name a later time")


def schedule_end(account: DeploymentAccount, name: str, end: End) -> None:
    """Create or move the schedule of a deployment's end; none is needed without a time.

    Args:
        account: Account of the deployment.
        name: Name of the deployment.
        end: Its end.
    """
    cancel_end(account, name)
    platform = account.platform
    function, role = (
        platform.get("serving/undeploy-function"),
        platform.get("serving/schedule-role"),
    )
    if end.until is None or function is None or role is None:
        return
    # A minute later: the function removes what is past its end.
    at = (end.until.astimezone(UTC) + timedelta(minutes=1)).strftime("%FT%T")
    with explain_aws_errors(f"scheduling the end of {name}"):
        account.client("scheduler").create_schedule(
            **_key(account, name),
            Description=f"Removes deployments that have ended, at the end of {name}",
            ScheduleExpression=f"at({at})",
            ScheduleExpressionTimezone="UTC",
            FlexibleTimeWindow={"Mode": "OFF"},
            ActionAfterCompletion="DELETE",
            Target={"Arn": function, "RoleArn": role, "Input": json.dumps({"only": "idle"})},
        )


def cancel_end(account: DeploymentAccount, name: str) -> None:
    """Delete the schedule of a deployment's end; if there is none, nothing happens."""
    if account.platform.get("serving/schedule-group") is None:
        return
    with explain_aws_errors(f"deleting the schedule of {name}", ignore=_NOT_FOUND):
        account.client("scheduler").delete_schedule(**_key(account, name))


def _key(account: DeploymentAccount, name: str) -> dict[str, str]:
    group = account.platform["serving/schedule-group"]
    return {"Name": account.resource_name(name, "end"), "GroupName": group.rpartition("/")[2]}

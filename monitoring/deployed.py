"""Log of a deployment, found by the deployment's name in its environment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from deployment.account import DeploymentAccount, connect_account
from deployment.quote import total_usd
from deployment.record import Deployment, model_of_tags
from deployment.sagemaker.requests import FILES
from deployment.targets.base import (
    AnsweringTarget,
    DeploymentTarget,
    TimedTarget,
    connect_target,
)
from launch.aws.s3 import S3Uri
from launch.aws.session import explain_aws_errors
from monitoring.errors import LogError
from monitoring.logs.copies import LogGroup
from monitoring.logs.invocation_setting import invocation_log

_CAPTURING = ("endpoint", "async")
_OF_BEDROCK = ("bedrock-import", "bedrock-on-demand", "bedrock-throughput")
_KINDS = (*_CAPTURING, "component", *_OF_BEDROCK)
Ask = Callable[[Mapping[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True)
class DeployedLog:
    """Log of a deployment.

    Attributes:
        place: Where its calls are logged.
        model: NAME@VERSION that serves; empty if its tags do not say.
        usd_per_hour: Price of an hour of its instances; None if it is not known.
        ask: Sends a request to it; None if it cannot be asked from here.
        client: Returns the boto3 client of a service of its account.
        served_as: Model that the log names for its calls; None if the log has no others.
        since: About when the version took over; None if that is not known.
        logged_share: Share of the calls that are logged.
    """

    place: S3Uri | LogGroup
    model: str
    usd_per_hour: float | None
    ask: Ask | None
    client: Callable[[str], Any]
    served_as: str | None = None
    since: datetime | None = None
    logged_share: float = 1.0


def find_deployed_log(name: str, environment: str) -> DeployedLog:
    """Return the log of a deployment.

    Raises:
        LaunchError: The environment is not deployed, or the credentials are of another account.
        LogError: There is no such deployment, or its calls are not logged.
    """
    account = connect_account(environment)
    found, target = _find(account, name, environment)
    place, share = _place(account, found)
    return DeployedLog(
        place,
        found.model or model_of_tags(found.tags),
        total_usd(found.instances, account.environment.region) if found.instances else None,
        (lambda body: target.ask(name, body)) if isinstance(target, AnsweringTarget) else None,
        account.client,
        found.address if found.to in _OF_BEDROCK else None,
        target.serving_since(name) if isinstance(target, TimedTarget) else None,
        share,
    )


def _find(
    account: DeploymentAccount, name: str, environment: str
) -> tuple[Deployment, DeploymentTarget]:
    """Return a deployment and its target.

    Raises:
        LogError: There is none.
    """
    known: list[str] = []
    for kind in _KINDS:
        target = connect_target(kind, account)
        found = target.find(name)
        if found is not None:
            return found, target
        known += _names(target)
    listed = ", ".join(sorted(known)) or "none"
    raise LogError(
        f"{name}: there is no such log, and {environment} has no deployment of this name. Its "
        f"deployments: {listed}. A log is a file, a folder or s3://…"
    )


def _names(target: DeploymentTarget) -> Iterator[str]:
    for deployment in target.list():
        yield f"{deployment.name} ({deployment.to})"


def _place(account: DeploymentAccount, found: Deployment) -> tuple[S3Uri | LogGroup, float]:
    """Return where the calls of a deployment are logged, and the share that is.

    Raises:
        LogError: They are not logged.
    """
    if found.to in _OF_BEDROCK:
        return invocation_log(account, found.address), 1.0
    if found.to == "component":
        raise LogError(
            f"{found.name} is a component, and SageMaker captures no calls of endpoints with "
            f"components. Deploy it with --to endpoint and --capture 100%, or let its callers log"
        )
    with explain_aws_errors(f"describing {found.address}"):
        described = account.client("sagemaker").describe_endpoint(EndpointName=found.address)
    capture = described.get("DataCaptureConfig", {})
    if not capture.get("EnableCapture"):
        raise LogError(
            f"{found.name} captures no calls. Deploy it with --capture 100% (`capture` of a "
            f"deployment as code); calls are logged from then on"
        )
    folder = S3Uri(account.platform["buckets/runs"], f"{FILES}/{found.name}/capture")
    return folder, capture["CurrentSamplingPercentage"] / 100

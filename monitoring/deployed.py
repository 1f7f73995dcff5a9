"""Log of a deployment, found by the deployment's name in its environment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from deployment.account import DeploymentAccount, connect_account
from deployment.quote import total_usd
from deployment.record import Deployment, model_of_tags
from deployment.sagemaker.requests import FILES, SETTINGS
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
_REQUESTS = '{ $.format = "temper-request" }'
_PRINTING = f"{SETTINGS}LOG_REQUESTS"
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
    logged = _logged(account, found)
    return DeployedLog(
        logged.place,
        found.model or model_of_tags(found.tags),
        total_usd(found.instances, account.environment.region) if found.instances else None,
        (lambda body: target.ask(name, body)) if isinstance(target, AnsweringTarget) else None,
        account.client,
        logged.served_as,
        target.serving_since(name) if isinstance(target, TimedTarget) else None,
        logged.share,
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


class _Logged(NamedTuple):
    """Place of a deployment's calls, the model that the log names for them, and the logged share.

    The model is None if the log has the calls of no other.
    """

    place: S3Uri | LogGroup
    served_as: str | None = None
    share: float = 1.0


def _logged(account: DeploymentAccount, found: Deployment) -> _Logged:
    """Return where the calls of a deployment are logged.

    Raises:
        LogError: They are not logged.
    """
    if found.to in _OF_BEDROCK:
        return _Logged(invocation_log(account, found.address), found.address)
    if found.to == "component":
        return _component_log(account, found)
    with explain_aws_errors(f"describing {found.address}"):
        described = account.client("sagemaker").describe_endpoint(EndpointName=found.address)
    capture = described.get("DataCaptureConfig", {})
    if not capture.get("EnableCapture"):
        raise LogError(
            f"{found.name} captures no calls. Deploy it with --capture 100% (`capture` of a "
            f"deployment as code); calls are logged from then on"
        )
    folder = S3Uri(account.platform["buckets/runs"], f"{FILES}/{found.name}/capture")
    return _Logged(folder, None, capture["CurrentSamplingPercentage"] / 100)


def _component_log(account: DeploymentAccount, found: Deployment) -> _Logged:
    """Return the log group of a component, whose container prints its requests.

    SageMaker captures no calls of endpoints with components. An adapter answers in the container of
    its base.

    Raises:
        LogError: The container does not print them.
    """
    client = account.client("sagemaker")
    name = account.resource_name(found.name)
    with explain_aws_errors(f"describing {name}"):
        component = client.describe_inference_component(InferenceComponentName=name)
        base = component["Specification"].get("BaseInferenceComponentName")
        if base:
            name = base
            component = client.describe_inference_component(InferenceComponentName=base)
        model = client.describe_model(ModelName=component["Specification"]["ModelName"])
    if model["PrimaryContainer"].get("Environment", {}).get(_PRINTING) != "-":
        raise LogError(
            f"{found.name} is a component, whose calls SageMaker does not capture, and its "
            f"container does not print them. Deploy {'its base' if base else 'it'} with --setting "
            f"LOG_REQUESTS=-; the engine vLLM cannot print them: use --to endpoint --capture 100%"
        )
    group = LogGroup(f"/aws/sagemaker/InferenceComponents/{name}", _REQUESTS)
    # A base answers by the name of its deployment, an adapter by that of its component.
    return _Logged(group, account.resource_name(found.name) if base else found.name)

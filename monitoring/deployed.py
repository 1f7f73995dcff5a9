"""Log of a deployment: found by its name, and copied from S3."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from deployment.account import DeploymentAccount, connect_account
from deployment.quote import total_usd
from deployment.record import Deployment, model_of_tags
from deployment.sagemaker.requests import FILES
from deployment.targets.base import AnsweringTarget, DeploymentTarget, connect_target
from launch.aws.s3 import S3Store, S3Uri
from launch.aws.session import AwsSession
from launch.environment import read_environment
from monitoring.errors import LogError
from training.console import say

_CAPTURING = ("endpoint", "async")


@dataclass(frozen=True)
class DeployedLog:
    """Log of a deployment.

    Attributes:
        address: Address of its captured calls.
        model: NAME@VERSION that serves; empty if its tags do not say.
        usd_per_hour: Price of an hour of its instances; None if it is not known.
        ask: Sends a request to it; None if it cannot be asked from here.
        store: Objects of its account.
    """

    address: S3Uri
    model: str
    usd_per_hour: float | None
    ask: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None
    store: S3Store = field(repr=False)


def find_deployed_log(name: str, environment: str) -> DeployedLog:
    """Return the log of a deployment.

    Raises:
        LaunchError: The environment is not deployed, or the credentials are of another account.
        DeployModelError: There is no such deployment.
    """
    account = connect_account(environment)
    found, target = _find(account, name, environment)
    region = account.environment.region
    return DeployedLog(
        S3Uri(account.platform["buckets/runs"], f"{FILES}/{name}/capture"),
        model_of_tags(found.tags),
        total_usd(found.instances, region) if found.instances else None,
        (lambda body: target.ask(name, body)) if isinstance(target, AnsweringTarget) else None,
        S3Store(account.client("s3")),
    )


def _find(
    account: DeploymentAccount, name: str, environment: str
) -> tuple[Deployment, DeploymentTarget]:
    """Return a deployment that captures its calls, and its target.

    Raises:
        LogError: There is none.
    """
    for kind in _CAPTURING:
        target = connect_target(kind, account)
        found = target.find(name)
        if found is not None:
            return found, target
    raise LogError(
        f"{name}: there is no such log, and {environment} has no deployment of this name to "
        f"{' or '.join(_CAPTURING)}, which capture calls. Name the log: a file, a folder or s3://…"
    )


def store_of(environment: str | None) -> S3Store:
    """Return the objects of an environment's account, or of that of the credentials in use."""
    if environment is not None:
        return S3Store(AwsSession(read_environment(environment)).client("s3"))
    import boto3

    return S3Store(boto3.client("s3"))


def copy_log(store: S3Store, address: S3Uri, folder: Path, since: datetime | None) -> Path:
    """Copy the objects of a log that are not here yet, and return the folder.

    Args:
        store: Objects of the account.
        address: Address of the log.
        folder: Folder of the copies.
        since: Leave out objects that were last changed before; None for none.

    Raises:
        LogError: There is no object.
        LaunchError: It cannot be read.
    """
    copied = total = 0
    for uri, size, changed in store.list_changed(address):
        if since is not None and changed < since:
            continue
        total += 1
        name = uri.key.removeprefix(address.key).strip("/") or Path(uri.key).name
        to = folder / name
        if not to.is_file() or to.stat().st_size != size:
            to.parent.mkdir(parents=True, exist_ok=True)
            store.download_file(uri, to)
            copied += 1
    if not total:
        after = f" changed since {since:%Y-%m-%d %H:%M}" if since else ""
        raise LogError(
            f"{address} has no object{after}. Capture is set when a version is deployed: "
            f"temper deploy-model … --capture 100%; the first files come after some minutes"
        )
    say(f"{total:,} objects of {address}, {copied:,} copied to {folder}")
    return folder

"""Copies of logs in AWS: objects of S3, and events of a log group of CloudWatch."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from launch.aws.s3 import S3Store, S3Uri
from launch.aws.session import AwsSession, explain_aws_errors
from launch.environment import read_environment
from monitoring.errors import LogError
from training.console import say

_EVENTS = "events.jsonl"
_LARGE = "BodyS3Path"


@dataclass(frozen=True)
class LogGroup:
    """Events of a log group.

    Attributes:
        name: Name of the group.
        pattern: Filter pattern of the events that are read.
    """

    name: str
    pattern: str

    def __str__(self) -> str:
        return self.name


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
            f"{address} has no object{after}. The first calls are delivered some minutes after "
            f"they were made; before, there is nothing to compare"
        )
    say(f"{total:,} objects of {address}, {copied:,} copied to {folder}")
    return folder


def copy_log_group(
    logs: Any, store: S3Store, group: LogGroup, folder: Path, since: datetime | None
) -> Path:
    """Copy the events of a log group, with the bodies that lie in S3, and return the folder.

    Args:
        logs: boto3 client of `logs`.
        store: Objects of the account.
        group: The log group.
        folder: Folder of the copies.
        since: Leave out events before; None for none.

    Raises:
        LogError: There is no event.
        LaunchError: It cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{_EVENTS}.writing"
    handle = os.open(partial, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    total = 0
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        for message in _messages(logs, group, since):
            total += 1
            stream.write(message.rstrip("\n").replace("\n", " ") + "\n")
            if _LARGE in message:
                _copy_bodies(store, message, folder)
    if not total:
        after = f" since {since:%Y-%m-%d %H:%M}" if since else ""
        raise LogError(f"the log group {group} has no event{after}: the deployment had no call")
    partial.replace(folder / _EVENTS)
    say(f"{total:,} events of {group} copied to {folder}")
    return folder


def _messages(logs: Any, group: LogGroup, since: datetime | None) -> Iterator[str]:
    start = {} if since is None else {"startTime": int(since.timestamp() * 1000)}
    with explain_aws_errors(f"reading the log group {group}"):
        pages = logs.get_paginator("filter_log_events").paginate(
            logGroupName=group.name, filterPattern=group.pattern, **start
        )
        for page in pages:
            for event in page["events"]:
                yield str(event["message"])


def _copy_bodies(store: S3Store, message: str, folder: Path) -> None:
    """Copy the bodies that a record of an invocation names, to where its reader expects them."""
    try:
        record = json.loads(message)
    except ValueError:
        return  # the reader of the log reports the line
    for side in ("input", "output"):
        address = (record.get(side) or {}).get(f"{side}{_LARGE}")
        if isinstance(address, str):
            to = folder / "data" / PurePosixPath(address).name
            if not to.is_file():
                store.download_file(S3Uri.parse(address), to)

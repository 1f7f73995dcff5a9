"""Log that a user names, and the calls in it that are compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from monitoring.call import LoggedCall
from monitoring.errors import LogError, WatchError
from monitoring.logs.read import CallLog, read_log
from monitoring.options import WatchOptions

if TYPE_CHECKING:
    from monitoring.deployed import DeployedLog

_SKEW = timedelta(hours=1)
"""Difference of clocks that is not remarked."""


@dataclass(frozen=True)
class WatchedLog:
    """Log, and what is known about the deployment that wrote it.

    Attributes:
        log: The calls.
        deployment: The deployment; None of a log that was named itself.
    """

    log: CallLog
    deployment: DeployedLog | None = None


def read_watched_log(options: WatchOptions, since: datetime | None, out: Path) -> WatchedLog:
    """Return the log that the options name: here, in S3, or that of a deployment.

    Args:
        options: Options of the command.
        since: First time that is read; None for all.
        out: Folder of the report, below which logs are copied.

    Raises:
        WatchError: It is the name of a deployment, and the environment is not given.
        LogError: It has no call.
    """
    if Path(options.log).exists():
        return WatchedLog(read_log(Path(options.log)))
    # Imported here: the image of the scheduled job has neither these packages nor boto3.
    from launch.aws.s3 import S3Store, S3Uri
    from monitoring.deployed import find_deployed_log
    from monitoring.logs.copies import copy_log, copy_log_group, store_of

    folder = out / "log"
    if options.log.startswith("s3://"):
        copy_log(store_of(options.env), S3Uri.parse(options.log), folder, since)
        return WatchedLog(read_log(folder, options.log))
    if options.env is None or "/" in options.log:
        raise WatchError(
            f"{options.log}: there is no such file or folder. Name the log of temper serve, of "
            f"SageMaker's data capture or of Bedrock's invocation logging, also as s3://…; or a "
            f"deployment with --env"
        )
    deployed = find_deployed_log(options.log, options.env)
    store = S3Store(deployed.client("s3"))
    if isinstance(deployed.place, S3Uri):
        copy_log(store, deployed.place, folder, since)
    else:
        copy_log_group(deployed.client("logs"), store, deployed.place, folder, since)
    return WatchedLog(read_log(folder, str(deployed.place)), deployed)


def choose_calls(
    watched: WatchedLog, options: WatchOptions, since: datetime | None
) -> list[LoggedCall]:
    """Return the calls that are compared: of one model or adapter, and of one version of it.

    Calls that are left out are remarked in the log's notes.

    Args:
        watched: The log.
        options: Options of the command.
        since: First time that is read; None for all.

    Raises:
        LogError: There is none, or they are of several models.
    """
    log, deployment = watched.log, watched.deployment
    if deployment is not None and deployment.served_as is not None:
        log.calls = [call for call in log.calls if _is_same(call.model, deployment.served_as)]
        if not log.calls:
            raise LogError(f"{log.source} has no call of {deployment.served_as}")
    _leave_out_future(log)
    calls = [call for call in log.calls if since is None or call.time >= since]
    if not calls:
        newest = log.calls[-1].time
        raise LogError(
            f"{log.source} has no call since {since:%Y-%m-%d %H:%M}: the newest of "
            f"{len(log.calls):,} is of {newest:%Y-%m-%d %H:%M} UTC. Choose an earlier --since"
        )
    if deployment is not None and not _is_other_version(options.model, deployment.model):
        calls = _of_version(calls, deployment, log)
    return _of_adapter(calls, options.adapter, log.source)


def _is_same(logged: str, address: str) -> bool:
    """Return whether a log names a model by its ARN, or by the id at its end."""
    return logged == address or logged == address.rpartition("/")[2]


def _is_other_version(named: str | None, serving: str) -> bool:
    """Return whether a user names another version than the one that serves."""
    return named is not None and "@" in named and named != serving


def _leave_out_future(log: CallLog) -> None:
    """Leave out calls that a clock which is fast has dated.

    Raises:
        LogError: All of them are.
    """
    latest = datetime.now(UTC) + _SKEW
    kept = [call for call in log.calls if call.time <= latest]
    ahead = len(log.calls) - len(kept)
    if not ahead:
        return
    remark = (
        f"{ahead:,} calls are dated in the future, up to {log.calls[-1].time:%Y-%m-%d %H:%M} UTC: "
        f"the clock of the server that logged them, or of this machine, is wrong"
    )
    if not kept:
        raise LogError(f"{log.source}: {remark}. Set the clock, and the calls after it are used")
    log.calls = kept
    log.remarks.append(f"{remark}; they are left out")


def _of_version(
    calls: Sequence[LoggedCall], deployment: DeployedLog, log: CallLog
) -> list[LoggedCall]:
    """Return the calls of the version that serves, whose training set they are compared with.

    Raises:
        LogError: There is none.
    """
    since = deployment.since
    kept = [call for call in calls if since is None or call.time >= since]
    if since is None or len(kept) == len(calls):
        return kept
    version = deployment.model or "the present version"
    remark = (
        f"{version} serves since about {since.astimezone(UTC):%Y-%m-%d %H:%M} UTC: "
        f"{len(calls) - len(kept):,} calls before were answered by another version"
    )
    if not kept:
        raise LogError(
            f"{log.source}: {remark}, and there is none since. To compare them with that "
            f"version's training set, name it: --model NAME@VERSION"
        )
    log.remarks.append(f"{remark}, and are left out")
    return kept


def _of_adapter(calls: Sequence[LoggedCall], adapter: str | None, source: str) -> list[LoggedCall]:
    """Return the calls of one model or adapter.

    Raises:
        LogError: There is none of it, or they are of several models.
    """
    counts = Counter(call.model for call in calls)
    listed = ", ".join(f"{name or '(not named)'} {count:,}" for name, count in counts.most_common())
    if adapter is not None:
        kept = [call for call in calls if call.model == adapter]
        if not kept:
            raise LogError(f"{source} has no call of {adapter!r}. It has: {listed}")
        return kept
    if len(counts) > 1:
        raise LogError(
            f"{source} has calls of {len(counts)} models or adapters: {listed}. Each has a "
            f"training set of its own: choose one with --adapter, and its version with --model"
        )
    return list(calls)

"""Implementation of `temper watch`."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from monitoring.call import LoggedCall
from monitoring.errors import LogError, WatchError
from monitoring.logs.read import CallLog, read_log
from monitoring.options import CheckedOptions, WatchOptions, check_options
from monitoring.report.document import CASES, PAGE, REPORT, WatchReport
from monitoring.report.metrics import metric_lines
from monitoring.report.page import render_page
from monitoring.usage import Rates
from monitoring.watched_model import WatchedModel, find_watched_model
from training.console import say
from training.quiet import quiet
from training.run_folder import write_whole

if TYPE_CHECKING:
    from monitoring.deployed import DeployedLog
    from monitoring.golden import Ask

_ALARM = 4


@dataclass(frozen=True)
class WatchedLog:
    """Log, and what is known about the deployment that wrote it.

    Attributes:
        log: The calls.
        deployment: The deployment; None of a log that was named itself.
    """

    log: CallLog
    deployment: DeployedLog | None = None


def run_watch(options: WatchOptions) -> int:
    """Compare the logged calls of a model with its training set, and write the report.

    Returns:
        Exit code: 4 if an alarm is raised and `fail` is set.

    Raises:
        WatchError: The options cannot be used; names every problem.
        LogError: The log has no call that can be used.
        TemperError: The model, the judge or the deployment cannot be used.
    """
    checked = check_options(options)
    quiet()
    out = options.out or _default_folder(options)
    watched = _read(options, checked, out)
    calls = _chosen(watched.log, options.adapter, checked.since)
    served = _served(options, watched.deployment)
    rates = _rates(options, checked, watched.deployment)
    ask = _golden_ask(options, watched.deployment)
    # Imported here: torch takes seconds, and problems of the log are reported before.
    from monitoring.watch import measure_traffic

    report = measure_traffic(options, checked, served, calls, watched.log, rates, out)
    if options.golden is not None and ask is not None:
        from monitoring.golden import compare_golden

        report = replace(report, golden=compare_golden(options.golden, ask))
    write_whole(out / REPORT, report.to_json())
    write_whole(out / PAGE, render_page(report))
    for line in _lines(report):
        say(line)
    if options.metrics:
        for line in metric_lines(report, options.namespace):
            say(line)
    say(f"report: {out / PAGE}")
    return _ALARM if options.fail and report.alarms else 0


def _default_folder(options: WatchOptions) -> Path:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", options.log.removeprefix("s3://")).strip("-.")
    return Path("watch") / (name or "log")


def _read(options: WatchOptions, checked: CheckedOptions, out: Path) -> WatchedLog:
    """Return the log that the options name: here, in S3, or that of a deployment.

    Raises:
        WatchError: It is the name of a deployment, and the environment is not given.
        LogError: It has no call.
    """
    if Path(options.log).exists():
        return WatchedLog(read_log(Path(options.log)))
    # Imported here: the image of the scheduled job has neither these packages nor boto3.
    from monitoring.deployed import copy_log, find_deployed_log, store_of

    if options.log.startswith("s3://"):
        from launch.aws.s3 import S3Uri

        address = S3Uri.parse(options.log)
        folder = copy_log(store_of(options.env), address, out / "log", checked.since)
        return WatchedLog(read_log(folder, options.log))
    if options.env is None or "/" in options.log:
        raise WatchError(
            f"{options.log}: there is no such file or folder. Name the log of temper serve, of "
            f"SageMaker's data capture or of Bedrock's invocation logging, also as s3://…; or a "
            f"deployment with --env"
        )
    deployed = find_deployed_log(options.log, options.env)
    folder = copy_log(deployed.store, deployed.address, out / "log", checked.since)
    return WatchedLog(read_log(folder, f"{deployed.address}"), deployed)


def _chosen(log: CallLog, adapter: str | None, since: datetime | None) -> list[LoggedCall]:
    """Return the calls that are compared: of one model or adapter, and of the time that is read.

    Raises:
        LogError: There is none, or they are of several models.
    """
    calls = [call for call in log.calls if since is None or call.time >= since]
    if not calls:
        newest = log.calls[-1].time
        raise LogError(
            f"{log.source} has no call since {since:%Y-%m-%d %H:%M}: the newest of "
            f"{len(log.calls):,} is of {newest:%Y-%m-%d %H:%M} UTC. Choose an earlier --since"
        )
    counts = Counter(call.model for call in calls)
    listed = ", ".join(f"{name or '(not named)'} {count:,}" for name, count in counts.most_common())
    if adapter is not None:
        calls = [call for call in calls if call.model == adapter]
        if not calls:
            raise LogError(f"{log.source} has no call of {adapter!r}. It has: {listed}")
    elif len(counts) > 1:
        raise LogError(
            f"{log.source} has calls of {len(counts)} models or adapters: {listed}. Each has a "
            f"training set of its own: choose one with --adapter, and its version with --model"
        )
    return calls


def _served(options: WatchOptions, deployed: DeployedLog | None) -> WatchedModel:
    name = options.model or (deployed.model if deployed else "")
    if not name:
        raise WatchError(
            "the model that serves is not known. Name it with --model: NAME@VERSION of the "
            "registry, a run, or a folder together with --reference"
        )
    served = find_watched_model(name, options.registry)
    if served.job is None and options.reference is None:
        raise WatchError(
            f"{name} does not say what it was trained on. Name the training set with --reference "
            f"FILE, or with --model the registered version or the run"
        )
    return served


def _rates(options: WatchOptions, checked: CheckedOptions, deployed: DeployedLog | None) -> Rates:
    if checked.token_usd is not None:
        return Rates(None, *checked.token_usd)
    if options.usd_per_hour is not None or deployed is None:
        return Rates(options.usd_per_hour)
    return Rates(deployed.usd_per_hour)


def _golden_ask(options: WatchOptions, deployed: DeployedLog | None) -> Ask | None:
    """Return the function that asks golden prompts; None if there are none.

    Raises:
        WatchError: Neither the deployment nor a server can be asked.
        DataError: The file cannot be used.
    """
    if options.golden is None:
        return None
    from deployment.golden import read_golden

    read_golden(options.golden)  # its problems are reported before the model is loaded
    if options.url:
        from monitoring.golden import server_ask

        return server_ask(options.url, options.adapter)
    if deployed is None or deployed.ask is None:
        raise WatchError("--golden: the deployment cannot be asked from here; name --url")
    return deployed.ask


def _lines(report: WatchReport) -> Iterable[str]:
    """Yield the findings for the terminal."""
    for note in report.notes:
        sys.stderr.write(f"note: {note}\n")
    for window in report.windows:
        flagged = f": {', '.join(window.flagged)}" if window.flagged else ""
        alarm = "  ALARM" if window.alarm else ""
        yield f"{window.name}  {window.calls:,} calls  {window.verdict}{flagged}{alarm}"
    for window in report.windows[-1:]:
        for one in window.features:
            if one.flagged:
                yield f"  {one.feature}: {one.effect_name} {one.effect:.3f}; {one.detail}"
    for usage in report.usage:
        latency = "" if usage.latency_p95_s is None else f", p95 {usage.latency_p95_s:.3g} s"
        usd = usage.usd_per_1000_tokens
        cost = "" if usd is None else f", ${usd:.4g} per 1,000 tokens"
        yield f"{usage.model or '(not named)'}: {usage.calls:,} calls{latency}{cost}"
    if report.golden is not None:
        yield f"golden prompts: {report.golden.agreed} of {report.golden.of} are as recorded"
    if report.cases is not None:
        yield f"{report.cases:,} hard cases for the next data set, masked: {CASES}"
    yield f"alarms: {', '.join(report.alarms)}" if report.alarms else "no alarm"

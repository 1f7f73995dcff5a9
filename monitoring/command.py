"""Implementation of `temper watch`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from monitoring.errors import WatchError
from monitoring.options import CheckedOptions, WatchOptions, check_options
from monitoring.report.document import CASES, PAGE, REPORT, WatchReport
from monitoring.report.metrics import metric_lines
from monitoring.report.page import render_page
from monitoring.usage import Rates
from monitoring.watched_log import choose_calls, read_watched_log
from monitoring.watched_model import WatchedModel, find_watched_model
from training.console import say
from training.quiet import quiet
from training.run_folder import write_whole

if TYPE_CHECKING:
    from deployment.golden_answers import Ask
    from monitoring.deployed import DeployedLog

_ALARM = 4


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
    watched = read_watched_log(options, checked.since, out)
    calls = choose_calls(watched, options, checked.since)
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
    share = checked.logged_share or (deployed.logged_share if deployed else 1.0)
    if checked.token_usd is not None:
        return Rates(None, *checked.token_usd, logged_share=share)
    if options.usd_per_hour is not None or deployed is None:
        return Rates(options.usd_per_hour, logged_share=share)
    return Rates(deployed.usd_per_hour, logged_share=share)


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

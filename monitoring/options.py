"""Options of `temper watch`, checked together before anything is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from monitoring.drift import DriftLimits
from monitoring.errors import WatchError
from monitoring.statistics.k_of_n import parse_rule
from monitoring.windows import WindowSize, parse_window
from training.config.types import parse_share

Text = TypeVar("Text")
Value = TypeVar("Value")


@dataclass(frozen=True)
class WatchOptions:
    """Options of `temper watch`.

    Attributes:
        log: Log, s3:// address, or name of a deployment.
        name: Name of the deployment in the report; the log if None.
        model: Model that serves; that of the deployment if None.
        model_name: Name of the model in the report; as `model` names it if None.
        reference: Rows, or features of an earlier watch, in place of the model's training set.
        registry: Folder of the registry.
        env: Environment of a deployment.
        adapter: Model or adapter whose calls are compared, if the log has several.
        since: First day or time that is read.
        window: Size of a window.
        alarm: Rule of the alarm.
        measured: Most calls of a window that are measured.
        training_rows: Pairs of the training set that are measured.
        judge: File of a judge.
        judged: Answers of a window that are judged.
        baseline: Registered metric of the judge.
        baseline_file: Baseline that an earlier watch has written, in place of the registered one.
        judge_cache: Folder of the judge's replies; below the report's folder if None.
        judge_is_optional: Leave the judged sample out, with a note, if the judge fails.
        max_cost: Cost limit of the judge in US dollars.
        logged_share: Share of the calls that the log has, such as 1%; what the deployment captures
            if None.
        golden: File of golden prompts.
        url: Server that is asked golden prompts.
        usd_per_hour: Price of an hour of the deployment.
        usd_per_1000: Price of 1,000 tokens of prompts and of answers, `INPUT,OUTPUT`.
        most_cut: Share of cut answers from which a window is flagged.
        out: Folder of the report.
        metrics: Write metrics to the standard output.
        namespace: Namespace of the metrics.
        fail: Exit with 4 if an alarm is raised.
        limits: Limits of the drift.
    """

    log: str
    name: str | None = None
    model: str | None = None
    model_name: str | None = None
    reference: Path | None = None
    registry: Path = Path("model-registry")
    env: str | None = None
    adapter: str | None = None
    since: str | None = None
    window: str = "1d"
    alarm: str = "2/3"
    measured: int = 200
    training_rows: int = 1000
    judge: Path | None = None
    judged: int = 20
    baseline: str | None = None
    baseline_file: Path | None = None
    judge_cache: Path | None = None
    judge_is_optional: bool = False
    max_cost: float | None = None
    logged_share: str | None = None
    golden: Path | None = None
    url: str | None = None
    usd_per_hour: float | None = None
    usd_per_1000: str | None = None
    most_cut: float = 0.2
    out: Path | None = None
    metrics: bool = False
    namespace: str = "Temper/Watch"
    fail: bool = False
    limits: DriftLimits = field(default_factory=DriftLimits)


@dataclass(frozen=True)
class CheckedOptions:
    """Values of the options that are written as text.

    Attributes:
        window: Size of a window.
        rule: k and n of the alarm.
        since: First time that is read; None for all.
        token_usd: Price of 1,000 tokens of prompts and of answers; None without one.
        logged_share: Share of the calls that the log has; None if it was not named.
    """

    window: WindowSize
    rule: tuple[int, int]
    since: datetime | None
    token_usd: tuple[float, float] | None
    logged_share: float | None


def check_options(options: WatchOptions) -> CheckedOptions:
    """Return the values of the options.

    Raises:
        WatchError: Some cannot be used; names all of them.
    """
    problems: list[str] = []

    window = _attempt(parse_window, options.window, problems)
    rule = _attempt(parse_rule, options.alarm, problems)
    since = _attempt(_parse_since, options.since, problems)
    token_usd = _attempt(_parse_token_usd, options.usd_per_1000, problems)
    logged_share = _attempt(_parse_logged_share, options.logged_share, problems)
    problems += [
        f"{name} {value}: at least {least}"
        for name, value, least in (
            ("--measured", options.measured, options.limits.fewest),
            ("--training-rows", options.training_rows, 2 * options.limits.fewest),
            ("--judged", options.judged, 1),
        )
        if value < least
    ]
    if not 0 < options.most_cut <= 1:
        problems.append(f"--most-cut {options.most_cut:g}: a share above 0, such as 0.2")
    for name, file in (
        ("--judge", options.judge),
        ("--golden", options.golden),
        ("--reference", options.reference),
        ("the baseline", options.baseline_file),
    ):
        if file is not None and not file.exists():
            problems.append(f"{name} {file}: there is no such file")
    if options.usd_per_hour is not None and options.usd_per_1000 is not None:
        problems.append("--usd-per-hour and --usd-per-1000: a deployment is billed by one of them")
    if options.golden is not None and options.url is None and options.env is None:
        problems.append(
            "--golden asks the deployment: name it with --env, or a server with --url "
            "http://127.0.0.1:8000/v1"
        )
    if problems:
        raise WatchError("\n".join(problems))
    assert window is not None and rule is not None
    return CheckedOptions(window, rule, since, token_usd, logged_share)


def _attempt(parse: Callable[[Text], Value], text: Text, problems: list[str]) -> Value | None:
    """Return the value of an option; None, with one more problem, if it has none.

    Args:
        parse: Returns the value of a text.
        text: The text.
        problems: Problems so far, to which one is added.
    """
    try:
        return parse(text)
    except WatchError as error:
        problems.append(str(error))
        return None


def _parse_since(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise WatchError(
            f"--since {text}: write a day or a time in UTC, such as 2026-11-01"
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _parse_logged_share(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        share = parse_share(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise WatchError(
            f"--logged-share {text}: write the share of the calls that the log has, such as 1%"
        )
    return share


def _parse_token_usd(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        sent, received = map(float, text.split(","))
    except ValueError:
        raise WatchError(
            f"--usd-per-1000 {text}: write the prices of 1,000 tokens of prompts and of answers, "
            f"such as 0.0008,0.0032"
        ) from None
    return sent, received

"""Metrics of a watch for CloudWatch, as lines of the embedded metric format."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from account.emf import emf_line
from deployment.golden_answers import golden_metrics
from monitoring.report.document import WatchReport, WindowReport


def metric_lines(report: WatchReport, namespace: str) -> Iterator[str]:
    """Yield a line for the last window that has ended, its adapters, and golden prompts.

    A schedule has published the windows before. The time of a metric is the end of its window.

    Args:
        report: The report.
        namespace: Namespace of the metrics.
    """
    deployment = {"Deployment": report.deployment}
    now = datetime.now(UTC)
    for window in [w for w in report.windows if datetime.fromisoformat(w.end) <= now][-1:]:
        at = int(datetime.fromisoformat(window.end).timestamp() * 1000)
        yield emf_line(
            namespace,
            deployment,
            _window_metrics(window),
            properties={"Window": window.name, "Flagged": window.flagged},
            timestamp_ms=at,
        )
        for usage in window.usage:
            metrics: dict[str, tuple[float, str]] = {
                "AdapterCalls": (usage.calls, "Count"),
                "FailedCalls": (usage.failed, "Count"),
            }
            for name, value, unit in (
                ("LatencyP50", usage.latency_p50_s, "Seconds"),
                ("LatencyP95", usage.latency_p95_s, "Seconds"),
                ("FirstTokenP50", usage.first_token_p50_s, "Seconds"),
                ("UsdPer1000Tokens", usage.usd_per_1000_tokens, "None"),
            ):
                if value is not None:
                    metrics[name] = (value, unit)
            named = {**deployment, "Adapter": usage.model or "unknown"}
            yield emf_line(namespace, named, metrics, timestamp_ms=at)
    if report.golden is not None:
        one = report.golden
        metrics = golden_metrics(one.agreed, one.of, passed=one.passed)
        yield emf_line(namespace, deployment, metrics)


def _window_metrics(window: WindowReport) -> dict[str, tuple[float, str]]:
    metrics: dict[str, tuple[float, str]] = {"Calls": (window.calls, "Count")}
    if window.flag is not None:
        metrics["Drifted"] = (int(window.flag), "Count")
        metrics["DriftAlarm"] = (int(window.alarm), "Count")
    for feature in window.features:
        name = "".join(word.title() for word in feature.feature.split())
        metrics[f"Effect{name}"] = (round(feature.effect, 6), "None")
    if window.cut.of:
        metrics["CutAnswers"] = (window.cut.value, "None")
    if window.rating is not None:
        metrics["JudgeRating"] = (window.rating.mean, "None")
        metrics["QualityAlarm"] = (int(window.rating.worse), "Count")
    return metrics

"""Page of a watch: what has drifted and when, ratings, latency and cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evaluation.report.formatting import number, p_value
from monitoring.report.document import WatchReport, WindowReport
from monitoring.statistics.control_chart import ChartPoint
from safety.binomial import Proportion
from training.page_environment import page_environment

_HERE = Path(__file__).parent
_STYLE = _HERE.parents[1] / "evaluation" / "report"
_WIDTH, _HEIGHT, _MARGIN = 640, 160, 8


@dataclass(frozen=True)
class ChartPath:
    """Lines of a control chart in the units of its drawing.

    Attributes:
        width: Width of the drawing.
        height: Height of the drawing.
        ewma: Points of the line.
        band: Points of the area between the limits.
        mean: Height of the baseline.
        worse: Points beyond the limit.
    """

    width: int
    height: int
    ewma: str
    band: str
    mean: float
    worse: tuple[tuple[float, float], ...]


def render_page(report: WatchReport) -> str:
    """Return the page as HTML, without external resources."""
    environment = page_environment(
        _HERE, _STYLE, number=number, p_value=p_value, share=share, state=state
    )
    names = list(dict.fromkeys(one.feature for w in report.windows for one in w.features))
    return environment.get_template("watch.html.jinja").render(
        report=report,
        feature_names=names,
        languages=shown_languages(report),
        by_feature=[{one.feature: one for one in w.features} for w in report.windows],
        chart=chart_path([window.rating for window in report.windows], report),
    )


def shown_languages(report: WatchReport) -> list[str]:
    """Return the languages that have at least 1 % of the training set or of a window."""
    shares = [report.training_languages, *(window.languages for window in report.windows)]
    return list(dict.fromkeys(name for one in shares for name, part in one.items() if part >= 0.01))


def share(value: Proportion) -> str:
    """Return a proportion with its interval as text."""
    if not value.of:
        return "–"
    low, high = value.interval
    return f"{value.value:.1%} ({low:.1%} to {high:.1%})"


def state(window: WindowReport) -> str:
    """Return the style of a window's verdict."""
    if window.flag is None:
        return "note"
    return "bad" if window.flag else "good"


def chart_path(points: list[ChartPoint | None], report: WatchReport) -> ChartPath | None:
    """Return the drawing of a control chart; None without at least one point.

    Args:
        points: Point of each window.
        report: The report, which has the baseline.
    """
    known = [(index, point) for index, point in enumerate(points) if point is not None]
    if not known or report.baseline is None:
        return None
    lowest = min(min(point.low, point.ewma) for _, point in known)
    highest = max(max(point.high, point.ewma) for _, point in known)
    span = highest - lowest or 1.0
    step = (_WIDTH - 2 * _MARGIN) / max(1, len(points) - 1)

    def place(index: int, value: float) -> tuple[float, float]:
        height = _MARGIN + (highest - value) / span * (_HEIGHT - 2 * _MARGIN)
        return round(_MARGIN + index * step, 1), round(height, 1)

    def text(pairs: list[tuple[float, float]]) -> str:
        return " ".join(f"{x},{y}" for x, y in pairs)

    upper = [place(index, point.high) for index, point in known]
    lower = [place(index, point.low) for index, point in known]
    return ChartPath(
        _WIDTH,
        _HEIGHT,
        text([place(index, point.ewma) for index, point in known]),
        text([*upper, *reversed(lower)]),
        place(0, report.baseline.mean)[1],
        tuple(place(index, point.ewma) for index, point in known if point.worse),
    )

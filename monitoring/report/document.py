"""Report of a watch, as its JSON file holds it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from monitoring.drift import FeatureDrift
from monitoring.statistics.control_chart import Baseline, ChartPoint
from monitoring.usage import Usage
from safety.binomial import Proportion

FORMAT = 1
REPORT, PAGE, CASES, REFERENCE = "report.json", "report.html", "cases.jsonl", "reference.npz"
BASELINE, JUDGE = "baseline.json", "judge.yaml"
"""Files of a watch."""
_NO_ANSWERS = Proportion(0, 0)
Verdict = Literal["like the training set", "drifted", "too few calls", "no calls"]


@dataclass(frozen=True)
class WindowReport:
    """Findings on a window.

    Attributes:
        name: Name of the window.
        start: Its start in UTC, ISO 8601.
        end: Its end.
        calls: Its calls.
        measured: Calls that were measured.
        verdict: Whether it has drifted.
        features: Comparisons with the training set.
        cut: Answers that were cut at the maximum length.
        too_often_cut: Whether they are more than the limit allows.
        alarm: Whether k of the last n windows are flagged.
        rating: Point of the control chart; None if nothing was judged.
        usage: Use by model or adapter.
        languages: Share of the prompts by language; empty if none was identified.
    """

    name: str
    start: str
    end: str
    calls: int
    measured: int
    verdict: Verdict
    features: tuple[FeatureDrift, ...] = ()
    cut: Proportion = _NO_ANSWERS
    too_often_cut: bool = False
    alarm: bool = False
    rating: ChartPoint | None = None
    usage: tuple[Usage, ...] = ()
    languages: Mapping[str, float] = field(default_factory=dict)

    @property
    def flag(self) -> bool | None:
        """True if it counts as flagged; None if it has too few calls to tell."""
        if self.verdict in ("too few calls", "no calls"):
            return None
        return self.verdict == "drifted" or self.too_often_cut

    @property
    def flagged(self) -> list[str]:
        """Names of what is flagged."""
        names = [one.feature for one in self.features if one.flagged]
        return [*names, *(["cut answers"] if self.too_often_cut else [])]


@dataclass(frozen=True)
class GoldenReport:
    """Comparison of a deployment with its golden prompts.

    Attributes:
        agreed: Answers that are as recorded.
        of: Golden prompts.
        differences: How others differ.
        passed: Whether as many agree as must.
    """

    agreed: int
    of: int
    differences: tuple[str, ...]
    passed: bool


@dataclass(frozen=True)
class WatchReport:
    """Report of a watch.

    Attributes:
        deployment: Deployment or log.
        model: Model that serves.
        training_set: Training set, in words.
        training_rows: Pairs of it that were measured.
        rule: Rule of the alarm, such as `2 of 3`.
        windows: Findings by window, oldest first.
        usage: Use by model or adapter over all windows.
        baseline: Registered mean of the ratings; None if nothing was judged.
        golden: Comparison with golden prompts; None without any.
        notes: What the reader should know.
        cases: Hard cases that were written; None if none could be.
        training_languages: Share of the training set's prompts by language.
        format: Version of the file's form.
    """

    deployment: str
    model: str
    training_set: str
    training_rows: int
    rule: str
    windows: tuple[WindowReport, ...]
    usage: tuple[Usage, ...]
    baseline: Baseline | None = None
    golden: GoldenReport | None = None
    notes: tuple[str, ...] = ()
    cases: int | None = None
    training_languages: Mapping[str, float] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def drift_alarm(self) -> bool:
        """True if the newest window that can tell is in alarm."""
        told = [window for window in self.windows if window.flag is not None]
        return bool(told) and told[-1].alarm

    @property
    def quality_alarm(self) -> bool:
        """True if the newest rating is beyond the control chart's limit."""
        rated = [window.rating for window in self.windows if window.rating is not None]
        return bool(rated) and rated[-1].worse

    @property
    def golden_alarm(self) -> bool:
        """True if too few answers to golden prompts are as recorded."""
        return self.golden is not None and not self.golden.passed

    @property
    def alarms(self) -> list[str]:
        """Names of the alarms that are raised."""
        raised = {
            "drift": self.drift_alarm,
            "quality": self.quality_alarm,
            "golden prompts": self.golden_alarm,
        }
        return [name for name, is_raised in raised.items() if is_raised]

    def to_json(self) -> str:
        """Return the report's file."""
        document = {**asdict(self), "alarms": self.alarms}
        return json.dumps(_finite(document), indent=1, ensure_ascii=False) + "\n"


def _finite(value: Any) -> Any:
    """Return a document without numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""Rule that decides whether a resource that is billed by the hour is removed.

Its tags state the end: a time, hours without calls, or a reason for none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

# Like `catalog/deployment_tags.py`, which a function cannot import; a test compares the two.
UNTIL, IDLE_HOURS, FOREVER = "temper:until", "temper:idle-hours", "temper:forever"
STACK = "temper:stack"


@dataclass(frozen=True)
class CallMetric:
    """Metric that counts the calls of a resource."""

    namespace: str
    name: str
    dimensions: Mapping[str, str]


@dataclass(frozen=True)
class BilledResource:
    """Resource that is billed for as long as it exists.

    Attributes:
        kind: `endpoint`, `component` or `throughput`.
        name: Name, or the ARN if calls to the service need that.
        created: Time of its creation.
        tags: Its tags.
        removable: False while it is created or changed, and while a commitment lasts.
        calls: Metrics whose sum is its number of calls.
        covered: Another resource, which has an end, is removed together with it.
    """

    kind: str
    name: str
    created: datetime
    tags: Mapping[str, str]
    removable: bool
    calls: tuple[CallMetric, ...] = ()
    covered: bool = False


@dataclass(frozen=True)
class Verdict:
    """Result of the rule.

    Attributes:
        ended: Reason for which the resource is removed; empty if it is not.
        idle: It had no calls for its hours.
        overdue: Its end was more than an hour ago.
        endless: Nothing states an end.
    """

    ended: str = ""
    idle: bool = False
    overdue: bool = False
    endless: bool = False


@dataclass(frozen=True)
class EndRule:
    """Rule of one run.

    Attributes:
        now: Current time.
        idle_hours: Hours without calls for resources whose tags state no end; None for no default.
        everything: Remove whatever states no later end of its own.
    """

    now: datetime
    idle_hours: int | None = None
    everything: bool = False

    def judge(self, cloudwatch: Any, resource: BilledResource) -> Verdict:
        """Return whether a resource is removed, and why.

        A tag that cannot be read counts as no end, which an alarm reports.

        Args:
            cloudwatch: CloudWatch client.
            resource: The resource.
        """
        until, hours = _time(resource.tags.get(UNTIL)), _hours(resource.tags.get(IDLE_HOURS))
        forever = bool(resource.tags.get(FOREVER))
        endless = until is None and hours is None and not forever and not resource.covered
        if endless and self.idle_hours:
            hours, endless = self.idle_hours, False
        idle = hours is not None and self._is_idle(cloudwatch, resource, hours)
        if until and until <= self.now:
            return Verdict(f"its end was {until:%Y-%m-%dT%H:%M:%SZ}", idle, self._late(until))
        if forever:
            return Verdict(idle=idle)
        if idle:
            # Idleness a run later than the hours is the normal course.
            late = self._is_idle(cloudwatch, resource, (hours or 0) + 1)
            return Verdict(f"no calls for {hours} hours", idle, late)
        if self.everything and until is None:
            return Verdict("the schedule removes it", idle)
        return Verdict(idle=idle, endless=endless)

    def _late(self, until: datetime) -> bool:
        return until <= self.now - timedelta(hours=1)

    def _is_idle(self, cloudwatch: Any, resource: BilledResource, hours: int) -> bool:
        """Return whether a resource existed for `hours` and was not called in that time."""
        since = self.now - timedelta(hours=hours)
        if resource.created > since or not resource.calls:
            return False
        answer = cloudwatch.get_metric_data(
            MetricDataQueries=[_query(i, call) for i, call in enumerate(resource.calls)],
            StartTime=since,
            EndTime=self.now,
        )
        return sum(sum(each["Values"]) for each in answer["MetricDataResults"]) == 0


@dataclass
class Outcome:
    """Names of the resources that a run removed, kept, and failed to remove; and counts."""

    deleted: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    idle: int = 0
    overdue: int = 0
    endless: int = 0


def _query(index: int, call: CallMetric) -> dict[str, Any]:
    dimensions = [{"Name": name, "Value": value} for name, value in call.dimensions.items()]
    metric = {"Namespace": call.namespace, "MetricName": call.name, "Dimensions": dimensions}
    return {
        "Id": f"calls{index}",
        "MetricStat": {"Metric": metric, "Period": 3600, "Stat": "Sum"},
    }


def _time(text: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _hours(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() and int(text) else None

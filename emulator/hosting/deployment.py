"""Deployment of a configuration to an endpoint that runs another: new fleets, traffic, rollback."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from emulator.hosting.context import HostingContext
from emulator.hosting.deployment_rules import RolloutPlan
from emulator.hosting.endpoint_configs import EmulatedConfig
from emulator.hosting.fleet import Finished

TIMED_OUT = "The deployment exceeded MaximumExecutionTimeoutInSeconds and was rolled back."


class Startable(Protocol):
    """Instances of a variant, or copies of a component."""

    def start(self, count: int, finished: Finished) -> None:
        """Start, and report the outcome."""

    def end(self) -> None:
        """End at once."""


_Started = TypeVar("_Started", bound=Startable)


@dataclass
class TrafficShift(Generic[_Started]):
    """Deployment in progress.

    Args:
        context: Clock, account and containers.
        config: Configuration to deploy; None for a component.
        plan: Its steps.
        fleets: Fleet of each variant, not yet started.
        counts: Number of instances of each variant.
        finished: Is called at the end with the reason of a rollback; None for success.

    Attributes:
        share: Share of the traffic that the new fleets have.
        status: Status of the variants.
    """

    context: HostingContext
    config: EmulatedConfig | None
    plan: RolloutPlan
    fleets: Mapping[str, _Started]
    counts: dict[str, int]
    finished: Callable[[str | None], None]
    share: Fraction = Fraction(0)
    status: str = "Creating"
    started: float = 0.0
    _is_over: bool = field(default=False, init=False)

    def start(self) -> None:
        """Start the new fleets; traffic moves when all are ready."""
        self.started = self.context.clock.now()
        waiting = set(self.fleets)

        def finished(name: str, reason: str) -> None:
            if self._is_over:
                return
            if reason:
                self._roll_back(reason)
                return
            waiting.discard(name)
            if not waiting:
                self._take_step(0)

        for name, fleet in self.fleets.items():
            fleet.start(self.counts[name], partial(finished, name))

    def describe(self) -> dict[str, Any]:
        """Return the deployment as `PendingDeploymentSummary` has it."""
        assert self.config is not None
        return {"EndpointConfigName": self.config.name, "StartTime": self.started}

    def cancel(self) -> None:
        """End the deployment without an effect on the endpoint."""
        self._is_over = True
        for fleet in self.fleets.values():
            fleet.end()

    def _take_step(self, number: int) -> None:
        """Shift traffic, watch the alarms, and take the next step or finish."""
        self.status = "ActivatingTraffic"
        step = self.plan.steps[number]

        def shifted() -> None:
            if self._is_over:
                return
            self.share, self.status = step.share, "Baking"
            if step.share == 1 and self.context.faults.silent_rollbacks:
                self.context.faults.silent_rollbacks -= 1
                self._roll_back("")
                return
            self._bake(number, self.context.clock.now() + step.bake_s)

        self.context.later(self.context.timings.shift_s, shifted)

    def _bake(self, number: int, until: float) -> None:
        if self._is_over:
            return
        if alarm := self._alarm():
            self._roll_back(f"The deployment was rolled back because of the alarm {alarm}.")
            return
        now = self.context.clock.now()
        if now - self.started > self.plan.timeout_s:
            self._roll_back(TIMED_OUT)
        elif now < until:
            wait = min(self.context.timings.alarm_s, until - now)
            self.context.later(wait, lambda: self._bake(number, until))
        elif number + 1 < len(self.plan.steps):
            self._take_step(number + 1)
        else:
            self._is_over = True
            self.finished(None)

    def _alarm(self) -> str:
        """Return the name of an alarm of the plan that is in the state ALARM."""
        if not self.plan.alarms:
            return ""
        found = self.context.client("cloudwatch").describe_alarms(AlarmNames=list(self.plan.alarms))
        alarms = [*found["MetricAlarms"], *found["CompositeAlarms"]]
        # Filtered here: moto ignores StateValue next to names.
        return next((str(a["AlarmName"]) for a in alarms if a["StateValue"] == "ALARM"), "")

    def _roll_back(self, reason: str) -> None:
        self._is_over = True
        self.share = Fraction(0)
        for fleet in self.fleets.values():
            fleet.end()
        self.finished(reason)

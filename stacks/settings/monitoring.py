"""Who is told what, when, and what stops the money."""

from typing import Literal

from pydantic import Field

from stacks.settings.base import Email, SettingsSection


class Budget(SettingsSection):
    """A monthly ladder: 50, 80, 100 percent tell; 120 percent stops new jobs."""

    scope: Literal["account", "environment"] = Field(
        "account", description="environment needs the cost allocation tag Environment activated"
    )
    monthly_usd: int = Field(500, ge=1, description="the ladder stands on this")
    stop_new_jobs: bool = Field(
        True, description="at 120 percent the engineer role may start nothing"
    )
    anomaly_usd: int = Field(50, ge=1, description="an unexpected day above this is reported")


class MonitoringSettings(SettingsSection):
    """Pages, events, thresholds, the trail and the budget."""

    page: tuple[Email, ...] = Field(min_length=1, description="who is paged")
    events: tuple[Email, ...] = Field((), description="who is told of every state change")
    stuck_minutes: int = Field(30, ge=5, description="no new loss for this long")
    slow_percent: int = Field(50, ge=1, le=99, description="of the job's own median tokens/s")
    gpu_idle_percent: int = Field(10, ge=1, le=99, description="per GPU")
    gpu_memory_percent: int = Field(97, ge=1, le=100, description="per GPU")
    disk_percent: int = Field(90, ge=1, le=100, description="of a training host's disk")
    endpoint_latency_ms: int = Field(10_000, ge=1, description="slowest call, for 15 minutes")
    bedrock_latency_ms: int = Field(20_000, ge=1, description="average call, for 15 minutes")
    dashboards: bool = Field(True, description="operations and cost")
    trail: bool = Field(True, description="CloudTrail with data events of models and Bedrock")
    trail_days: int = Field(365, ge=1, description="how long it is kept")
    budget: Budget | None = Field(
        Budget(), description="`{scope, monthly_usd, stop_new_jobs, anomaly_usd}`, or null"
    )

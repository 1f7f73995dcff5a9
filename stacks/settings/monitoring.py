"""Settings of monitoring: recipients, alarm thresholds, the audit trail and the budget."""

from typing import Annotated, Literal

from pydantic import Field

from stacks.settings.base import Email, LogDays, SettingsSection, matching

AnomalyMonitorArn = Annotated[
    str,
    matching(
        r"arn:aws[a-z-]*:ce::[0-9]{12}:anomalymonitor/.+",
        "none, services, tag, or the ARN of an anomaly monitor, which "
        "`aws ce get-anomaly-monitors` prints",
    ),
]


class Budget(SettingsSection):
    """Monthly budget: notifications at 50, 80, 100 and 120 percent and of the forecast."""

    scope: Literal["account", "environment"] = Field(
        "account", description="environment requires the activated cost allocation tag Environment"
    )
    monthly_usd: int = Field(500, ge=1, le=1_000_000_000, description="amount of the budget")
    stop_new_jobs: bool = Field(
        True, description="deny new jobs to the engineer role at 120 percent"
    )
    anomaly_monitor: Literal["none", "services", "tag"] | AnomalyMonitorArn = Field(
        "none",
        description="cost-anomaly monitor that notifications come from: services (at most one per "
        "account), tag (management account of an organization only), or the ARN of an existing one",
    )
    anomaly_usd: int = Field(
        50, ge=1, description="anomalous cost from which on a notification is sent"
    )


SecretArn = Annotated[
    str,
    matching(
        r"arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[A-Za-z0-9/_+=.@-]+",
        "the ARN of a secret; create one whose value is the URL, and write the ARN that "
        "`aws secretsmanager create-secret` prints",
    ),
]


class Slack(SettingsSection):
    """Slack channel of the pages."""

    workspace: Annotated[
        str, matching(r"[0-9A-Z]{1,255}", "the id of a Slack workspace, like T0123ABCD")
    ] = Field(description="id that the console of Amazon Q Developer shows after authorization")
    channel: Annotated[
        str, matching(r"[A-Za-z0-9]{1,255}", "the id of a Slack channel, like C0123ABCD")
    ] = Field(description="id at the end of the link to the channel")


class MonitoringSettings(SettingsSection):
    """Settings of pages, events, thresholds, the audit trail and the budget."""

    page: tuple[Email, ...] = Field(min_length=1, description="recipients of pages")
    page_https: tuple[SecretArn, ...] = Field(
        (),
        description="secrets with the integration URL of an incident tool (PagerDuty, Opsgenie) "
        "that is paged too",
    )
    slack: Slack | None = Field(
        None, description="Slack channel that is paged too, `{workspace, channel}`"
    )
    events: tuple[Email, ...] = Field((), description="recipients of all state changes")
    scope: Literal["environment", "account"] = Field(
        "environment",
        description="whose jobs, endpoints and keys are watched: environment: those with the tag "
        "Environment (or the prefix) of this one; account: all",
    )
    stuck_minutes: int = Field(
        30, ge=5, description="minutes without a new loss after which a job counts as stuck"
    )
    pending_minutes: int = Field(
        60, ge=5, description="minutes without instances after which a job counts as pending"
    )
    slow_percent: int = Field(
        50,
        ge=1,
        le=99,
        description="percentage of the job's median tokens/s below which it counts as slow",
    )
    gpu_idle_percent: int = Field(
        10, ge=1, le=99, description="utilization per GPU below which a host counts as idle"
    )
    gpu_memory_percent: int = Field(
        97, ge=1, le=100, description="memory utilization per GPU that sets off the alarm"
    )
    disk_percent: int = Field(
        90, ge=1, le=100, description="disk utilization of a training host that sets off the alarm"
    )
    endpoint_latency_ms: int = Field(
        10_000, ge=1, description="maximum latency over 15 minutes that sets off the alarm"
    )
    bedrock_latency_ms: int = Field(
        20_000, ge=1, description="average latency over 15 minutes that sets off the alarm"
    )
    dashboards: bool = Field(True, description="create the operations and cost dashboards")
    trail: bool = Field(
        True, description="create a CloudTrail trail with data events of models and Bedrock"
    )
    trail_days: LogDays = Field(365, description="retention of the trail, in days")
    budget: Budget | None = Field(
        Budget(),
        description="monthly budget, `{scope, monthly_usd, stop_new_jobs, anomaly_monitor, "
        "anomaly_usd}`, or null",
    )

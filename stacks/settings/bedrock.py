"""Settings of serving through Bedrock, and of the removal of throughput that is not used."""

from typing import Annotated, Literal

from pydantic import Field

from stacks.settings.base import LogDays, SettingsSection, matching
from stacks.settings.golden import BedrockGoldenSection

ScheduleExpression = Annotated[
    str,
    matching(
        r"cron\([^)]+\)|rate\([0-9]+ (minutes?|hours?|days?)\)",
        "a schedule, like cron(0 19 * * ? *) or rate(1 hour)",
    ),
]
ModelId = Annotated[
    str,
    matching(
        r"[a-z0-9][a-zA-Z0-9._-]{1,99}(:[0-9a-z]+)*",
        "the id of a model or inference profile (no ARN), like amazon.nova-lite-v1:0",
    ),
]


class Throughput(SettingsSection):
    """Provisioned throughput of one model, billed by the hour for as long as it exists."""

    name: Annotated[
        str,
        matching(
            r"[a-zA-Z0-9]([a-zA-Z0-9_-]{0,62})",
            "a name of at most 63 letters, digits, hyphens and underscores",
        ),
    ]
    model: str = Field(min_length=1, max_length=2048, description="model id or ARN")
    units: int = Field(1, ge=1)
    commitment: Literal["OneMonth", "SixMonths"] | None = None
    acknowledge_commitment: bool = False
    generation: int = Field(
        1, ge=1, description="raise it to create an undeployed throughput again"
    )


class Guardrail(SettingsSection):
    """Content filters for prompts and answers."""

    strength: Literal["LOW", "MEDIUM", "HIGH"] = "MEDIUM"
    anonymize_pii: bool = True


class BedrockSettings(SettingsSection):
    """Settings of the Bedrock stack: logging, guardrail, throughput and its removal."""

    enabled: bool = Field(False, description="create the Bedrock stack")
    invocation_logging: bool = Field(
        False, description="log all invocations of the account, encrypted"
    )
    log_days: LogDays = Field(90, description="retention of the invocation log, in days")
    throughput: tuple[Throughput, ...] = Field(
        (),
        description="provisioned throughput: `{name, model, units, commitment, "
        "acknowledge_commitment, generation}`",
    )
    undeploy: ScheduleExpression = Field(
        "cron(0 19 * * ? *)",
        description="schedule for the removal of all throughput without a commitment",
    )
    undeploy_timezone: str = Field("UTC", description="time zone of that schedule")
    idle_hours: int = Field(
        6, ge=1, le=168, description="hours without calls after which throughput is removed"
    )
    judges: tuple[ModelId, ...] = Field(
        (),
        description="models or inference profiles that jobs may invoke as judges or teachers; "
        "requires no Bedrock stack",
    )
    golden: tuple[BedrockGoldenSection, ...] = Field(
        (),
        description="replays of the golden prompts of deployments on Bedrock: `{name, to, "
        "every_hours, tolerance, min_percent, most}`; each is paid as its calls are",
    )
    guardrail: Guardrail | None = Field(
        None, description="content filters, `{strength, anonymize_pii}`"
    )

"""Serving what was trained through Bedrock, and never paying for what nobody calls."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from stacks.settings.base import SettingsSection

ScheduleExpression = Annotated[
    str, StringConstraints(pattern=r"^(cron\([^)]+\)|rate\([0-9]+ (minutes?|hours?|days?)\))$")
]
ModelId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-zA-Z0-9.:_-]{1,139}$")]


class Throughput(SettingsSection):
    """Provisioned throughput for one model. Billed by the hour for as long as it exists."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9]([a-zA-Z0-9_-]{0,62})$")]
    model: str = Field(min_length=1, max_length=2048, description="model id or ARN")
    units: int = Field(1, ge=1)
    commitment: Literal["OneMonth", "SixMonths"] | None = None
    acknowledge_commitment: bool = False
    generation: int = Field(1, ge=1, description="raise it to make one that was undeployed anew")


class Guardrail(SettingsSection):
    """Content filters on what goes in and comes out."""

    strength: Literal["LOW", "MEDIUM", "HIGH"] = "MEDIUM"
    anonymize_pii: bool = True


class BedrockSettings(SettingsSection):
    """Roles, logging, throughput and its end."""

    enabled: bool = Field(False, description="the Bedrock stack")
    invocation_logging: bool = Field(False, description="the account's invocation log, encrypted")
    log_days: int = Field(90, ge=1, le=3653, description="how long it is kept")
    throughput: tuple[Throughput, ...] = Field(
        (),
        description="provisioned throughput: `{name, model, units, commitment, "
        "acknowledge_commitment, generation}`",
    )
    undeploy: ScheduleExpression = Field(
        "cron(0 19 * * ? *)", description="when all throughput without a commitment is removed"
    )
    undeploy_timezone: str = Field("UTC", description="of that time")
    idle_hours: int = Field(
        6, ge=1, le=168, description="throughput nobody called for so long is removed"
    )
    judges: tuple[ModelId, ...] = Field(
        (),
        description="models or inference profiles that jobs may ask, as judges or teachers; needs "
        "no Bedrock stack",
    )
    guardrail: Guardrail | None = Field(None, description="`{strength, anonymize_pii}`")

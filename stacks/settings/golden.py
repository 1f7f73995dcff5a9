"""Settings of the replay of golden prompts."""

from typing import Annotated, Literal

from pydantic import Field

from stacks.settings.base import SettingsSection, matching


class GoldenSection(SettingsSection):
    """Replay of golden prompts on a schedule, which pages if other answers come."""

    every_hours: int = Field(1, ge=1, le=24, description="hours between two replays")
    tolerance: float = Field(
        0.05, gt=0, description="largest difference of a log-probability that agrees"
    )
    min_percent: int = Field(
        100, ge=1, le=100, description="least share of answers that are as recorded"
    )
    most: int = Field(20, ge=1, le=100, description="most prompts of a replay")


class BedrockGoldenSection(GoldenSection):
    """Replay of the golden prompts of a deployment on Bedrock that people have made."""

    name: Annotated[
        str,
        matching(
            r"(?=.{2,30}$)[a-z](-?[a-z0-9])+",
            "the name of a deployment: 2 to 30 lower-case letters, digits and single hyphens",
        ),
    ]
    to: Literal["bedrock-import", "bedrock-on-demand", "bedrock-throughput"]

"""Settings of pipelines that retrain: what starts them, and how often they may run."""

from typing import Annotated

from pydantic import Field, model_validator

from stacks.settings.base import SettingsSection, matching
from stacks.settings.schedules import schedule_problem
from stacks.settings.serving import DeploymentName

PipelineName = Annotated[
    str,
    matching(
        r"(?=.{1,32}$)[a-z0-9](-?[a-z0-9])*",
        "the name of a pipeline file: at most 32 lower-case letters, digits and single hyphens",
    ),
]
AlarmName = Annotated[str, matching(r"[\w.-][\w. /:()-]{0,254}", "the name of a CloudWatch alarm")]


class RetrainingSettings(SettingsSection):
    """Start of one pipeline, which `temper pipeline render --upsert` creates."""

    name: PipelineName = Field(description="name of the pipeline file")
    schedule: str | None = Field(
        None, description="schedule in UTC, like `cron(0 3 ? * MON *)` or `rate(7 days)`"
    )
    deployments: tuple[DeploymentName, ...] = Field(
        (), description="watched deployments of its model, whose alarms on quality start it"
    )
    alarms: tuple[AlarmName, ...] = Field((), description="names of further alarms that start it")
    feedback_rows: int = Field(
        200, ge=1, description="rows in `feedback.json` from which feedback starts it"
    )
    cooldown_hours: int = Field(
        6, ge=0, le=24 * 31, description="least time between two executions, unless one failed"
    )
    monthly_runs: int = Field(10, ge=1, le=1000, description="most executions in a calendar month")
    usd_per_run: float = Field(
        0.0, ge=0, description="estimated cost of an execution, as `temper plan` shows it"
    )
    monthly_usd: float | None = Field(
        None, gt=0, description="most dollars in a calendar month, by `usd_per_run`"
    )

    @model_validator(mode="after")
    def _check(self) -> "RetrainingSettings":
        if self.schedule is not None and (problem := schedule_problem(self.schedule)):
            raise ValueError(f"schedule: {problem}")
        if self.monthly_usd is not None and not self.usd_per_run:
            raise ValueError("monthly_usd needs usd_per_run, the estimated cost of an execution")
        return self


class PipelinesSettings(SettingsSection):
    """Pipelines that retrain, in SageMaker Pipelines."""

    retraining: tuple[RetrainingSettings, ...] = Field(
        (), description="what starts each pipeline; none: no pipelines"
    )
    promotion: (
        Annotated[str, matching(r"[A-Za-z0-9.@_-]{1,100}", "the name of a CodePipeline")] | None
    ) = Field(None, description="CodePipeline that promotes a model behind the gates; none: people")

    @model_validator(mode="after")
    def _unique(self) -> "PipelinesSettings":
        names = [one.name for one in self.retraining]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"retraining: {', '.join(twice)} is there twice")
        return self

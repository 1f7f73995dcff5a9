"""Function that starts one pipeline, and the rules that call it."""

import json
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.constructs.handler_function import HandlerFunction
from stacks.naming import ResourceNames
from stacks.policies.iam_statements import IamContext
from stacks.policies.pipeline import FOLDER, START_LOG
from stacks.settings.pipelines import RetrainingSettings

_OBJECTS = ("manifest", "feedback", "base-model")
_RETRIES, _MAX_AGE_H = 8, 6
QUALITY_ALARMS = ("drift",)
"""Alarms of a watched deployment that are a reason to train again, by the end of their names."""


class RetrainingTrigger(Construct):
    """Start of a pipeline on new objects, on a schedule and on alarms.

    Attributes:
        handler: The function.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        names: ResourceNames,
        context: IamContext,
        settings: RetrainingSettings,
        role: iam.IRole,
    ) -> None:
        super().__init__(scope, id)
        self._name = settings.name
        self.handler = HandlerFunction(
            self,
            "Start",
            module="retraining.trigger",
            log_name=f"{START_LOG}-{settings.name}",
            context=context,
            role=role,
            variables={"SETTINGS": json.dumps(_variables(names, settings), sort_keys=True)},
        )
        self._on_objects(names.bucket("data"))
        if settings.schedule:
            message = {"reason": "schedule", "time": events.EventField.time}
            self._rule(
                "Schedule",
                "The schedule",
                schedule=events.Schedule.expression(settings.schedule),
                message=events.RuleTargetInput.from_object(message),
            )
        alarms = [
            *(
                f"{names.prefix}-{one}-{end}"
                for one in settings.deployments
                for end in QUALITY_ALARMS
            ),
            *settings.alarms,
        ]
        if alarms:
            self._rule(
                "Alarms",
                "An alarm on drift or quality",
                pattern={
                    "source": ["aws.cloudwatch"],
                    "detail-type": ["CloudWatch Alarm State Change"],
                    "detail": {"alarmName": alarms, "state": {"value": ["ALARM"]}},
                },
            )

    def _on_objects(self, bucket: str) -> None:
        keys = [f"{FOLDER}/{self._name}/{name}.json" for name in _OBJECTS]
        self._rule(
            "Objects",
            "New approved data, feedback or base model",
            pattern={
                "source": ["aws.s3"],
                "detail-type": ["Object Created"],
                "detail": {"bucket": {"name": [bucket]}, "object": {"key": keys}},
            },
        )

    def _rule(
        self,
        id: str,
        what: str,
        *,
        pattern: dict[str, Any] | None = None,
        schedule: events.Schedule | None = None,
        message: events.RuleTargetInput | None = None,
    ) -> None:
        target = self.handler.event_target(
            retries=_RETRIES, max_age=cdk.Duration.hours(_MAX_AGE_H), message=message
        )
        rule = events.Rule(
            self,
            id,
            description=f"{what} starts the pipeline {self._name}",
            schedule=schedule,
            event_pattern=None if pattern is None else events.EventPattern(source=["overridden"]),
            targets=[target],
        )
        if pattern is not None:
            resource = rule.node.default_child
            assert isinstance(resource, events.CfnRule)
            resource.event_pattern = pattern


def _variables(names: ResourceNames, settings: RetrainingSettings) -> dict[str, Any]:
    """Return the settings of the function, as `handlers/retraining/trigger.py` reads them."""
    return {
        "pipeline": f"{names.prefix}-{settings.name}",
        "bucket": names.bucket("data"),
        "manifest": f"{FOLDER}/{settings.name}/manifest.json",
        "cooldown_s": settings.cooldown_hours * 3600,
        "monthly_runs": settings.monthly_runs,
        "monthly_usd": settings.monthly_usd,
        "usd": settings.usd_per_run,
        "feedback_rows": settings.feedback_rows,
    }

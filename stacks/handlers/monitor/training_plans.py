"""Check of the training plans that the instance groups of the environment use."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from .faults import Fault

ENDING = timedelta(hours=24)


def check(sagemaker: Any, *, plans: Sequence[str], now: datetime) -> Iterator[Fault]:
    """Yield the plans that end within a day.

    AWS begins to terminate the instances of a plan 30 minutes before its end.
    docs.aws.amazon.com/sagemaker/latest/dg/training-plan-utilization-for-training-jobs.html

    Args:
        sagemaker: SageMaker client.
        plans: ARNs of the plans.
        now: Current time.
    """
    for arn in plans:
        name = arn.rpartition("/")[2]
        plan = sagemaker.describe_training_plan(TrainingPlanName=name)
        end = plan.get("EndTime")
        if plan["Status"] != "Active" or end is None or end - now > ENDING:
            continue
        hours = max(0.0, (end - now).total_seconds() / 3600)
        yield Fault(name, "training-plan-ending", f"ends at {end:%F %H:%M} UTC, in {hours:.0f} h")

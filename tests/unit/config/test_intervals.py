"""Intervals of logs and evaluations in a job."""

from __future__ import annotations

from typing import Any

import pytest

from training.config.job import Job
from training.config.load import parse_job
from training.config.types import NEVER, Every
from training.errors import JobError
from training.trainer.triggers import IntervalTrigger


def _job(train: dict[str, Any], validation: bool = True, **sections: Any) -> Job:
    data: dict[str, Any] = {"train": "rows.jsonl"}
    if validation:
        data["validation"] = {"split": "5%"}
    document = {
        "name": "intervals",
        "model": {"source": "some/model"},
        "data": data,
        "method": {"kind": "sft"},
        "train": train,
        **sections,
    }
    job = parse_job(document, "job.yaml")
    assert isinstance(job, Job)
    return job


@pytest.mark.parametrize(
    ("log_every", "every"),
    [
        ("50 steps", Every(50, "steps")),
        ("epoch", Every(1, "epochs")),
        ("5min", Every(300, "seconds")),
        ("none", NEVER),
        ("1 step", NEVER),
    ],
)
def test_evaluation_follows_the_logging_interval(log_every: str, every: Every) -> None:
    job = _job({"log_every": log_every})
    assert job.evaluate.every == every
    # The job file that a run folder keeps holds the same interval.
    stored = parse_job(job.model_dump(mode="json", exclude_none=True), "job.yaml")
    assert isinstance(stored, Job)
    assert stored.evaluate.every == every
    assert stored.train.log_every == job.train.log_every


def test_an_interval_of_its_own_is_kept() -> None:
    for written, every in (("none", NEVER), ("8 steps", Every(8, "steps"))):
        assert _job({"log_every": "50 steps"}, evaluate={"every": written}).evaluate.every == every


def test_no_evaluation_without_held_out_rows_or_a_logging_interval() -> None:
    assert _job({"log_every": "50 steps"}, validation=False).evaluate.every == NEVER
    assert _job({}).evaluate.every == NEVER


def test_a_bare_strategy_is_refused_at_every_interval() -> None:
    with pytest.raises(JobError) as error:
        _job(
            {"log_every": "steps", "warmup": "steps"},
            evaluate={"every": "steps"},
            checkpoint={"every": "steps"},
        )
    paths = {problem.path for problem in error.value.problems}
    assert paths == {"train.log_every", "train.warmup", "evaluate.every", "checkpoint.every"}
    assert str(error.value).count("write for instance 50 steps") == 4


def test_switched_off_intervals_never_fire() -> None:
    trigger = IntervalTrigger(NEVER, steps_per_epoch=10)
    assert not any(trigger.due(step) for step in range(100))


def test_early_stopping_needs_evaluations() -> None:
    with pytest.raises(JobError, match=r"evaluate\.every.*early_stopping"):
        _job({"early_stopping": {"patience": 2}}, evaluate={"every": "none"})

"""Predictions for a configuration, by the plan and by other estimators, in bytes per device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from benchmarks.memory.peers import accelerate, deepspeed, rule_of_thumb
from planning.dataset_stats import read_dataset_stats
from planning.hf_config import read_shape
from planning.machine import this_machine
from planning.peak_memory import memory_config_of
from planning.search import choose_parallelism
from planning.trainable_params import count_trainable
from training.config import Job
from training.config.load import parse_job


class PlannedCase(Protocol):
    """Configuration to predict: a job and the number of devices that share it."""

    @property
    def name(self) -> str:
        """The difference from the base job."""

    @property
    def processes(self) -> int:
        """Number of training processes."""

    @property
    def max_length(self) -> int | None:
        """Tokens of the longest row; None if the data determines it."""

    def job(self, fixtures: Path) -> dict[str, Any]:
        """Return the job, whose model and rows are in the folder `fixtures`."""


def predict_memory(case: PlannedCase, fixtures: Path) -> dict[str, int | None]:
    """Return the peak bytes of tensors by the plan, and the estimates of the others."""
    job = parse_job(case.job(fixtures), case.name)
    assert isinstance(job, Job)
    shape = read_shape(job)
    machine = replace(this_machine(None), processes=case.processes)
    longest = case.max_length or read_dataset_stats(job, shape).longest
    choice, parts = choose_parallelism(job, shape, machine, longest, as_written=True)
    config = memory_config_of(job, shape, machine, choice, longest)
    tensors = sum(gib for part, gib in parts.items() if part not in ("runtime", "fragmentation"))
    return {
        "plan": round(tensors * 2**30),
        "deepspeed": deepspeed(config),
        "accelerate": accelerate(config),
        "rule": rule_of_thumb(config, count_trainable(job, shape)),
    }

"""What the plan and its peers say of a configuration, in bytes of tensors on one device."""

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


class Planned(Protocol):
    """A configuration: a job, and how many devices share it."""

    @property
    def name(self) -> str:
        """What is special about it."""

    @property
    def processes(self) -> int:
        """How many share the work."""

    @property
    def longest(self) -> int | None:
        """Tokens of its longest row, where its data does not say."""

    def job(self, material: Path) -> dict[str, Any]:
        """The job file, its models and rows in `material`."""


def foretell(what: Planned, material: Path) -> dict[str, int | None]:
    """The plan's bytes of tensors at the fullest instant, and what others estimate."""
    job = parse_job(what.job(material), what.name)
    assert isinstance(job, Job)
    shape = read_shape(job)
    machine = replace(this_machine(None), processes=what.processes)
    longest = what.longest or read_dataset_stats(job, shape).longest
    choice, parts = choose_parallelism(job, shape, machine, longest, as_written=True)
    config = memory_config_of(job, shape, machine, choice, longest)
    tensors = sum(gib for part, gib in parts.items() if part not in ("runtime", "fragmentation"))
    return {
        "plan": round(tensors * 2**30),
        "deepspeed": deepspeed(config),
        "accelerate": accelerate(config),
        "rule": rule_of_thumb(config, count_trainable(job, shape)),
    }

"""A plan, as programs and people read it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from training.config import Job, Pipeline

AnyJob = TypeVar("AnyJob", Job, Pipeline)


class Range(NamedTuple):
    """A figure that can only be given as a range."""

    low: float
    high: float


@dataclass(frozen=True)
class Plan:
    """What a job needs and costs.

    Attributes:
        name: The job's.
        fits: Whether it can run as it stands, within its own limits.
        memory_gib: Peak per device, by part; `total` is their sum and `device` what there is.
        micro_batch_size: Rows per device at once.
        gradient_accumulation_steps: Micro-batches per optimizer step.
        disk_gib: By part, with `total`.
        hours: Wall time.
        cost_usd: For the instances asked for; (0, 0) on this machine.
        refused: Why it cannot run, and what would fit; empty when it fits.
        choices: Keys that the job left open, and what the plan puts there.
        machine: What it was planned for, in words.
        steps: Optimizer steps.
        tokens: Computed, padding included.
        parameters: Of the model.
        learned: Of those (or of the adapter), trained.
        adapter: Its kind, where one is trained in place of the weights.
        costs_usd: The same for each way to pay, `on_demand` and `spot`.
        price: Who says what an hour costs, where and when.
        arithmetic: How the disk was reckoned.
        notes: Assumptions a reader should know of.
        stages: The plans of a pipeline's stages.
    """

    name: str
    fits: bool
    memory_gib: dict[str, float]
    micro_batch_size: int
    gradient_accumulation_steps: int
    disk_gib: dict[str, float]
    hours: Range
    cost_usd: Range
    refused: tuple[str, ...] = ()
    choices: dict[str, Any] = field(default_factory=dict)
    machine: str = ""
    steps: int = 0
    tokens: float = 0.0
    parameters: int = 0
    learned: int = 0
    adapter: str = ""
    costs_usd: dict[str, Range] = field(default_factory=dict)
    price: str = ""
    arithmetic: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    stages: tuple[Plan, ...] = ()

    def document(self) -> dict[str, Any]:
        """The plan as `plan.json` has it."""
        document: dict[str, Any] = {
            "name": self.name,
            "fits": self.fits,
            "machine": self.machine,
            "memory_gib": {name: round(gib, 3) for name, gib in self.memory_gib.items()},
            "micro_batch_size": self.micro_batch_size,
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
            "disk_gib": {name: round(gib, 3) for name, gib in self.disk_gib.items()},
            "hours": {"low": round(self.hours.low, 4), "high": round(self.hours.high, 4)},
            "cost_usd": {"low": round(self.cost_usd.low, 2), "high": round(self.cost_usd.high, 2)},
            "refused": list(self.refused),
            "steps": self.steps,
            "tokens": round(self.tokens),
            "parameters": self.parameters,
            "learned": self.learned,
            "adapter": self.adapter,
            "costs_usd": {
                way: {"low": round(usd.low, 2), "high": round(usd.high, 2)}
                for way, usd in self.costs_usd.items()
            },
            "price": self.price,
            "arithmetic": list(self.arithmetic),
            "choices": self.choices,
            "notes": list(self.notes),
        }
        if self.stages:
            document["stages"] = [stage.document() for stage in self.stages]
        return document

    def write(self, path: Path) -> None:
        """Write `plan.json`."""
        path.write_text(json.dumps(self.document(), indent=1) + "\n", encoding="utf-8")

    def apply(self, job: AnyJob) -> AnyJob:
        """The job with the plan's choices in the places it had left open."""
        if isinstance(job, Pipeline):
            stages = [plan.apply(s) for plan, s in zip(self.stages, job.stages, strict=True)]
            return job.model_copy(update={"stages": tuple(stages)})
        sections: dict[str, dict[str, Any]] = {}
        for key, value in self.choices.items():
            section, _, name = key.partition(".")
            sections.setdefault(section, {})[name] = value
        update = {
            section: getattr(job, section).model_copy(update=values)
            for section, values in sections.items()
        }
        return job.model_copy(update=update)

"""Plan of a job, and its JSON document."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from planning.managed_quote import ManagedQuote
from planning.ranges import Range as Range
from training.config import Job, Pipeline

AnyJob = TypeVar("AnyJob", Job, Pipeline)


@dataclass(frozen=True)
class Plan:
    """Predicted memory, duration, disk and cost of a job.

    Attributes:
        name: Name of the job.
        fits: True if it can run unchanged and within its own limits.
        memory_gib: Peak per device by category, their sum `total`, and the capacity `device`.
        micro_batch_size: Rows per device in a micro-batch.
        gradient_accumulation_steps: Micro-batches per optimizer step.
        disk_gib: Disk space by part, and `total`.
        hours: Wall time.
        cost_usd: Cost of the job's instances; (0, 0) on this machine.
        refused: Reasons why it cannot run, with alternatives; empty if it fits.
        choices: Values of the keys that the job leaves open.
        machine: Description of the machine.
        steps: Optimizer steps.
        tokens: Tokens computed, padding included.
        parameters: Parameters of the model.
        active: Parameters that one token is multiplied with: fewer in a mixture of experts.
        learned: Trained parameters, of the model or of the adapter.
        suite: Work of `evaluate.suite`: items, models, tokens, seconds; empty without one.
        adapter: Kind of the adapter, if one is trained in place of the weights.
        costs_usd: Cost for each purchase option, `on_demand` and `spot`.
        price: Source, region and date of the price.
        arithmetic: Calculation of the disk space.
        notes: Assumptions of the plan.
        stages: Plans of the stages of a pipeline.
        managed: Quotes of the providers of managed customization that have the model.
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
    active: int = 0
    learned: int = 0
    suite: dict[str, Any] = field(default_factory=dict)
    adapter: str = ""
    costs_usd: dict[str, Range] = field(default_factory=dict)
    price: str = ""
    arithmetic: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    stages: tuple[Plan, ...] = ()
    managed: tuple[ManagedQuote, ...] = ()

    def document(self) -> dict[str, Any]:
        """Return the plan as the content of `plan.json`."""
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
            "active": self.active,
            "learned": self.learned,
            "suite": self.suite,
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
        if self.managed:
            document["managed"] = [quote.document() for quote in self.managed]
        if self.stages:
            document["stages"] = [stage.document() for stage in self.stages]
        return document

    def write(self, path: Path) -> None:
        """Write `plan.json`."""
        path.write_text(json.dumps(self.document(), indent=1) + "\n", encoding="utf-8")

    def apply(self, job: AnyJob) -> AnyJob:
        """Return the job with the plan's choices for the keys that it leaves open."""
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

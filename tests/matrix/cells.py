"""Combinations with an adapter: every kind, precision, sharding strategy and kind of base."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from training.config.adapter_base import AdapterSection
from training.config.job import Adapter

KINDS: dict[str, dict[str, Any]] = {
    "lora": {"kind": "lora", "r": 4},
    "lora, use_rslora": {"kind": "lora", "r": 4, "use_rslora": True},
    "lora, use_dora": {"kind": "lora", "r": 4, "use_dora": True},
    "lora, init: pissa": {"kind": "lora", "r": 2, "init": "pissa"},
    "lora, modules_to_save": {
        "kind": "lora",
        "r": 4,
        "target_modules": ["q_proj", "v_proj"],
        "modules_to_save": ["lm_head"],
    },
    "adalora": {
        "kind": "adalora",
        "r": 3,
        "init_r": 4,
        "delta_t": 1,
        "tinit": "20%",
        "tfinal": "20%",
    },
    "ia3": {"kind": "ia3"},
    "prompt_tuning": {"kind": "prompt_tuning", "num_virtual_tokens": 5},
    "p_tuning": {"kind": "p_tuning", "num_virtual_tokens": 5},
    "prefix_tuning": {"kind": "prefix_tuning", "num_virtual_tokens": 5},
    "prefix_tuning, projection": {
        "kind": "prefix_tuning",
        "num_virtual_tokens": 5,
        "projection": True,
    },
    "bottleneck, sequential": {"kind": "bottleneck", "size": 8},
    "bottleneck, parallel": {"kind": "bottleneck", "size": 8, "placement": "parallel"},
    "compose, parallel": {"kind": "compose", "method": {"kind": "parallel"}},
    "compose, gate": {"kind": "compose", "method": {"kind": "gate"}},
    "compose, stack": {"kind": "compose", "method": {"kind": "stack"}},
    "compose, fusion": {"kind": "compose", "method": {"kind": "fusion"}},
}
"""By the name on the page: what stands in a job's `adapter`."""
FAMILIES = {
    "lora": ("lora",),
    "soft": ("prompt_tuning", "p_tuning", "prefix_tuning"),
    "layers": ("adalora", "ia3", "bottleneck"),
    "compose": ("compose",),
}
"""Prefixes of the kinds that one pair of processes tests."""
RATES = {"prefix_tuning": 2e-1, "prefix_tuning, projection": 5e-2, "ia3": 5e-2}
"""Learning rates; attention of random weights hardly looks at a prefix."""
PRECISIONS = ("fp32", "bf16")
CHECKPOINTING = (False, True)
ZERO = (0, 2, 3)
FOUR_BIT = (False, True)
_FAILED_ONCE = (
    "lora, modules_to_save | fp32 kept zero2 4bit",
    "lora, modules_to_save | bf16 kept zero2 whole",
    "lora, modules_to_save | bf16 kept zero3 whole",
)
"""Cells that once failed: modules trained in full had another precision than their inputs."""
_MEMBERS = {"first": "first", "second": "second"}
STEPS, CUT = 5, 4
"""Every tensor must have moved by the fourth step, and the run goes on from there."""


@dataclass(frozen=True)
class Cell:
    """One combination, on two processes."""

    kind: str
    precision: str
    checkpointing: bool
    zero: int
    four_bit: bool

    @property
    def name(self) -> str:
        """Name in the results."""
        rest = f"{self.precision} {'again' if self.checkpointing else 'kept'} zero{self.zero}"
        return f"{self.kind} | {rest} {'4bit' if self.four_bit else 'whole'}"

    @property
    def merges(self) -> bool:
        """Return True if the adapter has a merged form."""
        section: AdapterSection = TypeAdapter(Adapter).validate_python(self.adapter(_MEMBERS))
        return section.mergeable

    def adapter(self, members: dict[str, str]) -> dict[str, Any]:
        """Return the job's section.

        Args:
            members: Folders of adapters to compose.
        """
        adapter = dict(KINDS[self.kind])
        if adapter["kind"] == "compose":
            adapter["adapters"] = members
        if self.four_bit and adapter["kind"] == "lora":
            return adapter | {"kind": "qlora"}
        return adapter | ({"base_4bit": True} if self.four_bit else {})

    def job(self, model: Path, rows: Path, members: dict[str, str]) -> dict[str, Any]:
        """Return a job of a few steps."""
        return {
            "name": "cell",
            "model": {"source": str(model)},
            "data": {
                "train": str(rows), "max_length": 64, "workers": 1, "validation": {"split": "20%"},
            },
            "method": {"kind": "sft"},
            "adapter": self.adapter(members),
            "train": {
                "max_steps": STEPS, "global_batch_size": 8, "micro_batch_size": 2, "warmup": "0%",
                "learning_rate": RATES.get(self.kind, 2e-2), "lr_scheduler": "constant",
                "gradient_checkpointing": self.checkpointing,
            },
            "precision": self.precision,
            "sharding": {"zero": self.zero},
            "checkpoint": {"every": f"{CUT} steps"},
            "guards": {"update_check_after": "4 steps"},
            "resources": {"processes": 2},
            "tracking": {"mlflow": False},
        }  # fmt: skip


def all_cells() -> list[Cell]:
    """Return every cell, those of one kind together."""
    choices = itertools.product(KINDS, PRECISIONS, CHECKPOINTING, ZERO, FOUR_BIT)
    return [Cell(*choice) for choice in choices]


def cells_of(family: str) -> list[Cell]:
    """Return every cell of a family."""
    return [cell for cell in all_cells() if cell.kind.startswith(FAMILIES[family])]


def covering() -> list[Cell]:
    """Return few cells in which every two settings of different columns meet at least once."""
    chosen = named(_FAILED_ONCE)
    left = {pair for cell in all_cells() for pair in _pairs(cell)}
    left.difference_update(*map(_pairs, chosen))
    while left:
        best = max(all_cells(), key=lambda cell: len(left.intersection(_pairs(cell))))
        left.difference_update(_pairs(best))
        chosen.append(best)
    return chosen


def _pairs(cell: Cell) -> Iterator[tuple[tuple[str, object], ...]]:
    # A cell that is refused proves nothing of its other settings.
    refused = (
        (cell.zero == 3 and (cell.four_bit or cell.kind.startswith("compose")))
        or (cell.zero and cell.kind == "adalora")
        or (cell.four_bit and cell.kind == "lora, init: pissa")
    )
    settings = [(key, getattr(cell, key)) for key in Cell.__dataclass_fields__]
    if refused:
        settings = [(key, value) for key, value in settings if key in ("kind", "zero", "four_bit")]
    return itertools.combinations(settings, 2)


def named(names: Sequence[str]) -> list[Cell]:
    """Return the cells of these names."""
    by_name = {cell.name: cell for cell in all_cells()}
    return [by_name[name] for name in names]

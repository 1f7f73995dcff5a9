"""Resources of a run that a reward may use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from training.run_folder import RunFolder
from training.trainer.context import TrainerContext


@dataclass(frozen=True)
class RewardContext:
    """Resources of the run that a reward may use.

    Attributes:
        device: Device of a reward model.
        folder: Run folder, for files that persist between steps.
        cache: Folder of judges' replies that runs share; the run folder is used if it is None.
        max_cost_usd: Limit for the cost of a judge's calls in this run; None for no limit.
        policy: Model in training, if a reward model may use its backbone.
    """

    device: torch.device
    folder: Path
    cache: Path | None = None
    max_cost_usd: float | None = None
    policy: Any = None

    @classmethod
    def from_trainer_context(cls, setup: TrainerContext, policy: Any = None) -> RewardContext:
        """Return the resources of a training run."""
        cost, cache = setup.job.resources.max_cost, RunFolder(setup.folder).cache
        return cls(setup.world.device, setup.folder, cache, cost, policy)

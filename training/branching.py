"""Runs that continue another run's checkpoint with other hyperparameters of the optimizer.

Population-based training (Jaderberg et al. 2017, arXiv:1711.09846) stops runs at the same step and
lets the worse ones continue from copies of the better ones.
"""

from __future__ import annotations

import os
from pathlib import Path

BRANCH_FILE = "branch.json"
"""File in a run folder whose first checkpoint is another run's."""
STOP_STEP_VARIABLE = "TEMPER_STOP_STEP"
"""Environment variable with the step after which a run is evaluated, saved and stopped."""


def read_stop_step() -> int | None:
    """Return the step after which this run stops; None for its last one."""
    step = os.environ.get(STOP_STEP_VARIABLE, "")
    return int(step) if step else None


def is_branch(folder: Path) -> bool:
    """Return whether a run continues another run's checkpoint."""
    return (folder / BRANCH_FILE).exists()

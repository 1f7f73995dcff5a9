"""Training arguments common to all plain TRL scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def trl_arguments(out: Path, number: int, rate: float) -> dict[str, Any]:
    """Return arguments for training on a CPU in fp32 with a log line per step and no checkpoints.

    Args:
        out: The file of steps; TRL's output folder is next to it.
        number: Optimizer steps.
        rate: The learning rate.
    """
    return {
        "output_dir": str(out.with_suffix(".trl")),
        "max_steps": number,
        "learning_rate": rate,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
    }

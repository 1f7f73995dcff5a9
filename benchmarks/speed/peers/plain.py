"""What every plain TRL script is told: how long, how fast, one line a step, nothing kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def plain(out: Path, number: int, rate: float) -> dict[str, Any]:
    """Return the training arguments of a script on a CPU in fp32.

    Args:
        out: Where the script notes its steps; TRL's own folder lies beside it.
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

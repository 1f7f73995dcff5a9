"""Forgetting: the relative increase of the loss on general text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.config import Job
from training.console import say
from training.errors import GuardError
from training.trainer.distributed import ControlPlane


@dataclass(frozen=True)
class Forgetting:
    """Loss on general text before and after training, in nats per token."""

    before: float
    after: float

    @property
    def increase(self) -> float:
        """Relative increase of the loss; negative if it fell."""
        return self.after / self.before - 1

    def __str__(self) -> str:
        return (
            f"forgetting: {self.increase:+.2%} (loss on general text {self.before:.4f} → "
            f"{self.after:.4f})"
        )


def read_forgetting(evaluation: dict[str, Any]) -> Forgetting | None:
    """Return the forgetting in a run's `evaluation.json`; None if it was not measured."""
    before, after = (evaluation.get(when, {}).get("forgetting") for when in ("before", "after"))
    if before is None or after is None:
        return None
    return Forgetting(before["loss"], after["loss"])


def check_forgetting(job: Job, folder: Path, control: ControlPlane) -> None:
    """Print the forgetting, and fail the run if it exceeds `evaluate.max_forgetting`.

    Args:
        job: The job.
        folder: The run folder, with the trained model.
        control: Every process must call this, so that all of them fail together.

    Raises:
        GuardError: The forgetting exceeds `evaluate.max_forgetting`.
    """
    forgetting = None
    if control.world.is_main_process:
        forgetting = read_forgetting(json.loads((folder / "evaluation.json").read_text()))
    forgetting = control.broadcast(forgetting)
    if forgetting is None:
        return
    if control.world.is_main_process:
        say(str(forgetting))
    allowed = job.evaluate.max_forgetting
    if allowed is not None and forgetting.increase > allowed:
        raise GuardError(
            f"{forgetting}; evaluate.max_forgetting allows {allowed:+.2%}. The model is kept in "
            f"{folder / 'model'}. Mix in data.replay, set train.kl_to_base or train.l2_sp, train "
            f"an adapter, or lower train.learning_rate"
        )
